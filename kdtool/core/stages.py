"""Plans a recipe: what would run, and why.  In: the commands of its stages, noted by utils/recipe.sh.  Out: a line per step or stage.

Each step is planned in this process, by the code that decides when it runs (kdtool.core.state); nothing is run or written, and
no plan is stored that could become wrong. A step whose input would be made again 'follows' the step that makes it. A step
whose output place belongs to others (kdtool.core.ownership) is refused, so that a recipe stops before its first stage.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdtool.core import step as step_module
from kdtool.core.cli import cli_main
from kdtool.core.digest import read_record
from kdtool.core.errors import KdError, UsageError
from kdtool.core.lock import holder_of
from kdtool.core.ownership import check_output, check_unasked
from kdtool.core.progress import clock
from kdtool.core.state import NOTHING, Step, why

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = "kdtool.core.launch"
SWAPPING = "interrupted while the new output took the old one's place"


@dataclasses.dataclass
class Answer:
    """One step: why it would run ('' if up to date), or what is wrong; end and duration of its last run."""

    stage: str
    name: str
    out: str
    reason: str = ""
    error: str = ""
    running: str = ""
    made: bool = False
    finished: str = ""
    seconds: float | None = None
    speaks: bool = False  # a run prints something even if nothing has changed
    earlier: bool = False  # an earlier stage makes it, too
    refused: bool = False  # its output's place holds files of others; `error` names them


class Asker:
    """Plans the steps in the order in which they run."""

    def __init__(self, work: Path, force: bool) -> None:
        self.work, self.force = Path(os.path.abspath(work)), force
        self.answers: list[Answer] = []
        self.remade: list[Path] = []  # outputs that would be made (again)
        self.stage = ""

    def ask(self, stage: str, argv: Sequence[str]) -> None:
        """One noted command: -m MODULE ARGUMENTS."""
        self.stage, module_name = stage, argv[1]
        if module_name == LAUNCHER:
            if not self._list_to_come(argv):
                for command in _launched(argv[2:]):
                    self.ask(stage, command)
            return
        module: Any = importlib.import_module(module_name)
        before, sys.argv = sys.argv, [module_name, *argv[2:]]
        try:
            if hasattr(module, "would_run"):
                if not self._may_write(module_name, [Path(argv[-1])], lambda _: module.check_outputs()):
                    return
                self._unrecorded(module_name.rpartition(".")[2], self._fed_by(argv) or module.would_run(), Path(argv[-1]))
            elif hasattr(module, "run_step"):
                step_module.asked = self.hear
                module.main()
            else:
                raise KdError(f"{module_name}: neither calls run_step nor says what it would run; this is a bug, please report it")
        except (KdError, OSError) as e:
            outputs = module.outputs() if hasattr(module, "outputs") else [Path(argv[-1])]
            if self._may_write(module_name, [Path(os.path.abspath(p)) for p in outputs], check_unasked):
                self._excuse(module_name.rpartition(".")[2], argv, str(e))
        finally:
            step_module.asked, sys.argv = None, before

    def hear(self, step: Step) -> None:
        """Called by run_step with the step's inputs, options and code: compare them with its record."""
        if not self._may_write(step.name, [step.out], lambda _: check_output(step)):
            return
        follows = {n: made for n, p in step.inputs.items() if (made := self._made_by(p))}
        for path in (p for n, p in step.inputs.items() if n not in follows and not os.path.exists(p)):
            raise KdError(f"{path}: missing; check the path")
        record = read_record(step.out)
        if record is None and not step.work.exists():
            reason = NOTHING
        else:
            rest = dataclasses.replace(step, inputs={n: p for n, p in step.inputs.items() if n not in follows})
            key = rest.key({})
            # An input that would be made again is reported once, as followed.
            key["inputs"].update({n: d for n, d in ((record or {}).get("key") or {}).get("inputs", {}).items() if n in follows})
            reason = why(step, key, self.force) or (SWAPPING if step.old.exists() else "")
        if follows:
            names = "follows " + ", ".join(dict.fromkeys(follows.values()))
            reason = names if reason in ("", NOTHING) else f"{reason}; {names}"
        self._note(step.name, reason, step.out, running=holder_of(step.lock), record=record or {})

    def _may_write(self, name: str, outputs: Sequence[Path], check: Callable[[Path], None]) -> bool:
        """Whether all outputs pass the check; if not, the step's answer names the files there."""
        for out in outputs:
            try:
                check(out)
            except UsageError as e:
                self.answers.append(Answer(self.stage, name.rpartition(".")[2], self._short(out), error=str(e), refused=True))
                return False
        return True

    def _note(self, name: str, reason: str, out: Path, running: str = "", record: dict[str, Any] | None = None) -> None:
        record = record or {}
        if reason:
            self.remade.append(Path(os.path.abspath(out)))
        finished, seconds, short = record.get("finished", ""), record.get("seconds"), self._short(out)
        earlier = any(a.out == short and a.stage != self.stage for a in self.answers)
        self.answers.append(Answer(self.stage, name, short, reason, "", running, os.path.exists(out), finished, seconds, earlier=earlier))

    def _unrecorded(self, name: str, reason: str, out: Path) -> None:
        """Answer for a step without record: its output's modification time is its end."""
        finished = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(out.stat().st_mtime)) if out.exists() else ""
        self._note(name, reason, out, record={"finished": finished})
        self.answers[-1].speaks = True

    def _list_to_come(self, argv: Sequence[str]) -> bool:
        """Whether a launcher's values come from a list (NAME=@FILE) that is not made yet; its steps cannot be planned yet."""
        names = [word.partition("=@")[2] for word in argv[2:] if re.fullmatch(r"[A-Z]+=@.+", word)][:1]
        before = len(self.answers)
        for path in map(Path, names):
            step, out = next((Path(w).stem for w in argv[2:] if w.endswith(".sh")), "launch"), Path(argv[-1])
            if made := self._made_by(path):
                self._note(step, f"follows {made}", out)
            elif not path.exists():
                self._note(step, f"{self._short(path)} is not made yet", out)
        return len(self.answers) > before

    def _is_ours(self, path: Path) -> bool:
        return self.work in Path(os.path.abspath(path)).parents

    def _short(self, path: Path) -> str:
        return os.path.relpath(path, self.work) if self._is_ours(path) else str(path)

    def _made_by(self, path: Path) -> str:
        """The folder that would be made again and that contains the path, '' if none."""
        place = Path(os.path.abspath(path))
        found = [folder for folder in (place, *place.parents) if folder in self.remade]
        return self._short(found[0]) if found else ""

    def _fed_by(self, argv: Sequence[str]) -> str:
        """Answer for a step that reads everything below a folder: it follows the last one that would write there."""
        folders = {Path(os.path.abspath(word)) for word in argv[2:-1]}
        inside = [place for place in self.remade if folders & set(place.parents)]
        return f"follows {self._short(inside[-1])}" if inside else ""

    def _excuse(self, name: str, argv: Sequence[str], error: str) -> None:
        """Answer for a step that could not be planned: its inputs are not made yet, or something is wrong."""
        words = [p for word in argv[2:] if "/" in word and not word.startswith("-") for p in word.split(",")]
        names = [made for p in words if (made := self._made_by(Path(p)))]
        missing = [p for p in words if p != argv[-1] and self._is_ours(Path(p)) and not os.path.exists(p)]
        if names:
            self._note(name, "follows " + ", ".join(dict.fromkeys(names)), Path(argv[-1]))
        elif missing:
            self._note(name, f"{self._short(Path(missing[0]))} is not made yet", Path(argv[-1]))
        else:
            self.answers.append(Answer(self.stage, name, self._short(Path(argv[-1])), error=error))


