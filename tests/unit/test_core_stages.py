"""Planning a recipe: every step is checked, none is run, and steps that follow say which one they follow."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtool.core import stages
from kdtool.core.cli import Common
from kdtool.core.step import run_step

MODULE = """
import sys
from pathlib import Path
from kdtool.core.cli import Common
from kdtool.core.errors import KdError
from kdtool.core.step import run_step

def body(work):
    raise AssertionError("a step ran")

def main():
    size, *inputs, out = sys.argv[1:]
    for path in inputs:
        if not Path(path).exists() and "early" in sys.argv[0]:
            raise KdError(f"{path}: no such file")
    named = {Path(p).name: Path(p) for p in inputs}
    run_step("toy", out=Path(out), inputs=named, options={"size": size}, code=(), body=body, common=Common())
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with source -> a -> b, c made from b alone, all of size 1; and the modules toy_step and toy_early."""
    for name in ("toy_step", "toy_early"):
        (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "source").write_text("one")
    make(tmp_path, "a", "source")
    make(tmp_path, "b", "a")
    make(tmp_path, "c", "b")
    yield tmp_path
    for name in ("toy_step", "toy_early"):
        sys.modules.pop(name, None)


def make(work: Path, out: str, *inputs: str) -> None:
    run_step("toy", out=work / out, inputs={n: work / n for n in inputs}, options={"size": "1"}, code=(), common=Common(),
             body=lambda w: (w / "result").write_text(out))  # fmt: skip


def plan(work: Path, *commands: str, force: bool = False, module: str = "toy_step") -> dict[str, str]:
    """Out -> what would run; a command is 'SIZE INPUT OUT', names below the folder."""
    planner = stages.Planner(work, force)
    for command in commands:
        size, *names = command.split()
        planner.add("stage", module, [size, *(str(work / n) for n in names)])
    return {a.out: a.error or a.reason for a in planner.steps}


def test_nothing_changed(work: Path) -> None:
    assert plan(work, "1 source a", "1 a b", "1 b c") == {"a": "", "b": "", "c": ""}


def test_a_changed_option_and_what_follows(work: Path) -> None:
    assert plan(work, "1 source a", "2 a b", "1 b c") == {"a": "", "b": "changed: option size 1 -> 2", "c": "follows b"}


def test_a_changed_input_and_what_follows(work: Path) -> None:
    (work / "source").write_text("two")
    assert plan(work, "1 source a", "2 a b", "1 b c") == {
        "a": "changed: input source", "b": "changed: option size 1 -> 2; follows a", "c": "follows b",
    }  # fmt: skip


def test_altered_interrupted_forced(work: Path) -> None:
    (work / "a" / "result").write_text("altered")
    altered = "changed: its output was altered, result has 7 bytes, was made with 1"
    assert plan(work, "1 source a", "1 a b") == {"a": altered, "b": "follows a"}
    make(work, "a", "source")
    (work / ".d.work").mkdir()
    (work / ".d.work" / ".key.json").write_text("{}")
    assert plan(work, "1 source d") == {"d": "interrupted, begins again"}
    assert plan(work, "1 source a", "1 a b", force=True) == {"a": "forced", "b": "forced; follows a"}


@pytest.mark.parametrize("module", ["toy_step", "toy_early"])
def test_what_is_not_there_yet_and_what_never_will_be(work: Path, module: str) -> None:
    assert plan(work, "1 source new", "1 new newer", module=module) == {"new": "no output yet", "newer": "follows new"}
    assert plan(work, "1 later new", module=module) == {"new": "later is not made yet"}
    assert "no such file" in plan(work, "1 ../nowhere new", module="toy_early")["new"]


def test_a_launcher_whose_list_is_yet_to_be_made_follows_it(work: Path) -> None:
    def launched(planner: stages.Planner) -> str:
        argv = ["--max-jobs", "1", f"SYS=@{work}/new/names", f"{work}/SYS.log", "steps/train.sh", f"{work}/SYS"]
        planner.add("stage", stages.LAUNCHER, argv)
        last = planner.steps[-1]
        return f"{last.name} -> {last.out}: {last.reason}"

    planner = stages.Planner(work, False)
    assert launched(planner) == "train -> SYS: new/names is not made yet"
    planner.add("stage", "toy_step", ["1", str(work / "source"), str(work / "new")])
    assert launched(planner) == "train -> SYS: follows new"


def test_states_of_a_stage() -> None:
    def answer(reason: str, made: bool = True, running: str = "") -> stages.Planned:
        return stages.Planned("s", "step", "exp/x", reason, made=made, running=running)

    assert stages.state_of([answer(""), answer("")]) == "up to date"
    assert stages.state_of([answer(""), answer("changed: code")]) == "changed: code (exp/x)"
    assert stages.state_of([answer("no output yet", made=False)]) == "not made yet"
    assert stages.state_of([answer("interrupted, begins again", made=False)]) == "interrupted, begins again"
    assert stages.state_of([answer("interrupted, begins again", running="run.sh (pid 7)")]) == "running: run.sh (pid 7)"


def test_a_step_of_two_stages_counts_for_the_first(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the graphs of `graphs` and `ablation`: that they are there does not mean that the second stage has begun."""
    planner = stages.Planner(work, force=False)
    for stage, source, out in (("one", "source", "a"), ("two", "source", "a"), ("two", "a", "new")):
        planner.add(stage, "toy_step", ["1", str(work / source), str(work / out)])
    stages.print_stages(planner.steps, ["one\tfirst", "two\tsecond"])
    first, second = capsys.readouterr().out.splitlines()
    assert " UTC " in first and first.endswith("  up to date")
    assert " UTC " not in second and second.split()[-5:] == ["-", "-", "not", "made", "yet"]
    (work / "source").write_text("changed")
    planner = stages.Planner(work, force=False)
    for stage in ("one", "two"):
        planner.add(stage, "toy_step", ["1", str(work / "source"), str(work / "a")])
    assert [stages.state_of([a]).partition(":")[0] for a in planner.steps] == ["changed", "not made yet"]


def test_what_is_current_is_told_and_nothing_else(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planner = stages.Planner(work, force=False)
    for stage, argv in (("one", "1 source a"), ("two", "1 a b"), ("three", "2 b c")):
        size, *names = argv.split()
        planner.add(stage, "toy_step", [size, *(str(work / n) for n in names)])
    stages.print_current(planner.steps, ["one\tfirst", "two\tsecond", "three\tthird", "four\tno steps"])
    assert capsys.readouterr().out == "one\ttoy: up to date\ntwo\ttoy: up to date\n"
    (work / ".b.old").mkdir()  # a run was killed while b took its place
    planner = stages.Planner(work, force=False)
    planner.add("two", "toy_step", ["1", str(work / "a"), str(work / "b")])
    stages.print_current(planner.steps, ["two\tsecond"])
    assert capsys.readouterr().out == ""
    assert planner.steps[0].reason == stages.SWAPPING


def test_every_script_of_a_recipe_can_be_planned() -> None:
    """Its module makes its outputs by records, perhaps with a helper that calls run_step, or says what it would run."""
    scripts = sorted((stages.ROOT / "steps").glob("*.sh"))
    calls = {script: stages.CALL.search(script.read_text(encoding="utf-8")) for script in [*scripts, *stages.ROOT.glob("local/*/*.sh")]}
    assert all(calls[script] for script in scripts) and sum(call is not None for call in calls.values()) > len(scripts)
    for script, call in calls.items():
        if call:
            module = importlib.import_module(call[1])
            assert stages.calls_run_step(module) != hasattr(module, "would_run"), script
