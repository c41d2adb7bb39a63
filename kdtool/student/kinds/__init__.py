"""Kinds of students: one file per kind, one registry line each.  In: a kind's name.  Out: its class.

The trainer, exact resume, averaging, schedules and records are shared; they know a kind by ``StudentKind`` alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from kdtool.core.errors import UsageError

if TYPE_CHECKING:
    from kdtool.student.kinds.base import StudentKind

# Named, not imported: checking a config must not load torch.
KINDS = {
    "hybrid": "kdtool.student.kinds.hybrid:Hybrid",
}


def check_kind(name: str) -> str:
    """``name`` when there is such a kind, else UsageError."""
    if name not in KINDS:
        raise UsageError(f"kind {name}: known are {', '.join(sorted(KINDS))}")
    return name


def student_kind(name: str) -> type[StudentKind]:
    """The class of a kind; UsageError when there is none of that name."""
    module, attribute = KINDS[check_kind(name)].split(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