def _launched(argv: Sequence[str]) -> list[list[str]]:
    """The steps' commands that utils/launch.sh would start."""
    from kdtool.core.launch import expand

    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "commands"
        for command in expand(argv).commands:
            if ROOT not in Path(command[0]).resolve().parents:
                raise KdError(f"{command[0]}: only scripts of this toolkit can be asked what they would run")
            if status := subprocess.run(command, env={**os.environ, "KD_PLAN": str(notes)}, check=False).returncode:
                raise KdError(f"{' '.join(command)}: asked what it would run, it ended with status {status}; fix this command")
        return [command for _, command in read_notes(notes)]


def read_notes(path: Path) -> list[tuple[str, list[str]]]:
    """(stage, command) of each command noted by utils/note_command.sh."""
    fields = path.read_bytes().decode(errors="surrogateescape").split("\0")[:-1] if path.exists() else []
    notes = []
    while fields:
        stage, count = fields[0], int(fields[1])
        notes.append((stage, fields[2 : 2 + count]))
        fields = fields[2 + count :]
    return notes


def state_of(answers: Sequence[Answer]) -> str:
    """The state of a stage: that of its first step that is not up to date.

    Outputs that an earlier stage makes, too, do not show that this stage has begun.
    """
    for answer in answers:
        if answer.running:
            return f"running: {answer.running}"
        if answer.error:
            return f"cannot run: {answer.error}"
    waiting = [a for a in answers if a.reason]
    if not waiting:
        return "up to date" if answers else "no steps"
    if not any((a.made and not a.earlier) or a.reason.startswith("interrupted") for a in answers):
        return "not made yet"
    reason = re.sub(r"(follows [^,]+),.*", r"\1 and others", waiting[0].reason)
    return reason if len(answers) == 1 else f"{reason} ({waiting[0].out})"


