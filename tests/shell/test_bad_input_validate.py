"""The validators name every class of problem, write nothing, and find nothing wrong with what is sound."""

from __future__ import annotations

from pathlib import Path

import bad_input_models
import bad_input_validate
import numpy as np
import pytest
from bad_input_changes import Case
from bad_input_data import VALIDATORS, Caller, copy_world, snapshot, write_world


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_world(root)
    return root


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(monkeypatch, capsys)


@pytest.mark.parametrize("name", list(VALIDATORS))
def test_what_is_sound_is_fine(name: str, sound: Path, call: Caller) -> None:
    before = snapshot(sound)
    status, told = call(f"validate {name}", sound)
    assert status == 0 and ": fine (" in told, told
    assert snapshot(sound) == before


@pytest.mark.parametrize("case", [*bad_input_validate.CASES, *bad_input_models.CASES], ids=str)
def test_a_problem_is_named_and_listed(case: Case, sound: Path, tmp_path: Path, call: Caller) -> None:
    world = copy_world(sound, tmp_path / "w")
    case.change(world)
    before = snapshot(world)
    items = tmp_path / "items.tsv"
    status, told = call(case.step, world, "--items", str(items), *case.options)
    assert status == case.status and "Traceback" not in told, told
    assert all(word in told for word in case.words), (case.words, told)
    head, *rows = [line.split("\t") for line in items.read_text(encoding="utf-8").splitlines()]
    assert head == ["class", "item", "file", "found", "expected"] and rows and all(len(row) == 5 for row in rows)
    assert {row[0] for row in rows} == {line.split(": ")[1] for line in told.splitlines() if line.startswith(("problem: ", "warning: "))}
    assert snapshot(world) == before


POSTERIORS = [
    ("unit", {"unit_ids": [6, 1]}, "expected below 6"),
    ("unit", {"ids": [0, 9, 2]}, "expected below 6"),
    ("log-probability", {"logp": [np.log(0.5), 0.5, 0.0]}, "expected at most 0"),
    ("log-probability", {"rest_logp": [np.nan, -np.inf]}, "expected at most 0"),
    ("mass", {"logp": [-30.0, np.log(0.25), 0.0]}, "unit 0 (0.5000; 1 of 2 units, expected 1)"),
    ("nothing-kept", {"offsets": [0, 3, 3]}, "1 units"),
]


@pytest.mark.parametrize(("name", "wrong", "words"), POSTERIORS)
def test_numbers_of_a_dump(name: str, wrong: dict[str, list[float]], words: str) -> None:
    """Inside a sound shard: the packed form cannot say most of these, a dump of another program may."""
    from kdtool.core.findings import Report
    from kdtool.posteriors.dump import UnitPosteriors
    from kdtool.validate import dump

    sound = {"unit_ids": [0, 1], "start": [0, 3], "length": [3, 3], "offsets": [0, 2, 3], "ids": [0, 1, 2],
             "logp": [np.log(0.5), np.log(0.25), 0.0], "rest_logp": [np.log(0.25), -np.inf]}  # fmt: skip
    for numbers, told in ((sound, ""), ({**sound, **wrong}, words)):
        report = Report(Path("d"), dump.CLASSES)
        dump._check_posteriors(report, "u", UnitPosteriors(**{k: np.array(v) for k, v in numbers.items()}), 6, Path("s"))
        assert report.problems == ([name] if told else []) and told in "".join(map(report.line, report.found))
