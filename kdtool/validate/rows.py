"""Rows of JSON lines for a report.  In: a file.  Out: its valid rows; the others go to the report as class 'broken-manifest'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.findings import Class, Report
from kdtool.core.tables import read_jsonl
from kdtool.formats.rows import Fields, row_faults

BROKEN = "broken-manifest"
BROKEN_CLASS = Class("a manifest that is missing, unreadable, or has a line without the fields it needs", "make or fetch the folder again")


def sound_rows(path: Path, fields: Fields, report: Report) -> list[dict[str, Any]]:
    """The rows that have all `fields` (name -> allowed types); the first unreadable line ends the reading."""
    rows: list[dict[str, Any]] = []
    try:
        for number, row in enumerate(read_jsonl(path), 1):
            if fault := "; ".join(row_faults(row, fields)):
                report.add(BROKEN, f"line {number}", path, fault)
            else:
                rows.append(row)
    except KdError as e:
        report.add(BROKEN, path.name, path, str(e))
    return rows
