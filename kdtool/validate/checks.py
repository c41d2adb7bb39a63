"""Checks that validators share.  In: a report and what was read.  Out: findings in the report."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.findings import UNREADABLE, Class, Report
from kdtool.core.tables import read_jsonl, read_lines
from kdtool.formats.rows import Fields, row_faults

SHOWN = 1000  # items of one class, where there may be millions
BROKEN = "broken-manifest"
BROKEN_CLASS = Class("a manifest that is missing, unreadable, or has a line without the fields it needs", "make or fetch the folder again")


@contextmanager
def reading(report: Report, path: Path, name: str = UNREADABLE, item: str = "") -> Iterator[None]:
    """Report a KdError as a finding of class `name` about `path`, and skip the rest of the block."""
    try:
        yield
    except KdError as e:
        report.add(name, item or path.name, path, str(e))


def sound_rows(path: Path, fields: Fields, report: Report) -> list[dict[str, Any]]:
    """The rows of JSON lines that have all `fields` (name -> allowed types); the first unreadable line ends the reading."""
    rows: list[dict[str, Any]] = []
    with reading(report, path, BROKEN):
        for number, row in enumerate(read_jsonl(path), 1):
            if is_sound(row, fields, f"line {number}", path, report):
                rows.append(row)
    return rows


def is_sound(row: Any, fields: Fields, item: str, path: Path, report: Report) -> bool:
    """Whether a row has all fields; its faults are reported."""
    fault = "; ".join(row_faults(row, fields))
    if fault:
        report.add(BROKEN, item, path, fault)
    return not fault


def check_repeated(report: Report, ids: Iterable[str], path: Path) -> None:
    """Report ids that occur more than once."""
    for name, count in Counter(ids).items():
        if count > 1:
            report.add("duplicate-id", name, path, f"{count} times", "once")


def check_same(report: Report, name: str, path: Path, found: Any, expected: str) -> None:
    """Report a digest that is not the expected one."""
    if found != expected:
        report.add(name, path.name, path, str(found)[:16], expected[:16])


def dropped_ids(folder: Path) -> set[str]:
    """The ids in a folder's dropped.tsv."""
    path = folder / "dropped.tsv"
    return {line.split("\t")[0] for line in read_lines(path)} if path.is_file() else set()
