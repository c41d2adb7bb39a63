#!/usr/bin/env python3
"""Kill the tiny recipe repeatedly, resume it each time, and compare the result with an undisturbed run's, byte by byte.

usage: tests/kill_test.py [--kills 40] [--seed 1] [--work DIR] [--from-stage] [-- run.sh options]

In: the recipe's options (default: --tiny with the embedded corpus). Out: exit status 0 when results.json and every alignment,
dump, weight and model file are the same. Kills (SIGKILL to the whole process group) are drawn evenly over the undisturbed
run's time, as a stage, a number of its steps done and seconds after that; --from-stage resumes with --stage, not from the start.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "egs/mini_librispeech/run.sh"
COMPARED = {".safetensors", ".ctm", ".tsv", ".arpa", ".jsonl", ".txt", ".csv", ".model", ".npy", ".bin", ".gz"}
STAGE, STEP = re.compile(r"== stage \d+: (\w+) \("), re.compile(r".*: (done in [\d:]+|up to date)$")


@dataclasses.dataclass(frozen=True)
class Moment:
    """A point of a run: the number of finished steps of a stage, and seconds after that."""

    stage: str
    done: int
    seconds: float

    def __str__(self) -> str:
        return f"stage {self.stage}, {self.done} steps done, {self.seconds:.1f} s later"


def content(work: Path) -> dict[str, str]:
    """Digest of each file that a user would compare: scores, alignments, dumps, weights, models, tables."""
    found = {}
    for path in sorted(work.rglob("*")):
        parts = path.relative_to(work).parts
        hidden = any(p.startswith(".") or p == "log" for p in parts)
        if not hidden and path.is_file() and (path.suffix in COMPARED or path.name == "results.json"):
            data = path.read_bytes()
            if path.suffix == ".gz":  # manifests of the embedded corpus name its place, which is in the work folder
                data = gzip.decompress(data).replace(os.path.abspath(work).encode(), b"WORK")
            found["/".join(parts)] = hashlib.sha256(data).hexdigest()
    return found


def left_over(work: Path) -> list[str]:
    """Unfinished folders; at the end there are none."""
    return sorted(str(p.relative_to(work)) for p in work.rglob(".*") if p.name.endswith((".work", ".old")))


def undisturbed(command: Sequence[str]) -> list[tuple[float, Moment]]:
    """Run to the end; returns the times of each stage's start and each step's end."""
    begin, moments, stage, done = time.monotonic(), [], "", 0
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    last: deque[str] = deque(maxlen=40)
    for line in child.stdout:
        last.append(line)
        if match := STAGE.match(line):
            stage, done = match[1], 0
        elif STEP.match(line.rstrip()):
            done += 1
        else:
            continue
        moments.append((time.monotonic() - begin, Moment(stage, done, 0.0)))
    if child.wait():
        raise AssertionError(f"the undisturbed run failed with status {child.returncode}: {' '.join(command)}\n{''.join(last)}")
    return [*moments, (time.monotonic() - begin, Moment("end", 0, 0.0))]


def draw(timeline: Sequence[tuple[float, Moment]], kills: int, seed: int) -> list[Moment]:
    """Moments at random times of the run, in their order; each is before the run's last line, so that a faster run is killed, too."""
    times = random.Random(seed)
    moments = []
    for at in sorted(times.uniform(timeline[0][0], timeline[-2][0]) for _ in range(kills)):
        since, moment = max((t, m) for t, m in ((t, (m.stage, m.done)) for t, m in timeline[:-1]) if t <= at)
        moments.append(Moment(*moment, at - since))
    return moments


def kill_at(command: Sequence[str], moment: Moment, log: Path) -> int:
    """Run until the moment, or until the step then going on is done (runs are not equally fast); kill the group.

    Returns:
        The exit status; 0: the run had ended before.
    """
    stage, done, due = "", 0, float("inf")
    with open(log, "w+b") as f:
        child = subprocess.Popen(command, start_new_session=True, stdout=f, stderr=subprocess.STDOUT)
        with open(log, encoding="utf-8", errors="replace") as lines:
            rest = ""
            while child.poll() is None and time.monotonic() < due:
                rest += lines.read()
                *whole, rest = rest.split("\n")
                for line in whole:
                    match, step = STAGE.match(line), STEP.match(line)
                    if due < float("inf") and (match or (step and step[1] != "up to date")):
                        due = 0.0
                    if match:
                        stage, done = match[1], 0
                    done += bool(step)
                    if due == float("inf") and stage == moment.stage and done >= moment.done:
                        due = time.monotonic() + moment.seconds
                time.sleep(0.01)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        return child.wait()


def kill_and_resume(command: Sequence[str], moments: Sequence[Moment], logs: Path, *, from_stage: bool = False) -> int:
    """Kill at each of the moments, resuming in between; how many runs were killed. AssertionError when one fails by itself."""
    killed, resume = 0, []
    for number, moment in enumerate(moments, 1):
        log = logs / f"killed.{number}.log"
        status = kill_at([*command, *resume], moment, log)
        text = log.read_text(errors="replace")
        assert status in (0, -signal.SIGKILL), f"run {number} failed by itself, status {status}:\n{text[-3000:]}"
        killed += status != 0
        print(f"kill {number}: {moment}: {'killed' if status else 'had ended before'}", flush=True)
        if from_stage and (stages := STAGE.findall(text)):
            resume = ["--stage", stages[-1]]
    return killed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder for both runs (default: a temporary one)")
    parser.add_argument("--from-stage", action="store_true", help="resume with --stage")
    parser.add_argument("options", nargs="*", help="options of run.sh, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        whole, broken = work / "undisturbed", work / "killed"
        broken.mkdir(parents=True)
        command = [str(RUN), *(args.options or ["--tiny"])]
        timeline = undisturbed([*command, "--work", str(whole)])
        print(f"undisturbed run: {timeline[-1][0]:.0f} s", flush=True)
        command += ["--work", str(broken)]
        killed = kill_and_resume(command, draw(timeline, args.kills, args.seed), work, from_stage=args.from_stage)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wanted, found = content(whole), content(broken)
        different = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
        print(f"{killed} of {args.kills} runs killed; {len(wanted)} files compared, {len(different)} differ {different[:10]}")
        print(f"left over: {left_over(broken) or 'nothing'}")
        sys.exit(1 if different or killed < args.kills or left_over(broken) else 0)


if __name__ == "__main__":
    main()