def print_stages(answers: Sequence[Answer], stages: Sequence[str]) -> None:
    """Number, name, description, end of the last step, seconds of all steps, state; a step's time counts once."""
    for number, line in enumerate(stages, 1):
        name, _, about = line.partition("\t")
        mine = [a for a in answers if a.stage == name]
        own = [a for a in mine if not a.earlier]
        finished = max((a.finished for a in own), default="")
        seconds = [a.seconds for a in own if a.seconds is not None]
        when = f"{finished[:16].replace('T', ' ')} UTC" if finished else "-"
        print(f"{number:3d}  {name:<11} {about:<54} {when:<20} {clock(sum(seconds)) if seconds else '-':>8}  {state_of(mine)}")


def print_steps(answers: Sequence[Answer], stages: Sequence[str]) -> bool:
    """What each step of each stage would do; False if one cannot be planned."""
    for number, line in enumerate(stages, 1):
        name, _, about = line.partition("\t")
        mine = [a for a in answers if a.stage == name]
        if mine:
            print(f"== stage {number}: {name} ({about})")
        for a in mine:
            what = f"would fail: {a.error}" if a.error else f"would run ({a.reason})" if a.reason else "up to date"
            print(f"{a.name} -> {a.out}: {what}")
    return not any(a.error for a in answers)


def print_current(answers: Sequence[Answer], stages: Sequence[str]) -> None:
    """NAME<tab>LINE for each step of each stage that has nothing to do or print."""
    for line in stages:
        mine = [a for a in answers if a.stage == line.partition("\t")[0]]
        if all(a.finished and not (a.reason or a.error or a.running or a.speaks) for a in mine):
            for a in mine:
                print(f"{a.stage}\t{a.name}: up to date")


def print_refused(answers: Sequence[Answer]) -> bool:
    """REFUSED<tab>LINE for each problem with the place of an output; returns whether there is one."""
    for error in dict.fromkeys(a.error for a in answers if a.refused):
        print(*(f"REFUSED\t{line}" for line in f"error: {error}".splitlines()), sep="\n")
    return any(a.refused for a in answers)


def main() -> None:
    """list|steps|current|places WORK NOTES FORCE 'NAME<tab>ABOUT' ...: called by utils/recipe.sh."""
    what, work, notes, force, *stages = sys.argv[1:]
    os.environ.pop("KD_PLAN", None)
    asker = Asker(Path(work), force == "true")
    for stage, command in read_notes(Path(notes)):
        asker.ask(stage, command)
    if what == "list":
        print_stages(asker.answers, stages)
    elif what in ("current", "places"):
        if not print_refused(asker.answers) and what == "current":
            print_current(asker.answers, stages)
    elif not print_steps(asker.answers, stages):
        sys.exit(2 if any(a.refused for a in asker.answers) else 1)


if __name__ == "__main__":
    cli_main(main)
