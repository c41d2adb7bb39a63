"""Resources of the machine for this process.  In: affinity mask, control groups, /proc.  Out: cores, free MB, kills for memory.

A control group (a container, a batch job) counts where its limit is below the machine's.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from kdtool.core.children import system_text

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
MB = 1 << 20


def cores() -> int:
    """Cores that this process may use, at least 1."""
    allowed = [len(os.sched_getaffinity(0))]
    for folder in _groups("cpu"):
        quota, _, period = system_text(folder / "cpu.max").partition(" ")
        if not period:
            quota, period = system_text(folder / "cpu.cfs_quota_us"), system_text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            allowed.append(math.ceil(int(quota) / int(period)))
    in_slurm = os.environ.get("SLURM_CPUS_ON_NODE", "")
    if os.environ.get("SLURM_JOB_ID") and in_slurm.isdigit():
        allowed.append(int(in_slurm))
    return max(1, min(allowed))


def free_memory() -> int:
    """MB that new processes can use without swapping or hitting a control group's limit."""
    free = [_fields(PROC / "meminfo").get("MemAvailable:", 0) // 1024]
    for folder in _groups("memory"):
        limit, used = system_text(folder / "memory.max"), system_text(folder / "memory.current")
        if not used:
            limit, used = system_text(folder / "memory.limit_in_bytes"), system_text(folder / "memory.usage_in_bytes")
        if limit.isdigit() and used.isdigit():
            stat = _fields(folder / "memory.stat")
            cache = stat.get("inactive_file", stat.get("total_inactive_file", 0))
            free.append((int(limit) - int(used) + cache) // MB)
    return max(0, min(free))


def memory_kills() -> int:
    """Number of out-of-memory kills by the kernel, as far as reported."""
    counts = [_fields(PROC / "vmstat").get("oom_kill", 0)]
    counts += [_fields(folder / "memory.events").get("oom_kill", 0) for folder in _groups("memory")]
    return sum(counts)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control group and its ancestors, of version 2 and of the version 1 `controller`."""
    for line in system_text(PROC / "self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = CGROUP / controller if names else CGROUP
        inner = root / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_dir():
                yield folder
            if folder == root:
                break


def _fields(path: Path) -> dict[str, int]:
    rows = (line.split() for line in system_text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
