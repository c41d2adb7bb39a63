"""Plans a recipe: what would run, and why.  In: the commands of its stages, noted by utils/plan.sh.  Out: a line per step or stage.

A step's main is called here, but its `run_step` only hands the step over (`kdtool.core.step.planner`), and `kdtool.core.state` decides
as for a run: nothing is run or written, and no plan is stored that could become wrong. A step whose input would be made again 'follows'
the step that makes it. A step whose output's place belongs to others is refused, so that a recipe stops before its first stage.
"""

import dataclasses
import importlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kdtool.core import step as step_module
from kdtool.core.cli import cli_main
from kdtool.core.digest import read_record
from kdtool.core.errors import KdError, UsageError
from kdtool.core.launch import expand
from kdtool.core.lock import holder_of
from kdtool.core.ownership import check_output, check_unasked
from kdtool.core.progress import clock
from kdtool.core.state import NOTHING, Step, why

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = "kdtool.core.launch"
CALL = re.compile(r'-m (\S+) "\$@"')  # in a script: the module that it runs
SWAPPING = "interrupted while the new output took the old one's place"


@dataclasses.dataclass
class Planned:
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
    always_prints: bool = False  # a run prints something even if nothing has changed
    earlier: bool = False  # an earlier stage makes it, too
    refused: bool = False  # its output's place holds files of others; `error` names them


