"""Arithmetic of a training.  In: the option ``precision``.  Out: "float32" or "bfloat16".

``auto`` is resolved before a student is recorded: what it is trained in counts and is written down. So a student that was made
in bfloat16 is stale on a machine where ``auto`` is float32, and the record says why; ``--precision bfloat16`` keeps it.
"""

from __future__ import annotations

from pathlib import Path

from kdtool.core.state import interrupted

CPUINFO = Path("/proc/cpuinfo")
FLAGS = ("avx512_bf16", "amx_bf16")


def resolved(precision: str, out: Path | None = None) -> str:
    """What ``precision`` is here: ``auto`` is bfloat16 on processors that multiply in it, else float32.

    An interrupted training of ``out`` goes on in the arithmetic that it began with, on whatever machine.
    """
    if precision != "auto":
        return precision
    begun = interrupted(out).get("precision") if out else None
    return str(begun or ("bfloat16" if computes_in_bfloat16() else "float32"))


def computes_in_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX512_BF16 or AMX): twice as fast there, far slower elsewhere."""
    try:
        flags = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(flag in flags for flag in FLAGS)
