"""External programs.  In: a command and a log.  Out: its files, or an error that shows the end of the log."""

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

from kdtool.core.children import die_with_parent
from kdtool.core.errors import KdError
from kdtool.core.jobs import full_disk
from kdtool.core.progress import Line


def run_tool(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    stdin: IO[Any] | int = subprocess.DEVNULL,
    stdout: Path | None = None,
    lines: tuple[str, int] | None = None,
) -> None:
    """Run a program and wait; its standard error goes to `log`, its output to `stdout` (by default to the log too).

    lines: what to call the program and its expected lines of output, to report its progress. Raises KdError: it cannot be started or
    fails; the message ends with the last lines of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        f = files.enter_context(open(log, "wb"))
        f.write(f"# {shlex.join(command)}\n".encode())
        f.flush()
        out = files.enter_context(open(stdout, "wb")) if stdout else f
        try:
            child = subprocess.Popen(  # two system calls between fork and exec: safe beside threads
                list(command), stdin=stdin, stdout=out, stderr=f, env=env,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509
            )  # fmt: skip
        except OSError as e:
            raise KdError(f"{command[0]} cannot be started: {e}; set the environment up again (utils/setup_env.sh)") from e
        try:
            if stdout and lines:
                _watch(child, stdout, *lines)
            status = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
    if status:
        tail = "\n".join("  " + line for line in log.read_text(errors="replace").splitlines()[-8:])
        kind = f"exit status {status}" if status > 0 else f"signal {-status}"
        full = full_disk(log.parent)
        raise KdError(f"{Path(command[0]).name} failed ({kind}); the end of {log}:\n{tail}" + (f"\n{full}" if full else ""))
    # Not every program checks its writes.
    if full := full_disk(log.parent):
        raise KdError(f"{Path(command[0]).name}: {full}")


def _watch(child: subprocess.Popen[bytes], output: Path, label: str, total: int) -> None:
    """Report progress until the program ends, from the lines of its output."""
    shown, done = Line(), 0
    with open(output, "rb") as grows:
        while child.poll() is None:
            done += sum(block.count(b"\n") for block in iter(partial(grows.read, 1 << 20), b""))
            shown.share(label, done, total)
            time.sleep(0.05)
    shown.clear()