class Planner:
    """Plans the steps in the order in which they run."""

    def __init__(self, work: Path, force: bool) -> None:
        self.work, self.force = Path(os.path.abspath(work)), force
        self.steps: list[Planned] = []
        self.remade: list[Path] = []  # outputs that would be made (again)
        self.stage = ""

    def add_command(self, stage: str, command: Sequence[str]) -> None:
        """A script of the toolkit with its arguments."""
        script = Path(command[0]).resolve()
        call = CALL.search(script.read_text(encoding="utf-8")) if script.is_relative_to(ROOT) and script.is_file() else None
        if call is None:
            raise KdError(f"{command[0]}: only scripts of this toolkit can be asked what they would run")
        self.add(stage, call[1], command[1:])

    def add(self, stage: str, module_name: str, argv: Sequence[str]) -> None:
        """A module with its arguments, of which the last is the output."""
        if module_name == LAUNCHER:
            self._add_launched(stage, argv)
            return
        self.stage, name, out = stage, module_name.rpartition(".")[2], Path(argv[-1])
        module: Any = importlib.import_module(module_name)
        before, sys.argv = sys.argv, [module_name, *argv]
        try:
            if calls_run_step(module):
                step_module.planner = self._add_step
                module.main()
            elif not hasattr(module, "would_run"):
                raise KdError(f"{module_name}: neither calls run_step nor says what it would run; this is a bug, please report it")
            elif self._may_write(name, [out], lambda _: module.check_outputs()):
                # It has no record: its output's modification time is its end. It reads all that is below a folder.
                inside = [place for place in self.remade if {Path(os.path.abspath(word)) for word in argv[:-1]} & set(place.parents)]
                finished = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(out.stat().st_mtime)) if out.exists() else ""
                reason = f"follows {self._short(inside[-1])}" if inside else module.would_run()
                self._note(name, reason, out, {"finished": finished}, always_prints=True)
        except (KdError, OSError) as e:
            outputs = module.outputs() if hasattr(module, "outputs") else [out]
            if self._may_write(name, [Path(os.path.abspath(p)) for p in outputs], check_unasked):
                self._add_failed(name, argv, str(e))
        finally:
            step_module.planner, sys.argv = None, before

    def _add_step(self, step: Step) -> None:
        """Called by run_step with the step's inputs, options and code: compare them with its record."""
        if not self._may_write(step.name, [step.out], lambda _: check_output(step)):
            return
        follows = {n: made for n, p in step.inputs.items() if (made := self._made_by(p))}
        for path in (p for n, p in step.inputs.items() if n not in follows and not os.path.exists(p)):
            raise KdError(f"{path}: missing; check the path")
        record = read_record(step.out)
        reason = NOTHING
        if record is not None or step.work.exists():
            key = dataclasses.replace(step, inputs={n: p for n, p in step.inputs.items() if n not in follows}).key({})
            # An input that would be made again is reported once, as followed.
            key["inputs"].update({n: d for n, d in ((record or {}).get("key") or {}).get("inputs", {}).items() if n in follows})
            reason = why(step, key, self.force) or (SWAPPING if step.old.exists() else "")
        if follows:
            names = _follows(follows.values())
            reason = names if reason in ("", NOTHING) else f"{reason}; {names}"
        self._note(step.name, reason, step.out, record, running=holder_of(step.lock))

    def _add_launched(self, stage: str, argv: Sequence[str]) -> None:
        """The steps that utils/launch.sh would start; if their list (NAME=@FILE) is not made yet, one step for all of them."""
        self.stage = stage
        listed = next((Path(word.partition("=@")[2]) for word in argv if re.fullmatch(r"[A-Z]+=@.+", word)), None)
        made = self._made_by(listed) if listed else ""
        if listed and (made or not listed.exists()):
            name = next((Path(w).stem for w in argv if w.endswith(".sh")), "launch")
            self._note(name, f"follows {made}" if made else f"{self._short(listed)} is not made yet", Path(argv[-1]))
            return
        for command in expand(argv).commands:
            self.add_command(stage, command)

    def _add_failed(self, name: str, argv: Sequence[str], error: str) -> None:
        """A step that could not be planned: its inputs are not made yet, or something is wrong."""
        words = [p for word in argv if "/" in word and not word.startswith("-") for p in word.split(",")]
        follows = [made for p in words if (made := self._made_by(Path(p)))]
        missing = [p for p in words if p != argv[-1] and self._is_ours(Path(p)) and not os.path.exists(p)]
        if follows:
            self._note(name, _follows(follows), Path(argv[-1]))
        elif missing:
            self._note(name, f"{self._short(Path(missing[0]))} is not made yet", Path(argv[-1]))
        else:
            self.steps.append(Planned(self.stage, name, self._short(Path(argv[-1])), error=error))

    def _may_write(self, name: str, outputs: Sequence[Path], check: Callable[[Path], None]) -> bool:
        """Whether all outputs pass the check; if not, the step is refused with the check's message."""
        for out in outputs:
            try:
                check(out)
            except UsageError as e:
                self.steps.append(Planned(self.stage, name.rpartition(".")[2], self._short(out), error=str(e), refused=True))
                return False
        return True

    def _note(self, name: str, reason: str, out: Path, record: dict[str, Any] | None = None, **more: Any) -> None:
        if reason:
            self.remade.append(Path(os.path.abspath(out)))
        short = self._short(out)
        earlier = any(s.out == short and s.stage != self.stage for s in self.steps)
        last = {name: record[name] for name in ("finished", "seconds") if name in record} if record else {}
        self.steps.append(Planned(self.stage, name, short, reason, made=os.path.exists(out), earlier=earlier, **last, **more))

    def _is_ours(self, path: Path) -> bool:
        return self.work in Path(os.path.abspath(path)).parents

    def _short(self, path: Path) -> str:
        return os.path.relpath(path, self.work) if self._is_ours(path) else str(path)

    def _made_by(self, path: Path) -> str:
        """The folder that would be made again and that contains the path, '' if none."""
        place = Path(os.path.abspath(path))
        return next((self._short(folder) for folder in (place, *place.parents) if folder in self.remade), "")


def calls_run_step(module: Any) -> bool:
    """Whether a module's main makes its outputs by run_step, itself or by a function that it imports: only then it may be asked."""
    return any("run_step" in getattr(value, "__globals__", {}) for value in vars(module).values())


def _follows(names: Iterable[str]) -> str:
    return "follows " + ", ".join(dict.fromkeys(names))


