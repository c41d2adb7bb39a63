"""Arrays of jobs.  In: a module and its arguments, or commands.  Out: their outputs, one log per job; an error names the failed jobs.

`run_array` starts `python -m module ... --job J --num-jobs N` for J = 1..N and waits. KD_BACKEND chooses the backend: `local` (child
processes, kdtool.core.pool) or `slurm` (kdtool.core.slurm). Jobs end when the waiting process ends. On failure the failed jobs,
the end of the first log and the command that repeats it are printed; outputs of the other jobs are reused (kdtool.core.parts).
"""

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from kdtool.core.array import Array, Backend, Failure, Needs, overridden
from kdtool.core.digest import combine
from kdtool.core.errors import KdError, UsageError
from kdtool.core.parts import JOBS, Parts

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
BACKENDS = {"local": "kdtool.core.pool", "slurm": "kdtool.core.slurm"}
NO_SPACE = 1 << 16  # bytes; a disk with less free space counts as full


def job_parser(description: str, *places: str) -> argparse.ArgumentParser:
    """The command line of an array's job: paths by name, and the numbers that `run_array` adds."""
    parser = argparse.ArgumentParser(description=description)
    for name in places:
        parser.add_argument(name, type=Path)
    parser.add_argument("--job", type=int, required=True)
    parser.add_argument("--num-jobs", type=int, required=True)
    return parser


def split(items: Sequence[T], job: int, num_jobs: int) -> list[T]:
    """The contiguous part of `items` that job `job` (1-based) of `num_jobs` does; sizes of the parts differ by at most one."""
    if not 1 <= job <= num_jobs:
        raise ValueError(f"job {job} of {num_jobs}")
    size = len(items)
    return list(items[size * (job - 1) // num_jobs : size * job // num_jobs])


def split_groups(groups: Sequence[Sequence[T]], job: int, num_jobs: int) -> list[Sequence[T]]:
    """The contiguous part of `groups` that job `job` (1-based) of `num_jobs` does; the parts have about as many items each."""
    if not 1 <= job <= num_jobs:
        raise ValueError(f"job {job} of {num_jobs}")
    total, before = sum(map(len, groups)), accumulate(map(len, groups), initial=0)
    return [g for g, n in zip(groups, before, strict=False) if (2 * n + len(g)) * num_jobs // (2 * total) == job - 1]


def backend() -> Backend:
    """The backend that KD_BACKEND names."""
    name = os.environ.get("KD_BACKEND") or "local"
    if name not in BACKENDS:
        raise UsageError(f"KD_BACKEND={name}: known are local and slurm (a recipe's cmd.sh sets it)")
    return importlib.import_module(BACKENDS[name]).run  # type: ignore[no-any-return]


def run_array(
    module: str, argv: Sequence[str], *, nj: int, log_dir: Path, name: str, mem: int = 0,
    outputs: Callable[[int], Iterable[Path]] | None = None,
) -> None:  # fmt: skip
    """Run one array of `nj` jobs in parallel and wait for all of them.

    Args:
        log_dir: the folder `log` of the step's work folder.
        mem: estimated MB per job; KD_JOB_MEM overrides it.
        outputs: the files and folders that a finished job (1-based) has made, all inside the step's work folder. If an unchanged
            step is run again after a failure, they are reused instead of running that job again.

    Raises KdError when a job failed, with the failing jobs, the end of the first log and the command to repeat it.
    """
    commands = [[sys.executable, "-m", module, *argv, "--job", str(j), "--num-jobs", str(nj)] for j in range(1, nj + 1)]
    logs = [Path(log_dir) / f"{name}.{j}.log" for j in range(1, nj + 1)]
    run_commands(commands, logs, name=name, at_once=nj, needs=overridden(Needs(mem=mem)), outputs=outputs)


def run_commands(
    commands: Sequence[Sequence[str]], logs: Sequence[Path], *, name: str, at_once: int, needs: Needs | None = None,
    outputs: Callable[[int], Iterable[Path]] | None = None,
) -> None:  # fmt: skip
    """Run commands, `at_once` at a time, standard error into their logs, standard output to ours."""
    digest = combine(json.dumps(list(command)) for command in commands)[:12]
    folder = logs[0].parent / JOBS / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)[:40]}.{digest}"
    array = Array(name, commands, logs, at_once, folder, overridden(Needs()) if needs is None else needs)
    run = backend()
    parts = Parts(folder, logs[0].parent.parent)
    todo = list(range(len(commands)))
    if outputs:
        todo = [i for i in todo if not parts.take(i + 1)]
        if todo and len(todo) < len(commands):
            print(f"{name}: {len(commands) - len(todo)} of {len(commands)} jobs were done before, their parts are kept", file=sys.stderr)

    def ended(index: int) -> None:
        if outputs:
            parts.record(index + 1, [*outputs(index + 1), logs[index]])

    failed = run(array, todo, ended) if todo else {}
    if failed:
        raise KdError(_failure(array, failed, bool(outputs)))


def full_disk(folder: Path) -> str:
    """A message if the disk of `folder` is full, else ''; a truncated log or output does not say why."""
    free = shutil.disk_usage(folder).free
    return f"the disk of {folder} is full ({free} bytes free): free space, then run again" if free < NO_SPACE else ""


def _failure(array: Array, failed: dict[int, Failure], kept: bool) -> str:
    first = min(failed)
    log, command = array.logs[first], array.commands[first]
    # For the user's shell: valid in any folder and without our PYTHONPATH.
    redo = f"PYTHONPATH={shlex.quote(str(ROOT))} " if command[0] == sys.executable else ""
    tail = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else ["(no log: it never started)"]
    jobs = ", ".join(f"{i + 1} ({f.how})" for i, f in sorted(failed.items()))
    return "\n".join([
        f"{array.name}: {len(failed)} of {len(array.commands)} jobs failed: {jobs}",
        *failed[first].notes,
        f"end of {log}:", *("  " + line for line in tail),
        f"redo this job alone with: cd {shlex.quote(os.getcwd())} && {redo}{shlex.join(command)}",
        *(["the same step run again redoes only the jobs that are not done"] if kept and len(array.commands) > 1 else []),
        *filter(None, [full_disk(log.parent)]),
    ])  # fmt: skip
