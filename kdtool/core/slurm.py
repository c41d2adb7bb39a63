"""Backend `slurm`: an array's jobs as one sbatch array.  In: an array.  Out: its logs; the failed jobs with Slurm's reports.

A job writes its exit status into its status file. If that file is missing, Slurm's state of the task
counts: cancelled, out of memory, out of time, lost with its node. No accounting is needed.
"""

import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.array import Array, Failure
from kdtool.core.errors import KdError
from kdtool.core.progress import Watch
from kdtool.core.slurm_calls import ALIVE, LABEL, Unreachable, cancel, cancel_and_wait, guarded, remove, settle, states, submit
from kdtool.core.slurm_conf import sbatch_options
from kdtool.core.slurm_task import SPEC, write_synced

STATUS_DELAY = 60.0  # seconds until a status file appears on a network file system after its task has ended
SILENCE = 600.0  # give up after this time without an answer from Slurm and without any status file
LOOK, ASK = (0.1, 5.0), (1.0, 15.0)  # seconds between two looks into the folder, two queries to Slurm: initial, largest
OVER_MEMORY = re.compile(r"exceeded memory limit|Exceeded job memory limit|oom[_-]kill", re.IGNORECASE)
QUIET = ("", "None", "Priority", "Resources", "JobArrayTaskLimit")  # reasons to wait that are not printed
KILLED = {
    "CANCELLED": "cancelled: by scancel or an administrator",
    "TIMEOUT": "over its time limit", "DEADLINE": "over its deadline",
    "OUT_OF_MEMORY": "over its memory",
    "NODE_FAIL": "its node failed", "BOOT_FAIL": "its node did not boot", "PREEMPTED": "preempted by another job",
}  # fmt: skip
ADVICE = {
    "TIMEOUT": "raise the limit, as in KD_JOB_TIME=8:00:00 or utils/launch.sh --time 8:00:00",
    "OUT_OF_MEMORY": "raise it, as in KD_JOB_MEM=8G or utils/launch.sh --mem 8G",
}


def run(array: Array, todo: Sequence[int], ended: Callable[[int], None]) -> dict[int, Failure]:
    """Run the jobs `todo`; after a failure running jobs finish and no new one starts."""
    options = sbatch_options(array.needs)
    settle(array.folder.parent)
    token = secrets.token_hex(4)
    folder = Path(os.path.abspath(array.folder / token))
    folder.mkdir(parents=True)
    for i in todo:
        array.logs[i].parent.mkdir(parents=True, exist_ok=True)
        array.logs[i].unlink(missing_ok=True)
    jobs = {str(i + 1): {"command": list(array.commands[i]), "log": os.path.abspath(array.logs[i])} for i in todo}
    write_synced(folder / SPEC, {"cwd": os.getcwd(), "jobs": jobs})
    waiter = Waiter(array, folder, f"{array.folder.name.split('.')[0]}.{token}", ended, set(todo))
    with guarded(folder, waiter.label):
        try:
            waiter.number = submit(folder, waiter.label, [i + 1 for i in todo], array.at_once, options)
            print(f"{array.name}: {len(todo)} jobs, Slurm array {waiter.number}", file=sys.stderr, flush=True)
            waiter.wait()
        finally:
            if waiter.waiting and waiter.number:
                cancel_and_wait(waiter.label)
            (folder / LABEL).unlink(missing_ok=True)
    remove(folder)
    return waiter.failed


