"""Child processes that never outlive their parent.  In: a command.  Out: a process that ends on Ctrl-C or when the parent is killed.

Linux: processes and their parents are read from /proc.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int = 0) -> None:
    """Ask the kernel to kill this process when its parent ends (Linux); `parent`, if known: end now if it has already ended."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(1)


@contextmanager
def held_back() -> Iterator[None]:
    """Delay Ctrl-C while a child is started: between fork and exec it would be lost, and the child would live on unnoticed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_child(parent: int) -> None:
    """In a child started under `held_back`, before its program: end now if Ctrl-C came meanwhile."""
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
        # A few system calls and no Python lock between fork and exec: safe here even with threads.
        return subprocess.Popen(list(command), preexec_fn=partial(_prepare_child, os.getpid()), **files)  # noqa: PLW1509


def stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the children and their descendants: SIGTERM first, SIGKILL after five seconds."""
    tree = _tree([child.pid for child in children if child.poll() is None])
    _send(tree, signal.SIGTERM)
    left = _wait(tree, children)
    # Those that do not listen may have started processes meanwhile, and may go on to: a stopped one cannot.
    _send(left, signal.SIGSTOP)
    tree = _tree(left)
    _send(tree, signal.SIGKILL)
    for child in children:
        child.wait()
    _wait(tree, children)


def _send(processes: Iterable[int], number: int) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(tree: Mapping[int, str], children: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait for processes (pid -> start time) to end, for five seconds at most; those that are left."""
    limit = time.monotonic() + 5
    while (left := [pid for pid, start in tree.items() if started(pid) == start]) and time.monotonic() < limit:
        for child in children:
            child.poll()  # reap it, or it would stay a zombie
        time.sleep(0.02)
    return left


def _tree(roots: Sequence[int]) -> dict[int, str]:
    """The processes and their descendants in this session, parents first, with their start times.
    A process in another session, such as Slurm's guard, has left on purpose.
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
    """Start time of a process, in the kernel's ticks since boot; '' if it does not exist or is a zombie."""
    return "".join(_stat(pid)[19:20])


def _stat(pid: int) -> list[str]:
    """State, parent, group, session and so on of a live process, from /proc; [] if it has ended."""
    fields = system_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return [] if not fields or fields[0] in "ZX" else fields


def system_text(path: Path) -> str:
    """A small file of the system; '' if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
