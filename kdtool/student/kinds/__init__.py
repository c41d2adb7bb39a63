"""Kinds of students: one file per kind, one registry line each.  In: a kind's name.  Out: its class.

The trainer, exact resume, averaging, schedules and records are shared; they know a kind by ``StudentKind`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdtool.core.registry import Registry

if TYPE_CHECKING:
    from kdtool.student.kinds.base import StudentKind

KINDS: Registry[type[StudentKind]] = Registry("kind of student", {
    "hybrid": "kdtool.student.kinds.hybrid:Hybrid",
})  # fmt: skip
