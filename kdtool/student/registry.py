"""Kinds of students: one file per kind in kdtool/student/kinds, one line each here.

The trainer, exact resume, averaging, schedules and records are shared; they know a kind by ``StudentKind`` (kind.py) alone.
"""

from __future__ import annotations

from typing import Any

from kdtool.core.registry import Registry

# Of StudentKind, which is not named here: it knows the options, which check the names here.
KINDS: Registry[Any] = Registry("kind of student", {
    "hybrid": "kdtool.student.kinds.hybrid:Hybrid",
})  # fmt: skip
