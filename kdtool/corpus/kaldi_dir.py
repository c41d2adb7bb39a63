"""A Kaldi data folder.  In: wav.scp, text, utt2spk, and if present segments, spk2utt, reco2dur, utt2dur.  Out: its utterances, notes.

The utterances are the union of all tables. One that is missing from a table is a fault with a reason; none is dropped
silently. spk2utt and the durations are redundant: they are checked against the other files. Kaldi's scripts ignore some faults of
a table silently (which of two lines with one id wins depends on the tool); here they are errors that name file and line. Harmless
faults are accepted with a note: CRLF line ends, unsorted lines.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.encoding import mostly_utf8_lines, utf8_lines
from kdtool.core.errors import KdError
from kdtool.core.names import is_utf8, printable
from kdtool.core.walk import file_fault
from kdtool.formats.rows import id_fault

NEEDED = ("wav.scp", "text", "utt2spk")
FOREIGN = ("wav.scp", "text")  # a value that is not UTF-8 is its utterance's fault
OPTIONAL = ("segments", "spk2utt", "reco2dur", "utt2dur")
SPEAKER_OF_ITS_OWN = "where speakers are not known, make each utterance its own: awk '{print $1, $1}' text > utt2spk"
BLANKS = " \t\r\f\v"
Fault = tuple[str, str]


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

    def seconds(self, name: str) -> float | None:
        """The time of an id, None if it has none; KdError when it is no finite number."""
        return seconds(self.rows[name].value, self.where(name)) if name in self.rows else None


def read_table(path: Path, *, empty: bool = False, foreign: bool = False) -> Table:
    """Read a table. Raises KdError: it is missing, empty or not UTF-8, or has a line without a value, a repeated id or an unusable id.

    empty: an id may have no value (an empty transcript is the utterance's fault, not the file's).
    foreign: some values may have bytes that are not UTF-8, kept as lone surrogates (the same: a file name, a transcript).
    """
    table = Table(path)
    lines = list(_lines(path, foreign))
    for number, line in lines:
        name, value = _fields(line)
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


def _fields(line: str) -> tuple[str, str]:
    """(id, value); only ASCII white space separates."""
    name, value = re.fullmatch(r"([^ \t]*)[ \t]*(.*)", line.strip(BLANKS), re.DOTALL).groups()  # type: ignore[union-attr]
    return name, value


def _lines(path: Path, foreign: bool) -> Iterator[tuple[int, str]]:
    """(line number, line without its newline) of the lines that are not blank."""
    if os.path.lexists(path) and (fault := file_fault(path)):
        raise KdError(f"{path}: {fault}")
    try:
        lines = utf8_lines(path)
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; a Kaldi data folder holds wav.scp, text and utt2spk") from e
    except KdError:
        lines = mostly_utf8_lines(path) if foreign else []
        if not lines or not all(is_utf8(_fields(line)[0]) for line in lines):  # or an id is in another encoding
            raise
    yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip(BLANKS))


def seconds(text: str, where: str) -> float:
    """A time in seconds; KdError when the text is no finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise KdError(f"{where}: {text!r} is no time in seconds; fix the line")
    return value


@dataclass(frozen=True)
class Span:
    """One utterance in the tables: a part of a recording, `end` None for its end, channel None for its only one."""

    id: str
    speaker: str
    text: str
    recording: str
    start: float
    end: float | None
    channel: int | None
    where: str


@dataclass
class KaldiDir:
    """The tables by name."""

    folder: Path
    tables: dict[str, Table]
    notes: list[str] = field(default_factory=list)

    def duration(self, name: str, key: str) -> float | None:
        """The duration of an id in reco2dur or utt2dur, None if it has none."""
        return self.tables[name].seconds(key) if name in self.tables else None


