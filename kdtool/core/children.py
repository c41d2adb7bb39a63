"""Child processes that never outlive their parent.  In: a command.  Out: a process; Ctrl-C reaches it, a kill of the parent too.

Linux: processes and their parents are read from /proc.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int = 0) -> None:
    """Ask the kernel to kill this process when its parent ends (Linux); `parent`, where known: end now if it has ended already."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(1)


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C wait while a child is started: it would be lost between fork and exec, and the child live on unknown to us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_child(parent: int) -> None:
    """In a child that was started under `held_back`, before its program: a Ctrl-C that came meanwhile ends it here."""
    die_with_parent(parent)
    for stop in STOPS:
        if signal.getsignal(stop) is not signal.SIG_IGN:
            signal.signal(stop, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def start(command: Sequence[str], log: Path, stdout: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a command, its standard error in `log` (first line: the command); call it under `held_back`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as f:
        f.write(b"# " + shlex.join(command).encode(errors="surrogateescape") + b"\n")
        f.flush()
        files: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": f}
        # A few system calls and no Python lock between fork and exec: safe here although threads may exist.
        return subprocess.Popen(list(command), preexec_fn=partial(_prepare_child, os.getpid()), **files)  # noqa: PLW1509


def stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the children and all processes below them: asked first, killed after five seconds."""
    tree = _tree([child.pid for child in children if child.poll() is None])
    for pid in tree:
        _signal(pid, signal.SIGTERM)
    limit = time.monotonic() + 5
    while any(started(pid) == start for pid, start in tree.items()) and time.monotonic() < limit:
        for child in children:
            child.poll()  # or an ended child would stay as a zombie
        time.sleep(0.02)
    for pid, start in tree.items():
        if started(pid) == start:
            _signal(pid, signal.SIGKILL)
    for child in children:
        child.wait()


def _tree(roots: Sequence[int]) -> dict[int, str]:
    """The processes and all below them in this session, parents first, with the time when each was started.

    A process in a session of its own has left on purpose, as Slurm's guard.
    """
    below: dict[int, list[int]] = {}
    begun, session = {}, os.getsid(0)
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) and int(fields[3]) == session:
            below.setdefault(int(fields[1]), []).append(int(entry))
            begun[int(entry)] = fields[19]
    queue = [pid for pid in roots if pid in begun]
    for pid in queue:
        queue.extend(below.get(pid, []))
    return {pid: begun[pid] for pid in queue}


def started(pid: int) -> str:
    """When a process was started, in the kernel's ticks since boot; '' when there is none, or it has ended but for its entry."""
    return "".join(_stat(pid)[19:20])


def _stat(pid: int) -> list[str]:
    """State, parent, group, session and so on of a living process, from /proc; [] when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
