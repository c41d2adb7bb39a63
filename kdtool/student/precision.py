"""Arithmetic of a training.  In: the options ``precision`` and ``device``.  Out: "float32" or "bfloat16".

``auto`` is resolved before a student is recorded: the record holds the arithmetic in use. So a student made
in bfloat16 is stale on a machine where ``auto`` is float32, and the record says why; ``--precision bfloat16`` keeps it.
"""

from __future__ import annotations

from pathlib import Path

from kdtool.core.device import device_type, resolve_precision
from kdtool.core.state import interrupted


def resolved(precision: str, device: str = "cpu", out: Path | None = None) -> str:
    """What ``precision`` is on a device: ``auto`` is bfloat16 if the device supports it, else float32.

    An interrupted training of ``out`` continues in its first arithmetic, on any machine.
    """
    if precision != "auto":
        return precision
    begun = interrupted(out).get("precision") if out else None
    return str(begun or resolve_precision(precision, device_type(device)))
