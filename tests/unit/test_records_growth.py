"""Records stay valid when the toolkit grows, and become stale when code or options that decided the result change.

Records are made by the steps' own mains (their bodies write little). Then a copy of the toolkit is changed, and asked what would run, as
--list-stages does it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdtool.core import main as core_main
from kdtool.core import source
from kdtool.core.stages import Planner
from kdtool.core.tables import read_json, write_json
from kdtool.decode import decode
from kdtool.formats.system import GMM, System
from kdtool.gmm import train_mono
from kdtool.posteriors import make
from kdtool.student import train as student
from kdtool.student.system import system_of
from kdtool.teacher import train as teacher

ASK = """
import json, sys
from pathlib import Path
from kdtool.core.stages import Planner

planner = Planner(Path(sys.argv[1]), False)
for module, argv in json.loads(sys.argv[2]):
    planner.add("stage", module, argv)
print(json.dumps({a.out.rpartition("/")[2]: a.error or a.reason or "up to date" for a in planner.steps}))
"""
OUTPUTS = ("mono", "decode_gmm", "teacher_phone", "mix", "post", "student", "soft", "decode_student", "decode_soft")
UP_TO_DATE = dict.fromkeys(OUTPUTS, "up to date")
STUDENTS, DECODES, TEACHERS = ("student", "soft"), ("decode_gmm", "decode_student", "decode_soft"), ("teacher_phone", "mix", "post")


def commands(root: Path) -> list[tuple[Any, list[str]]]:
    """A small recipe: module and arguments of each step, in order."""
    def paths(*names: str) -> list[str]:
        return [str(root / n) for n in names]

    trained = ["lm_text", "lang", "mono", "ali", "ali"]
    head = json.dumps([{"unit": "phone", "layer": 1, "weight": 0.3}])
    return [
        (train_mono, paths("fbank", "lang", "mono")),
        (decode, ["--graph", *paths("graph", "mono", "fbank", "lang", "decode_gmm")]),
        (teacher, ["--kind", "ngram", *paths(*trained, "teacher_phone")]),
        (teacher, ["--kind", "mix", "--teachers", str(root / "teacher_phone"), "--options", "{lstm: {}}", *paths(*trained, "mix")]),
        (make, paths("lang", "mix", "ali", "post")),
        (student, ["--encoder", "tdnnf", "--lr", "0.004", *paths("fbank", "ali", "fbank", "ali", "student")]),
        (student, ["--encoder", "blstm", "--heads", head, "--posts", str(root / "post"), *paths("fbank", "ali", "fbank", "ali", "soft")]),
        (decode, ["--graph", *paths("graph", "student", "fbank", "lang", "decode_student")]),
        (decode, ["--graph", *paths("graph", "soft", "fbank", "lang", "decode_soft")]),
    ]


def teacher_body(paths: dict[str, Path], cfg: teacher.Config, work: Path) -> None:
    info = {"parts": {"ngram": {}, "lstm": {}}} if cfg.kind == "mix" else {}
    write_json(work / "teacher.json", {"format": "kdtool teacher 1", "kind": cfg.kind, "info": info})


def student_body(cfg: Any, inputs: dict[str, Path], posts: list[Path], work: Path) -> None:
    system_of(cfg, posts, cfg.precision).write(work)
    (work / "model.safetensors").write_text("weights")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    root = tmp_path_factory.mktemp("run")
    for name in ("fbank", "lang", "lm_text", "ali", "graph"):
        (root / name).mkdir()
        (root / name / "content").write_text(name)
    bodies: list[tuple[Any, str, Any]] = [
        (train_mono, "train_mono", lambda paths, work, cfg, nj: System(GMM, cfg.seed).write(work) or tree_and_model(work)),
        (decode, "decode", lambda paths, cfg, common, work: (work / "score.json").write_text("{}")),
        (teacher, "train", teacher_body), (student, "train", student_body),
        (make, "dump", lambda paths, cfg, work, nj: write_json(work / "meta.json", {"unit": "phone"})),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for module, name, body in bodies:
            patch.setattr(module, name, body)
            patch.setattr(module if hasattr(module, "door") else core_main, "door", lambda *_, **__: lambda: None)
        for module, argv in commands(root):
            module.main(argv)
    return root


def tree_and_model(work: Path) -> None:
    for name in ("tree.safetensors", "gmm.safetensors"):
        (work / name).write_text(name)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("toolkit") / "kdtool"
    return Path(shutil.copytree(source.ROOT / "kdtool", place, ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def toolkit(copy: Path) -> Iterator[Path]:
    """A copy of the package, to be changed; put right afterwards, so that what stays the same is parsed once."""
    original = source.ROOT / "kdtool"
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    yield copy
    for path in [p for p in copy.rglob("*") if p.is_file() and p.read_bytes() != before.get(p)]:
        path.unlink()
        if path in before:
            shutil.copy(original / path.relative_to(copy), path)


def ask(toolkit: Path, root: Path) -> dict[str, str]:
    """Output -> what would run there; asked in a process that runs the copy."""
    words = json.dumps([(module.__name__, argv) for module, argv in commands(root)])
    done = subprocess.run([sys.executable, "-c", ASK, str(root), words], capture_output=True, text=True, check=False, cwd=toolkit.parent,
                          env={**os.environ, "PYTHONPATH": str(toolkit.parent), "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def ask_here(toolkit: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same with the copy's source but this process's defaults of options: faster."""
    monkeypatch.setattr(source, "ROOT", toolkit.parent)
    planner = Planner(root, False)
    for module, argv in commands(root):
        planner.add("stage", module.__name__, argv)
    return {a.out: a.error or a.reason or "up to date" for a in planner.steps}


