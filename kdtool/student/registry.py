"""Kinds of students: one file per kind in kdtool/student/kinds, one line each here.

The trainer, exact resume, averaging, schedules and records are shared; they know kinds only through ``StudentKind`` (kind.py).
"""

from typing import Any

from kdtool.core.registry import Registry

# The type is StudentKind. It is not imported here: it depends on the options, which check the names here.
KINDS: Registry[Any] = Registry("kind of student", {
    "hybrid": "kdtool.student.kinds.hybrid:Hybrid",
    "lfmmi": "kdtool.student.kinds.lfmmi:Lfmmi",
})  # fmt: skip