def read_notes(path: Path) -> list[tuple[str, list[str]]]:
    """(stage, command) of each command noted by utils/run_step.sh."""
    fields = path.read_bytes().decode(errors="surrogateescape").split("\0")[:-1] if path.exists() else []
    notes = []
    while fields:
        end = 2 + int(fields[1])
        notes.append((fields[0], fields[2:end]))
        fields = fields[end:]
    return notes


def state_of(steps: Sequence[Planned]) -> str:
    """The state of a stage: that of its first step that is not up to date.

    Outputs that an earlier stage makes, too, do not show that this stage has begun.
    """
    for step in steps:
        if step.running or step.error:
            return f"running: {step.running}" if step.running else f"cannot run: {step.error}"
    waiting = [s for s in steps if s.reason]
    if not waiting:
        return "up to date" if steps else "no steps"
    if not any((s.made and not s.earlier) or s.reason.startswith("interrupted") for s in steps):
        return "not made yet"
    reason = re.sub(r"(follows [^,]+),.*", r"\1 and others", waiting[0].reason)
    return reason if len(steps) == 1 else f"{reason} ({waiting[0].out})"


def print_stages(steps: Sequence[Planned], stages: Sequence[str]) -> None:
    """Number, name, description, end of the last step, seconds of all steps, state; a step's time counts once."""
    for number, name, about, inside in _by_stage(steps, stages):
        first = [s for s in inside if not s.earlier]
        finished = max((s.finished for s in first), default="")
        seconds = [s.seconds for s in first if s.seconds is not None]
        when = f"{finished[:16].replace('T', ' ')} UTC" if finished else "-"
        print(f"{number:3d}  {name:<11} {about:<54} {when:<20} {clock(sum(seconds)) if seconds else '-':>8}  {state_of(inside)}")


def print_steps(steps: Sequence[Planned], stages: Sequence[str]) -> None:
    """What each step of each stage would do."""
    for number, name, about, inside in _by_stage(steps, stages):
        if inside:
            print(f"== stage {number}: {name} ({about})")
        for s in inside:
            what = f"would fail: {s.error}" if s.error else f"would run ({s.reason})" if s.reason else "up to date"
            print(f"{s.name} -> {s.out}: {what}")


def print_current(steps: Sequence[Planned], stages: Sequence[str]) -> None:
    """NAME<tab>LINE for each step of each stage that has nothing to do or print."""
    for _, name, _, inside in _by_stage(steps, stages):
        if all(s.finished and not (s.reason or s.error or s.running or s.always_prints) for s in inside):
            for s in inside:
                print(f"{name}\t{s.name}: up to date")


def _by_stage(steps: Sequence[Planned], stages: Sequence[str]) -> Iterable[tuple[int, str, str, list[Planned]]]:
    """Number, name, description and steps of each stage."""
    for number, line in enumerate(stages, 1):
        name, _, about = line.partition("\t")
        yield number, name, about, [s for s in steps if s.stage == name]


def main() -> None:
    """list|steps|current|places WORK NOTES FORCE 'NAME<tab>ABOUT' ...: called by utils/plan.sh."""
    what, work, notes, force, *stages = sys.argv[1:]
    planner = Planner(Path(work), force == "true")
    for stage, command in read_notes(Path(notes)):
        planner.add_command(stage, command)
    steps = planner.steps
    refused = list(dict.fromkeys(s.error for s in steps if s.refused))
    if what == "list":
        print_stages(steps, stages)
    elif what == "steps":
        print_steps(steps, stages)
        if any(s.error for s in steps):
            sys.exit(2 if refused else 1)
    elif refused:  # what a recipe prints before it stops
        print(*(f"REFUSED\t{line}" for error in refused for line in f"error: {error}".splitlines()), sep="\n")
    elif what == "current":
        print_current(steps, stages)


if __name__ == "__main__":
    cli_main(main)