def change(toolkit: Path, name: str, old: str, new: str) -> None:
    text = (toolkit / name).read_text()
    assert old in text, f"{name} has no {old!r}: the test has to follow"
    (toolkit / name).write_text(text.replace(old, new, 1))


def add_code(path: Path) -> None:
    path.write_text(path.read_text() + "\nCHANGED = 1\n")


def test_what_is_added_makes_nothing_stale(finished: Path, toolkit: Path) -> None:
    """An encoder, a teacher kind, losses, a kind of model, a registry line each; options with a default, and checks of them."""
    assert ask(toolkit, finished) == UP_TO_DATE
    for new, like in (("student/encoders/mine.py", "student/encoders/tdnn.py"), ("teacher/mine.py", "teacher/ngram.py"),
                      ("objectives/mine.py", "objectives/soft.py"), ("decode/mine_scores.py", "decode/student_scores.py")):  # fmt: skip
        shutil.copy(toolkit / like, toolkit / new)
    change(toolkit, "student/encoders/__init__.py", '    "tdnn":', '    "mine": "kdtool.student.encoders.mine:Tdnn",\n    "tdnn":')
    change(toolkit, "teacher/registry.py", '    "ngram":', '    "mine": "kdtool.teacher.mine:NgramTeacher",\n    "ngram":')
    change(toolkit, "teacher/registry.py", 'over_teachers=("masked_ngram",', 'over_teachers=("mine", "masked_ngram",')
    for place in ('    "ce":', '    "decoupled":'):
        change(toolkit, "objectives/__init__.py", place, f'    "mine": "kdtool.objectives.mine:SoftLabels",\n{place}')
    change(toolkit, "decode/acoustic.py", '    "gmm":', '    "mine": "kdtool.decode.mine_scores:StudentScores",\n    "gmm":')
    change(toolkit, "student/config.py", "    seed: int", "    mine: float = 0.5\n    seed: int")
    change(toolkit, "student/config.py", "        if self.chunk < 0:", '        if self.mine < 0:\n            raise UsageError("mine")\n'
                                                                      "        if self.chunk < 0:")  # fmt: skip
    change(toolkit, "student/config.py", "    top_k: int = 0", '    mine: str = ""\n    top_k: int = 0')
    for name, field in (("decode/config.py", "    nbest: int"), ("teacher/train.py", "    seed: int"),
                        ("posteriors/make.py", "    mass: float"), ("gmm/train_mono.py", "    seed: int")):  # fmt: skip
        change(toolkit, name, field, f'    mine: list = field(default_factory=list, metadata={{"help": "mine"}})\n{field}')
    change(toolkit, "teacher/ngram.py", "    memory: ", "    mine: int = 3\n    memory: ")
    assert ask(toolkit, finished) == UP_TO_DATE


MODELS = (*STUDENTS, "decode_student", "decode_soft")