def read_dir(folder: Path) -> KaldiDir:
    """Read all tables. Raises KdError: the folder or a table is missing or malformed (see read_table), or spk2utt contradicts utt2spk."""
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; give a Kaldi data folder, which holds {', '.join(NEEDED)}")
    if not (folder / "utt2spk").exists() and (folder / "text").exists():
        raise KdError(f"{folder / 'utt2spk'}: no such file; {SPEAKER_OF_ITS_OWN}")
    names = [*NEEDED, *(n for n in OPTIONAL if (folder / n).exists())]
    tables = {name: read_table(folder / name, empty=name == "text", foreign=name in FOREIGN) for name in names}
    if "spk2utt" in tables:
        _check_speakers(tables["spk2utt"], tables["utt2spk"])
    return KaldiDir(folder, tables, [note for table in tables.values() for note in table.notes])


def _check_speakers(spk2utt: Table, utt2spk: Table) -> None:
    """KdError unless both tables pair the same utterances and speakers."""
    pairs: dict[str, str] = {}
    for speaker, row in spk2utt.rows.items():
        for utt in row.value.split():
            if utt in pairs:
                raise KdError(f"{spk2utt.where(speaker)}: utterance {utt} has speaker {pairs[utt]} as well; it can have one")
            pairs[utt] = speaker
    for utt in sorted({*pairs, *utt2spk.rows}):
        one, other = pairs.get(utt), utt2spk.rows[utt].value if utt in utt2spk.rows else None
        if one != other:
            raise KdError(f"{utt2spk.where(utt) if other else spk2utt.path}: utterance {utt} has speaker {other or 'none'} in utt2spk and "
                          f"{one or 'none'} in spk2utt; spk2utt follows from utt2spk: remove it, or fix the one that is wrong")  # fmt: skip


def spans(kaldi: KaldiDir) -> tuple[list[Span], list[Fault]]:
    """All utterances sorted by id, and (id, reason) of those missing from a table."""
    tables = kaldi.tables
    parts = {utt: _segment(tables["segments"], utt) for utt in tables["segments"].rows} if "segments" in tables else None
    origin = "wav.scp" if parts is None else "segments"
    needed = ("text", "utt2spk", origin)
    utterances, faults = [], []
    for utt in sorted({utt for name in needed for utt in tables[name].rows}):
        lacking = [name for name in needed if utt not in tables[name].rows]
        if lacking:
            where = next(tables[name].where(utt) for name in needed if name not in lacking)
            faults.append((utt, f"{where} has it, {' and '.join(lacking)} not; add a line there, or remove it here"))
            continue
        text = tables["text"].rows[utt].value
        if not is_utf8(text):
            shown = printable(text)[:60]
            faults.append((utt, f"{tables['text'].where(utt)}: '{shown}' is not UTF-8, as the other lines are; write it in UTF-8"))
            continue
        recording, start, end, channel = parts[utt] if parts else (utt, 0.0, None, None)
        where = tables[origin].where(utt)
        if recording not in tables["wav.scp"].rows:
            faults.append((utt, f"{where}: its recording {recording} is not in wav.scp; add it there, or remove the line"))
            continue
        speaker = tables["utt2spk"].rows[utt].value
        if fault := id_fault(speaker):
            raise KdError(f"{tables['utt2spk'].where(utt)}: the speaker id {fault}; rename it")
        utterances.append(Span(utt, speaker, text, recording, start, end, channel, where))
    return utterances, faults


def _segment(table: Table, utt: str) -> tuple[str, float, float | None, int | None]:
    """(recording, start, end, channel) of 'utterance recording start end [channel]'; None for the end -1 and for no channel."""
    where, fields = table.where(utt), table.rows[utt].value.split()
    if len(fields) not in (3, 4) or (len(fields) == 4 and not fields[3].isdigit()):
        raise KdError(f"{where}: {' '.join([utt, *fields])!r} is not 'utterance recording start end [channel]'; fix the line")
    start, end = (seconds(f, where) for f in fields[1:3])
    return fields[0], start, None if end == -1 else end, int(fields[3]) if len(fields) == 4 else None
