"""The calls of Slurm's own commands.  In: an array of jobs.  Out: its id and label, the state of each task, its end.

Every array has a unique label (its job name), so that it can be cancelled even if sbatch was interrupted before it returned
the id. A guard process cancels it when the waiting process dies, for any reason.
"""

import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kdtool.core.children import held_back
from kdtool.core.errors import KdError, UsageError

CALL_LIMIT = 120  # seconds for one command
END_LIMIT = 40  # seconds for the tasks of a cancelled array to end
LABEL = "label"
ROOT = Path(__file__).resolve().parents[2]
STARTER = "import sys; sys.path.insert(0, sys.argv[1]); from kdtool.core.slurm_task import main; sys.exit(main(*sys.argv[2:]))"
SCRIPT = '#!/bin/sh\nexec "$@" "$SLURM_ARRAY_TASK_ID"\n'
# Standard input ends without the word 'done' when the waiting process is gone. sbatch may still be running then.
GUARD = (
    "trap '' INT TERM HUP; read -r word; [ \"$word\" = done ] && exit; "
    'for pause in 0 3 10 30; do sleep "$pause"; scancel --name="$1" --quiet; done'
)
ALIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING",
         "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "RESV_DEL_HOLD"}  # fmt: skip


class Unreachable(KdError):
    """Slurm's controller does not answer."""


def call(*command: str) -> str:
    """Standard output of one of Slurm's commands; UsageError if it does not exist here, Unreachable with its output if it fails."""
    try:
        # In a new session: Ctrl-C at a terminal must not interrupt a call half-way.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, timeout=CALL_LIMIT, check=False
        )
    except FileNotFoundError as e:
        raise UsageError(f"KD_BACKEND=slurm, but there is no {command[0]} here; run on a machine that can submit jobs, or with "
                         "KD_BACKEND=local") from e  # fmt: skip
    except subprocess.TimeoutExpired as e:
        raise Unreachable(f"{command[0]} did not answer in {CALL_LIMIT} s") from e
    if done.returncode:
        raise Unreachable(done.stderr.decode(errors="replace").strip() or f"{command[0]}: exit status {done.returncode}")
    return done.stdout.decode(errors="replace")


def submit(folder: Path, label: str, jobs: Sequence[int], at_once: int, options: Sequence[str]) -> str:
    """Submit the tasks `jobs` (from 1) of the array in `folder`; returns its id."""
    (folder / "script").write_text(SCRIPT)
    command = ["sbatch", "--parsable", f"--job-name={label}", f"--array={ranges(jobs)}%{at_once}", "--no-requeue", "--export=ALL",
               "--input=/dev/null", "--open-mode=truncate", "--chdir=/", f"--output={messages(folder)}", *options, str(folder / "script"),
               sys.executable, "-c", STARTER, str(ROOT), str(folder)]  # fmt: skip
    try:
        with held_back():
            return call(*command).strip().split(";")[0]
    except Unreachable as e:
        cancel(label)
        raise KdError(f"sbatch refused the array: {e}\nthe command was: {' '.join(command[:-6])} ...; its options come from KD_SLURM_CONF "
                      "and KD_JOB_MEM, KD_JOB_TIME, KD_JOB_GPU") from e  # fmt: skip


def messages(folder: Path) -> str:
    """Where Slurm writes its messages about a task: slurm.TASK in `folder`, unless Slurm's patterns cannot express that path."""
    path = str(folder)
    return "/dev/null" if set(path) & {"\\", "\n"} else path.replace("%", "%%") + "/slurm.%a"


def ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 7] -> '1-3,7'."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1][1:] = [n]
        else:
            runs.append([n])
    return ",".join("-".join(map(str, run)) for run in runs)


def states(which: str) -> dict[int, tuple[str, str]]:
    """State and reason of each task that Slurm still knows; `which` is --job=ID or --name=LABEL."""
    try:
        text = call("squeue", "-h", "-r", "-t", "all", which, "-o", "%K %T %r")
    except Unreachable as e:
        if "Invalid job id" in str(e):
            return {}
        raise
    rows = ([*line.split(None, 2), ""] for line in text.splitlines())
    return {int(row[0]): (row[1], row[2]) for row in rows if row[0].isdigit()}


def cancel(label: str, *options: str) -> None:
    """Cancel an array, if Slurm can be reached."""
    try:
        call("scancel", "--quiet", f"--name={label}", *options)
    except KdError as e:
        print(f"note: the array {label} could not be cancelled ({e}); see to it with: scancel --name={label}", file=sys.stderr)


def cancel_and_wait(label: str) -> None:
    """Cancel an array and wait until none of its tasks can write any more."""
    cancel(label)
    end = time.monotonic() + END_LIMIT
    while time.monotonic() < end:
        try:
            if not any(state in ALIVE for state, _ in states(f"--name={label}").values()):
                return
        except KdError:
            return  # `cancel` has reported it
        time.sleep(0.3)
    print(f"note: tasks of the array {label} do not end; see to them with: scancel --name={label}", file=sys.stderr)


def settle(jobs: Path) -> None:
    """Cancel the leftovers of a killed run in Slurm, by the labels under `jobs`; their tasks write to our files."""
    for path in sorted(jobs.glob(f"*/*/{LABEL}")):
        with open(path, encoding="ascii") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # another process waits for it
            label = f.read()
            if label:
                print(f"note: an earlier run left the array {label}; it is cancelled", file=sys.stderr)
                cancel_and_wait(label)
            remove(path.parent)


def remove(folder: Path) -> None:
    """Remove the notes about an array, and folders that become empty."""
    shutil.rmtree(folder, ignore_errors=True)
    for above in (folder.parent, folder.parent.parent):
        with suppress(OSError):
            above.rmdir()


@contextmanager
def guarded(folder: Path, label: str) -> Iterator[None]:
    """Cancel the array when this process dies inside; meanwhile the label is locked, so that `settle` leaves the array alone."""
    silent: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with held_back():
        guard = subprocess.Popen(["sh", "-c", GUARD, "sh", label], stdin=subprocess.PIPE, start_new_session=True, cwd="/", **silent)
    try:
        with open(folder / LABEL, "w", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.write(label)
            f.flush()
            yield
    finally:
        assert guard.stdin
        guard.stdin.write(b"done\n")
        guard.stdin.close()
        guard.wait()
