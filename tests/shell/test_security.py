"""No input from disk runs code or escapes its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from bad_input_changes import Case, put, rows
from bad_input_data import Caller, copy_world, run_sh, snapshot, write_world
from bad_input_security import CASES, TOUCH
from bad_input_validate import SUP

SHELL = f"$({TOUCH}) `{TOUCH}`; {TOUCH} & {TOUCH} | {TOUCH} 'A' \"B\" *"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_world(root)
    return root


@pytest.fixture
def world(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy; the current folder is an empty one, where what runs by mistake would leave its mark."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return copy_world(sound, tmp_path / "w")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(monkeypatch, capsys)


def nothing_ran(world: Path) -> bool:
    return not os.listdir(Path.cwd()) and not list(world.parent.rglob("pwned"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused_and_nothing_ran(case: Case, world: Path, call: Caller) -> None:
    case.change(world)
    before = snapshot(world)
    status, told = call(case.step, world, *(word.replace("WORLD", str(world)) for word in case.options))
    assert status == case.status and "Traceback" not in told, told
    assert all(word in told for word in case.words), (case.words, told)
    assert snapshot(world) == before and nothing_ran(world)
    assert not list((world / "out").glob("**/.done.json"))


def test_transcripts_and_texts_with_shell_characters_are_only_text(world: Path, call: Caller) -> None:
    put("lm.txt", f"{SHELL}\nHELLO WORLD\n" * 20)(world)
    assert call("lm text", world)[0] == 0
    rows(SUP, lambda content: content[1].update(text=SHELL.upper()))(world)
    (world / "out").rename(world / "out_text")
    assert call("features", world)[0] == 0
    small = ["--bpe-size", "20", "--g2p", "false", "--max-oov", "1"]
    (world / "out").rename(world / "out_features")
    status, told = call("lang", world, *small)
    assert status == 0, told
    assert nothing_ran(world)


def test_folders_whose_names_are_shell_lines(world: Path, call: Caller) -> None:
    """Also 'pipe:', which some readers take for the beginning of a command."""
    for name in (f"$({TOUCH})", f"pipe:{TOUCH};#", f"a b;{TOUCH};", "-rf"):
        place = world / "data" / name
        (world / "data/train_clean_5").rename(place)
        from kdtool.features import extract

        os.chdir(world / "data")
        extract.main(["--nj", "1", "--", name, str(world / "out")])
        os.chdir(world.parent / "here")
        place.rename(world / "data/train_clean_5")
        assert nothing_ran(world)


@pytest.mark.parametrize("option", ["--work", "--corpus", "--stage", "--nj", "--lm-text"])
def test_recipe_options_are_only_words(option: str, tmp_path: Path) -> None:
    argv = ["--tiny", "--stop-stage", "1", "--work", str(tmp_path / "w"), "--corpus", "none", "--lm-text", "none", "--lexicon", "none"]
    done = run_sh(*argv, option, f"$({TOUCH}) `{TOUCH}`;{TOUCH}", cwd=tmp_path)
    assert done.returncode in (1, 2) and "error: " in done.stderr, done.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_results_cannot_close_their_comment() -> None:
    """RESULTS.md keeps how it was made in a comment: what a note says stays inside, and is read back as it was."""
    from kdtool.results.generated import parse_made
    from kdtool.results.tables import render

    made = {"title": "T", "note": "--> <script>", "command": "run.sh '-->'", "date": "d", "git": "g"}
    text = render([], made)
    comment = next(line for line in text.split("\n") if line.startswith("<!-- made: "))
    assert comment.count("-->") == 1 and comment.endswith("-->")
    assert parse_made(text, Path("RESULTS.md")) == made
    assert json.loads(comment[len("<!-- made: ") : -len(" -->")]) == made
