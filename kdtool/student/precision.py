"""Arithmetic of a training.  In: the options ``precision`` and ``device``.  Out: "float32" or "bfloat16".

``auto`` is resolved before a student is recorded: what it is trained in counts and is written down. So a student that was made
in bfloat16 is stale on a machine where ``auto`` is float32, and the record says why; ``--precision bfloat16`` keeps it.
"""

from __future__ import annotations

from pathlib import Path

from kdtool.core.device import device_type, resolve_precision
from kdtool.core.state import interrupted


def resolved(precision: str, device: str = "cpu", out: Path | None = None) -> str:
    """What ``precision`` is on a device: ``auto`` is bfloat16 where the device multiplies in it, else float32.

    An interrupted training of ``out`` goes on in the arithmetic that it began with, on whatever machine.
    """
    if precision != "auto":
        return precision
    begun = interrupted(out).get("precision") if out else None
    return str(begun or resolve_precision(precision, device_type(device)))
