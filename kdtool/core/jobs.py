"""Arrays of jobs as child processes.  In: a module and its arguments.  Out: exit statuses, a log a job.

`run_array` starts `python -m module ... --job J --num-jobs N` for J = 1..N and waits. Children die with their parent,
whatever kills it. On failure the failing jobs, the end of the first log and the command that redoes it are printed.
"""

from __future__ import annotations

import ctypes
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from kdtool.core.errors import KdError

T = TypeVar("T")
STOPS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1
NO_SPACE = 1 << 16  # bytes; a disk with less is as good as full
LIBC = ctypes.CDLL(None, use_errno=True)


def split(items: Sequence[T], job: int, num_jobs: int) -> list[T]:
    """The contiguous part of `items` that job `job` (1-based) of `num_jobs` does; the parts differ by one item at most."""
    if not 1 <= job <= num_jobs:
        raise ValueError(f"job {job} of {num_jobs}")
    size = len(items)
    return list(items[size * (job - 1) // num_jobs : size * job // num_jobs])


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (Linux)."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C wait while a child is started: it would be lost between fork and exec, and the child live on unknown to us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_child() -> None:
    """In a child that was started under `held_back`, before its program: a Ctrl-C that came meanwhile ends it here."""
    die_with_parent()
    for stop in STOPS:
        if signal.getsignal(stop) is not signal.SIG_IGN:
            signal.signal(stop, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def run_array(module: str, argv: Sequence[str], *, nj: int, log_dir: Path, name: str) -> None:
    """Run one array of `nj` jobs side by side and wait for all of them.

    Raises:
        KdError: a job failed; the message names the failing jobs, ends the first log and gives the redo command.
    """
    commands = [[sys.executable, "-m", module, *argv, "--job", str(j), "--num-jobs", str(nj)] for j in range(1, nj + 1)]
    logs = [Path(log_dir) / f"{name}.{j}.log" for j in range(1, nj + 1)]
    run_commands(commands, logs, name=name, at_once=nj)


def run_commands(commands: Sequence[Sequence[str]], logs: Sequence[Path], *, name: str, at_once: int) -> None:
    """Run commands, `at_once` at a time, standard error (and, where a log is shared by nobody, output) into their logs."""
    waiting = list(enumerate(commands))
    running: dict[int, subprocess.Popen[bytes]] = {}
    failed: dict[int, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                index, command = waiting.pop(0)
                with held_back():
                    running[index] = _start(command, logs[index])
            for index, child in list(running.items()):
                if (status := child.poll()) is not None:
                    del running[index]
                    if status:
                        failed[index] = status
            if failed and waiting:
                waiting = []  # what runs may end, nothing new starts: the cause should not scroll away
            time.sleep(0.02)
    finally:
        _stop(list(running.values()))
    if failed:
        raise KdError(_failure(name, commands, logs, failed))


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as f:
        f.write(f"# {shlex.join(command)}\n".encode())
        f.flush()
        # A few system calls and no Python lock between fork and exec: safe here although threads may exist.
        return subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stderr=f, preexec_fn=_prepare_child)  # noqa: PLW1509


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    limit = time.monotonic() + 5
    for child in children:
        try:
            child.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def full_disk(folder: Path) -> str:
    """A line that says so when the disk of `folder` is full, else ''; a cut log or output does not say why it is cut."""
    free = shutil.disk_usage(folder).free
    return f"the disk of {folder} is full ({free} bytes free): free space, then run again" if free < NO_SPACE else ""


def _failure(name: str, commands: Sequence[Sequence[str]], logs: Sequence[Path], failed: dict[int, int]) -> str:
    first = min(failed)
    tail = logs[first].read_text(errors="replace").splitlines()[-12:]
    jobs = ", ".join(f"{i + 1} (exit status {s})" if s > 0 else f"{i + 1} (signal {-s})" for i, s in sorted(failed.items()))
    return "\n".join([
        f"{name}: {len(failed)} of {len(commands)} jobs failed: {jobs}",
        f"end of {logs[first]}:", *("  " + line for line in tail),
        f"redo this job alone with: {shlex.join(commands[first])}", *filter(None, [full_disk(logs[first].parent)]),
    ])  # fmt: skip
