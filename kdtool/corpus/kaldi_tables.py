"""Kaldi's tables.  In: a file of 'id value' lines.  Out: its rows with line numbers, and notes on tolerated faults.

Kaldi's scripts ignore some faults silently (which of two lines with one id wins depends on the tool); here they are
errors that name file and line. Harmless faults are accepted with a note: CRLF line ends, unsorted lines.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.encoding import utf8_lines
from kdtool.core.errors import KdError
from kdtool.core.names import is_utf8
from kdtool.core.walk import file_fault
from kdtool.corpus.ids import id_fault

BLANKS = " \t\r\f\v"


@dataclass(frozen=True)
class Row:
    """A line's value and its line number."""

    value: str
    line: int


@dataclass
class Table:
    """A table's rows by id, in the file's order."""

    path: Path
    rows: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def where(self, name: str) -> str:
        """File and line of an id, for messages."""
        return f"{self.path}, line {self.rows[name].line}"


def read_table(path: Path, *, empty: bool = False, foreign: bool = False) -> Table:
    """Read a table.

    Args:
        empty: an id may have no value (an empty transcript is the utterance's fault, not the file's).
        foreign: some values may have bytes that are not UTF-8, kept as lone surrogates (the same: a file name, a transcript).

    Raises:
        KdError: the file is missing or empty, not UTF-8, or has a line without a value, a repeated id or an unusable id.
    """
    table = Table(path)
    lines = list(_lines(path, foreign))
    for number, line in lines:
        name, _, value = _fields(line)
        where = f"{path}, line {number}"
        if fault := id_fault(name):
            raise KdError(f"{where}: the id {fault}; rename it in all files of {path.parent}")
        if name in table.rows:
            raise KdError(f"{where}: {name} stands in line {table.rows[name].line} already; remove one of the two lines")
        if not value and not empty:
            raise KdError(f"{where}: {name} has no value; complete or remove the line")
        table.rows[name] = Row(value, number)
    if not table.rows:
        raise KdError(f"{path}: no lines in it; make the Kaldi folder again")
    if returns := sum(line.endswith("\r") for _, line in lines):
        table.notes.append(f"{path}: {returns} of {len(lines)} lines end in CRLF; read as if they did not")
    if list(table.rows) != sorted(table.rows):
        table.notes.append(f"{path}: not sorted as 'LC_ALL=C sort' has it, so Kaldi's own tools would refuse it; read all the same")
    return table


def _fields(line: str) -> tuple[str, str, str]:
    """(id, blanks, value); only ASCII white space separates."""
    match = re.match(r"([^ \t]*)([ \t]*)(.*)", line.strip(BLANKS), re.DOTALL)
    assert match is not None
    return match[1], match[2], match[3]


def _lines(path: Path, foreign: bool) -> Iterator[tuple[int, str]]:
    """(line number, line without its newline) of the lines that are not blank."""
    if os.path.lexists(path) and (fault := file_fault(path)):
        raise KdError(f"{path}: {fault}")
    try:
        lines = utf8_lines(path)
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; a Kaldi data folder holds wav.scp, text and utt2spk") from e
    except KdError:
        lines = _foreign_lines(path) if foreign else []
        if not lines:
            raise
    for number, line in enumerate(lines, 1):
        if line.strip(BLANKS):
            yield number, line


def _foreign_lines(path: Path) -> list[str]:
    """The lines, bytes that are not UTF-8 as lone surrogates; none where an id or most lines have such: all is in another encoding."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    lines = [line.lstrip("\ufeff") for line in text.split("\n")]
    bad = [line for line in lines if not is_utf8(line)]
    if "\0" in text or 2 * len(bad) > sum(map(bool, lines)) or not all(is_utf8(_fields(line)[0]) for line in bad):
        return []
    return lines


def seconds(text: str, where: str) -> float:
    """A time in seconds; KdError when the text is no finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise KdError(f"{where}: {text!r} is no time in seconds; fix the line")
    return value