@dataclass
class Waiter:
    """Follows one array until each of its jobs has ended or cannot end any more."""

    array: Array
    folder: Path
    label: str
    ended: Callable[[int], None]
    waiting: set[int]
    failed: dict[int, Failure] = field(default_factory=dict)
    known: dict[int, tuple[str, str]] = field(default_factory=dict)  # Slurm's last answer, by index
    gone: dict[int, float] = field(default_factory=dict)  # when Slurm first said that a task no longer runs
    heard: float = field(default_factory=time.monotonic)
    printed: str = ""
    number: str = ""

    def wait(self) -> None:
        """Return when no job is awaited any more."""
        look, ask = LOOK[0], ASK[0]
        watch = Watch(self.array.name, self.array.logs, len(self.waiting))
        next_ask = time.monotonic() + ask
        while True:
            before = len(self.waiting)
            self.read_statuses()
            if self.waiting and time.monotonic() >= next_ask:
                self.ask()
                self.judge()
                ask = min(ask * 1.3, ASK[1])
                next_ask = time.monotonic() + ask
            if not self.waiting:
                break
            watch.done += before - len(self.waiting)
            watch.look(self.waiting)
            look = LOOK[0] if len(self.waiting) < before else min(look * 1.2, LOOK[1])
            time.sleep(min(look, max(next_ask - time.monotonic(), 0.05)))
        watch.clear()

    def read_statuses(self) -> None:
        """Read the status files of finished jobs."""
        names = set(os.listdir(self.folder))
        for index in sorted(i for i in self.waiting if f"status.{i + 1}" in names):
            try:
                status = json.loads((self.folder / f"status.{index + 1}").read_text(encoding="ascii"))
            except (OSError, ValueError):  # not complete here
                continue
            # For a killed job wait for Slurm's reason, which may come a little later.
            if status["status"] < 0 and index not in self.gone:
                continue
            self.heard = time.monotonic()
            self.output(index)
            if status["status"] == 0:
                self.waiting.remove(index)
                self.finish(index)
            else:
                self.fail(index, status["status"], f"it ran on {status['host']} for {status['seconds']} s")

    def finish(self, index: int) -> None:
        """Record that a job succeeded, once its files have appeared on the network file system, too."""
        limit = time.monotonic() + STATUS_DELAY
        while True:
            try:
                return self.ended(index)
            except (KdError, OSError):
                if time.monotonic() > limit:
                    raise
            time.sleep(LOOK[0] * 5)

    def output(self, index: int) -> None:
        """Forward the job's standard output."""
        path = self.folder / f"stdout.{index + 1}"
        if path.exists():
            sys.stdout.flush()
            with open(path, "rb") as f:
                shutil.copyfileobj(f, sys.stdout.buffer)
            sys.stdout.flush()

    def ask(self) -> None:
        """Ask Slurm for the state of all tasks; silence is tolerated for a while."""
        try:
            answer = states(f"--job={self.number}")
        except Unreachable as e:
            if time.monotonic() - self.heard > SILENCE:
                raise KdError(f"{self.array.name}: Slurm has not answered for {SILENCE:.0f} s: {e}\nwhen it does again, run the same "
                              f"command; scancel --name={self.label} ends what may still run") from e  # fmt: skip
            self.say(f"Slurm does not answer ({str(e).splitlines()[-1]}); waiting")
            return
        self.heard = time.monotonic()
        self.known = {index: answer.get(index + 1, ("unknown", "")) for index in self.waiting}
        for index, (state, _) in self.known.items():
            if state in ALIVE:
                self.gone.pop(index, None)
            else:
                self.gone.setdefault(index, self.heard)
        pending = [reason for state, reason in self.known.values() if state == "PENDING"]
        why = ", ".join(sorted({r for r in pending if r not in QUIET}))
        running = sum(state in ALIVE for state, _ in self.known.values()) - len(pending)
        if pending or self.printed:
            self.say(f"{len(self.waiting)} jobs left, {running} running, {len(pending)} pending" + (f" ({why})" if why else ""))

    def say(self, line: str) -> None:
        """Print a line, unless it repeats the last one."""
        if line != self.printed:
            print(f"{self.array.name}: {line}", file=sys.stderr, flush=True)
        self.printed = line

    def judge(self) -> None:
        """Give up on tasks that no longer run and have had no status for too long."""
        self.read_statuses()
        for index in sorted(self.waiting & set(self.gone)):
            state, reason = self.known.get(index, ("unknown", ""))
            over = self.slurm_says(index, OVER_MEMORY)
            delay = 0.0 if over or state in KILLED else STATUS_DELAY
            if time.monotonic() - self.gone[index] >= delay:
                if state == "CANCELLED" and self.failed and not self.array.logs[index].exists():
                    self.waiting.remove(index)  # cancelled by us before it began
                    continue
                self.output(index)
                self.fail(index, None, f"Slurm says {state}" + (f" ({reason})" if reason not in ("", "None") else ""))

    def fail(self, index: int, status: int | None, note: str) -> None:
        """Record a failed job, and cancel those that have not started."""
        if not self.failed:
            cancel(self.label, "--state=PENDING")
        self.waiting.remove(index)
        over = bool(self.slurm_says(index, OVER_MEMORY))
        state = "OUT_OF_MEMORY" if over else self.known.get(index, ("", ""))[0]
        notes = ["".join([note, *(f"\n  {line}" for line in self.slurm_says(index)[-5:])])]
        if over or ((status is None or status < 0) and state in KILLED):
            limit = f" of {self.array.needs.mem} MB" if state == "OUT_OF_MEMORY" and self.array.needs.mem else ""
            self.failed[index] = Failure(KILLED[state] + limit, [*notes, *filter(None, [ADVICE.get(state)])])
        elif status is None:
            missing = f"no status file came; {self.folder} must be shared with the nodes"
            self.failed[index] = Failure(f"lost: {'unknown to Slurm' if state == 'unknown' else state}", [*notes, missing])
        else:
            self.failed[index] = Failure(f"exit status {status}" if status > 0 else f"signal {-status}", notes)

    def slurm_says(self, index: int, pattern: re.Pattern[str] = re.compile(".")) -> list[str]:
        """Lines that Slurm, or the shell before our process, wrote for a task."""
        path = self.folder / f"slurm.{index + 1}"
        text = path.read_text(errors="replace") if path.exists() else ""
        return [line for line in text.splitlines() if pattern.search(line)]
