"""Child processes that never outlive their parent.  In: a command.  Out: a process; Ctrl-C reaches it, a kill of the parent too."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

STOPS = (signal.SIGINT, signal.SIGTERM)
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
    """End the children: asked first, killed after five seconds."""
    for child in children:
        child.terminate()
    limit = time.monotonic() + 5
    for child in children:
        try:
            child.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
