"""An array of jobs and the resources of each.  In: commands, logs, memory, GPUs and time.  Out: data only.

Environment variables override the resources of everything that runs below: KD_JOB_MEM=4G, KD_JOB_TIME=8:00:00, KD_JOB_GPU=1.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.errors import UsageError

MEGABYTES = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
TIME = re.compile(r"\d+(-\d+(:\d+){0,2}|(:\d+){0,2})")


@dataclass(frozen=True)
class Needs:
    """Resources of one job; 0 and '' mean unspecified."""

    mem: int = 0  # MB
    gpu: int = 0
    time: str = ""  # limit in sbatch's format: minutes, minutes:seconds, hours:minutes:seconds, days-hours


@dataclass(frozen=True)
class Failure:
    """How a job failed, in few words, and further lines."""

    how: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Array:
    """Independent jobs; a job is identified by its index in `commands`, in messages by index + 1."""

    name: str
    commands: Sequence[Sequence[str]]
    logs: Sequence[Path]
    at_once: int
    folder: Path  # hidden; notes about the running array
    needs: Needs = field(default_factory=Needs)


# A backend runs the jobs `todo` of an array, calls `ended` after each success, and returns the failures.
Backend = Callable[[Array, Sequence[int], Callable[[int], None]], dict[int, Failure]]


def checked(mem: str | None, gpu: str | None, time: str | None, names: Sequence[str], before: Needs) -> Needs:
    """Needs from text, missing ones from `before`; UsageError names the option (`names`: of memory, GPUs, time)."""
    # '4G', '500M', '500' are MB, rounded up.
    size = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", (mem or "").strip().upper())
    if mem is not None and (not size or float(size[1]) <= 0):
        raise UsageError(f"{names[0]} {mem!r}: a size such as 500M or 4G is expected")
    if gpu is not None and not gpu.isdigit():
        raise UsageError(f"{names[1]} {gpu!r}: a number of GPUs is expected")
    if time is not None and not TIME.fullmatch(time):
        raise UsageError(f"{names[2]} {time!r}: a time such as 90 (minutes), 8:00:00 or 1-12 (days-hours) is expected")
    return Needs(
        mem=math.ceil(float(size[1]) * MEGABYTES[size[2]]) if size else before.mem,
        gpu=before.gpu if gpu is None else int(gpu),
        time=before.time if time is None else time,
    )


def overridden(needs: Needs) -> Needs:
    """The needs, overridden by the environment."""
    names = ("KD_JOB_MEM", "KD_JOB_GPU", "KD_JOB_TIME")
    mem, gpu, time = (os.environ.get(n) or None for n in names)
    return checked(mem, gpu, time, names, needs)
