"""Kinds of folders that can be checked.  A new kind is a module with CLASSES, OTHERS and check(), and a line here."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.findings import UNREADABLE, Level, Report

# Modules of kdtool.validate, imported when they are needed: `--help` and the start of a step must not load all of them.
KINDS = ("data", "features", "lang", "ali", "model", "graph", "dump")


def others_of(kind: str) -> dict[str, str]:
    """Other folders that this kind can be compared with: option name -> what it is."""
    return dict(_module(kind).OTHERS)


def validate(kind: str, folder: Path, level: Level, others: Mapping[str, Path] | None = None) -> Report:
    """Check a folder and return the report; nothing is written. KdError if there is no such folder."""
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; check the path, or run the stage that makes it first (--list-stages shows them)")
    module = _module(kind)
    report = Report(folder, module.CLASSES)
    try:
        module.check(report, folder, level, others or {})
    except KdError as e:
        if UNREADABLE not in module.CLASSES:
            raise
        report.add(UNREADABLE, folder.name, folder, str(e))
    return report


def door(kind: str, folder: Path, **others: Path) -> Callable[[], None]:
    """A check of one of a step's inputs, called before the step works: cheap checks only; KdError lists the classes of problems."""

    def enter() -> None:
        report = validate(kind, folder, Level.DOOR, others)
        if report.problems:
            more = "".join(f" --{name} {path}" for name, path in others.items())
            lines = "\n".join(f"  {report.line(name)}" for name in report.problems)
            raise KdError(f"{folder} is not fit to work with:\n{lines}\n"
                          f"all items: utils/validate_{kind}.sh --items FILE.tsv{more} {folder}")  # fmt: skip

    return enter


def _module(kind: str) -> Any:
    return importlib.import_module(f"kdtool.validate.{kind}")