@pytest.mark.parametrize(("name", "stale"), [
    ("student/encoders/tdnnf.py", ("student", "decode_student")),
    ("student/encoders/base.py", MODELS),
    ("student/model.py", MODELS),
    ("student/loop.py", STUDENTS),
    ("student/kinds/hybrid.py", STUDENTS),
    ("student/subset.py", STUDENTS),
    ("student/encoders/conformer.py", ()),
    ("objectives/ce.py", STUDENTS),
    ("objectives/soft.py", ("soft",)),
    ("objectives/decoupled.py", ()),
    ("decode/score_files.py", DECODES),
    ("decode/gmm_scores.py", ("decode_gmm",)),
    ("decode/graph_recogniser.py", DECODES),
    ("gmm/model.py", ("mono", "decode_gmm")),
    ("gmm/tree_build.py", ()),
    ("teacher/base.py", TEACHERS),
    ("teacher/ngram.py", TEACHERS),
    ("teacher/lstm.py", ("mix", "post")),
    ("teacher/blstm.py", ()),
    ("validate/model.py", ()),
    ("core/step.py", ()),
])  # fmt: skip
def test_what_decides_a_result_makes_it_stale(
    finished: Path, toolkit: Path, name: str, stale: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_code(toolkit / name)
    found = ask_here(toolkit, finished, monkeypatch)
    # A step whose input would be made again follows that one, whether or not its own code is the same.
    changed = {out for out, reason in found.items() if reason.startswith("changed")}
    assert changed == {*stale}, found
    assert all(reason == "up to date" or reason.startswith(("changed", "follows")) for reason in found.values()), found


def test_a_changed_default_makes_stale_what_has_not_set_the_option(finished: Path, toolkit: Path) -> None:
    add_code(toolkit / "student/loop.py")
    change(toolkit, "student/config.py", "lr: float = field(default=0.002", "lr: float = field(default=0.003")
    change(toolkit, "student/config.py", "    top_k: int = 0", "    top_k: int = 1")
    change(toolkit, "decode/config.py", "nbest: int = field(default=100", "nbest: int = field(default=90")
    found = ask(toolkit, finished)
    code = "code of kdtool/student/config.py:HeadSpec.top_k and 1 more"
    assert found["soft"] == f"changed: option lr 0.002 -> 0.003, {code}"
    assert found["student"] == f"changed: {code}", "it was given its lr"
    assert found["decode_gmm"] == "changed: option nbest 100 -> 90"
    assert found["decode_soft"] == "changed: option nbest 100 -> 90; follows soft"
    assert [out for out, reason in found.items() if reason == "up to date"] == ["mono", "teacher_phone", "mix", "post"]


def test_another_class_under_the_chosen_name(finished: Path, toolkit: Path) -> None:
    change(toolkit, "student/encoders/__init__.py", "tdnnf:TdnnF", "tdnn:Tdnn")
    found = ask(toolkit, finished)
    assert {out for out, reason in found.items() if reason.startswith("changed: code of kdtool")} == {"student", "decode_student"}


def test_an_option_that_was_added_and_then_got_another_default(finished: Path, toolkit: Path) -> None:
    """The record does not know the option: what it did before is in its metadata."""
    new = 'mine: int = field(default=2, metadata={"before": 1})\n    seed: int'
    change(toolkit, "student/config.py", "seed: int", new)
    change(toolkit, "teacher/ngram.py", "    memory: ", f"    {new.replace('seed: int', 'memory: ')}")
    found = ask(toolkit, finished)
    assert found["student"] == "changed: option mine 1 -> 2"
    assert found["teacher_phone"] == "changed: code of kdtool/teacher/ngram.py, no longer 1: NgramOptions.mine"
    for name in ("student/config.py", "teacher/ngram.py"):
        change(toolkit, name, "default=2", "default=1")
    assert ask(toolkit, finished) == UP_TO_DATE


def test_records_of_older_versions_are_read(finished: Path, toolkit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have one digest of all code, know no plain options, and their models have no system.json: stale once, by their code alone."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for place in sorted(run.glob("**/.done.json")):
        record = read_json(place)
        key = {name: record["key"][name] for name in ("inputs", "options")}
        write_json(place, {**record, "key": {**key, "code": "0123456789abcdef"}})
    found = ask_here(toolkit, run, monkeypatch)
    assert {reason.partition(";")[0] for reason in found.values()} == {"changed: code"}
    assert found["mono"] == "changed: code" and found["decode_gmm"] == "changed: code; follows mono"
