"""system.json: training describes the system once; decoding, tables and report read it; old folders are described from config.yaml."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from student_data import write_dump, write_set
from test_student_train import SMALL, heads

from kdtool.core import device
from kdtool.core.errors import KdError, UsageError
from kdtool.core.stages import Planner
from kdtool.core.state import Step, why
from kdtool.core.tables import read_json, write_json
from kdtool.decode import decode
from kdtool.formats.system import FILE, LABEL_LOSSES, System, learns_of, read_system
from kdtool.objectives import AUX_OBJECTIVES, MAIN_OBJECTIVES
from kdtool.report import choice
from kdtool.results.collect import ORDER, order_of
from kdtool.student.config import StudentConfig
from kdtool.student.heads import head_specs
from kdtool.student.loop import Trainer
from kdtool.student.system import system_of
from kdtool.student.train import main, resolved

SOFT = {"unit": "phone", "layer": 2, "weight": 0.3}


def described(folder: Path, config: dict[str, Any]) -> System:
    """The system of a folder without system.json that was trained with ``config``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return read_system(folder)


@pytest.mark.parametrize(("main_loss", "kinds", "objective", "learns"), [
    ("ce", [], "ce", "alignment"),
    ("ce", ["hard"], "ce+multitask", "labels"),
    ("ce", ["soft"], "ce+hmt", "heads"),
    ("ce", ["soft", "hard"], "ce+hmt", "heads"),
    ("ce", ["interpolate"], "ce+interpolate", "heads"),
    ("ce", ["decoupled", "hard"], "ce+decoupled", "heads"),
    ("interpolate", [], "interpolate", "main"),
    ("interpolate", ["hard"], "interpolate+multitask", "main"),
])  # fmt: skip
def test_objective_and_what_it_learns_from(tmp_path: Path, main_loss: str, kinds: list[str], objective: str, learns: str) -> None:
    options = {"main": main_loss, "heads": [{**SOFT, "layer": n, "kind": kind} for n, kind in enumerate(kinds)]}
    old, new = described(tmp_path, options), system_of(StudentConfig(**options), [], "float32")  # type: ignore[arg-type]
    assert old.objective == new.objective == objective and old.learns_from == new.learns_from == learns
    assert old.row() == {**new.row(), "seed": None} and learns_of(objective, old.row()["heads"]) == learns


def test_the_losses_known_for_labels_read_labels_alone() -> None:
    for registry in (MAIN_OBJECTIVES, AUX_OBJECTIVES):
        assert not any(registry[name].uses_posteriors for name in LABEL_LOSSES.intersection(registry))


@pytest.mark.parametrize(("options", "objective", "learns"), [
    ({"heads": [{**SOFT, "kind": "smooth"}]}, "ce+multitask", "labels"),
    ({"heads": [{**SOFT, "kind": "smooth"}, {**SOFT, "layer": 1, "kind": "soft"}]}, "ce+hmt", "heads"),
    ({"main": "smooth"}, "smooth", "alignment"),
])  # fmt: skip
def test_a_new_loss_of_labels_is_a_registry_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], objective: str, learns: str
) -> None:
    for registry in (MAIN_OBJECTIVES, AUX_OBJECTIVES):
        monkeypatch.setitem(registry.entries, "smooth", "kdtool.objectives.ce:CrossEntropy")
    system_of(StudentConfig(**options), [], "float32").write(tmp_path)
    system = read_system(tmp_path)
    row = system.row()
    assert (system.objective, system.learns_from) == (objective, learns)
    assert row.get("learns_from") or learns_of(objective, row["heads"]) == learns
    assert order_of({**row, "system": "a", "set": "dev", "lm": "", "decode": ""})[0] == ORDER.index(learns)


def test_temperatures_are_those_of_the_heads_options(tmp_path: Path) -> None:
    options = {"seed": 3, "heads": [{**SOFT, "options": {"temperature": 4}}, {**SOFT, "unit": "senone", "kind": "hard"}]}
    rows = [described(tmp_path, options).row(), system_of(StudentConfig(**options), [], "float32").row()]  # type: ignore[arg-type]
    assert rows[0] == rows[1] and rows[0]["seed"] == 3
    assert [(h["kind"], h["temperature"], h["weight"]) for h in rows[0]["heads"]] == [("soft", 4.0, 0.3), ("hard", 1.0, 0.3)]


def train_small(root: Path, *options: str) -> Path:
    """A tiny student by its step, from synthetic data that is written the first time."""
    if not (root / "fbank").exists():
        write_set(root)
        for unit in ("senone", "phone"):
            write_dump(root / f"teacher_{unit}" / "post_train", root / "ali", unit)
    argv = [str(root / p) for p in ("fbank", "ali", "fbank", "ali", "student")] + ["--epochs", "1", *options]
    for name, value in SMALL.items():
        argv += [f"--{name.replace('_', '-')}", json.dumps(value) if isinstance(value, dict) else str(value)]
    main(argv)
    return root / "student"


def test_training_writes_what_it_was(tmp_path: Path) -> None:
    wanted = [{**h, "top_k": 2, "options": {"temperature": 2}} for h in heads("soft")]
    posts = [str(tmp_path / f"teacher_{unit}" / "post_train") for unit in ("senone", "phone")]
    folder = train_small(tmp_path, "--heads", json.dumps(wanted), "--posts", ",".join(posts), "--seed", "5", "--precision", "auto")
    content, system = read_json(folder / FILE), read_system(folder)
    assert system.write(tmp_path) is None and read_json(tmp_path / FILE) == content, "what is read is what was written"
    assert (content["kind"], content["objective"], content["seed"]) == ("hybrid", "ce+hmt", 5)
    learnt = [(h["unit"], h["loss"], h["temperature"], h["top_k"]) for h in system.heads]
    assert learnt == [("senone", "soft", 2.0, 2), ("phone", "soft", 2.0, 2)]
    assert [t["dump"] for t in system.teachers] == ["teacher_senone/post_train", "teacher_phone/post_train"]
    assert system.encoder == {"name": "tdnnf", "options": SMALL["encoder_options"]}
    precision = resolved(StudentConfig(precision="auto"), folder).precision
    assert system.precision == precision == read_json(folder / "student.json")["precision"]
    specs = head_specs(folder)
    assert [(s.kind, s.unit, s.top_k, s.hidden, s.options) for s in specs] == [
        ("soft", unit, 2, 8, {"temperature": 2}) for unit in ("senone", "phone")
    ]
    (folder / FILE).unlink()
    assert head_specs(folder) == specs
    old = dataclasses.asdict(read_system(folder))
    assert {**dataclasses.asdict(system), "step": "", "teachers": ()} == {**old, "teachers": ()}, "the old record, as far as it goes"
    assert [t["dump"] for t in old["teachers"]] == [t["dump"] for t in content["teachers"]]


@pytest.mark.parametrize("content", ["[]", '{"format": "kdtool system 0"}', '{"format": "kdtool system 1"}',
                                     '{"format": "kdtool system 1", "kind": "hybrid", "heads": [1], "teachers": []}'])  # fmt: skip
def test_a_damaged_description_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(KdError, match=r"system\.json: .*train this model again"):
        read_system(tmp_path)


def test_systems_stand_in_the_order_of_what_they_learn_from() -> None:
    def row(name: str, objective: str, *kinds: str) -> dict[str, Any]:
        return {"system": name, "objective": objective, "heads": [{"kind": k} for k in kinds], "set": "dev", "lm": "l", "decode": "d"}

    rows = [row("sat", "gmm"), row("a", "ce+decoupled", "decoupled"), row("b", "ce"), row("mono", "gmm"), row("c", "interpolate"),
            row("d", "ce+multitask", "hard"), row("e", "ce+hmt", "soft")]  # fmt: skip
    assert [r["system"] for r in sorted(rows, key=order_of)] == ["mono", "sat", "b", "d", "c", "a", "e"]


def test_the_report_trusts_the_record_before_the_plan() -> None:
    """A base with heads: nothing is 'changed', so the plan's options would say cross-entropy."""
    system = {"changed": {}, "students": [{"learns_from": "heads"}]}
    assert choice.taught(system) == "heads" and choice.taught({"changed": {}, "students": [{}]}) == ""


def test_precision_auto_is_resolved_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cpus = tmp_path / "cpuinfo"
    cpus.write_text("flags : fpu avx512_bf16\n")
    monkeypatch.setattr(device, "CPUINFO", cpus)
    folder = train_small(tmp_path, "--precision", "auto")
    assert read_json(folder / ".done.json")["key"]["options"]["precision"] == read_system(folder).precision == "bfloat16"
    cpus.write_text("flags : fpu\n")  # another machine
    capsys.readouterr()
    train_small(tmp_path, "--precision", "auto", "--dry-run")
    assert "would run (changed: option precision bfloat16 -> float32)" in capsys.readouterr().out
    train_small(tmp_path, "--precision", "bfloat16")
    assert "up to date" in capsys.readouterr().out


def test_training_goes_on_in_the_arithmetic_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "CPUINFO", cpus)
    cpus.write_text("flags : fpu amx_bf16\n")
    whole = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self: whole(self, stop_after=1) or (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_small(tmp_path, "--precision", "auto", "--checkpoint-every", "1")
    cpus.write_text("flags : fpu\n")  # another machine
    monkeypatch.setattr(Trainer, "run", whole)
    folder = train_small(tmp_path, "--precision", "auto", "--checkpoint-every", "1")
    assert read_system(folder).precision == "bfloat16"
    assert not list(tmp_path.glob(".student*work"))


def test_an_interrupted_run_that_begins_again_says_why(tmp_path: Path) -> None:
    step = Step("toy", tmp_path / "out", {}, {"precision": "float32"}, (), lambda work: None, True)
    step.work.mkdir()
    key = step.key({})
    write_json(step.work / ".key.json", {**key, "options": {"precision": "bfloat16"}})
    assert why(step, key) == "interrupted, begins again (changed: option precision bfloat16 -> float32)"


def test_decoding_into_a_model_folder_without_a_record_is_refused_before_any_work(tmp_path: Path) -> None:
    """A model that was copied without its .done.json: the decode would change what it reads, search for minutes and then fail."""
    for name in ("student", "fbank", "graph", "lang"):
        (tmp_path / name).mkdir()
    argv = ["--graph", *(str(tmp_path / p) for p in ("graph", "student", "fbank", "lang", "student/decode_dev"))]
    with pytest.raises(UsageError, match=r"student/decode_dev lies inside .*/student, the input model, which has no record \("):
        decode.main(argv)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["fbank", "graph", "lang", "student"]
    planner = Planner(tmp_path, False)
    planner.add("decode", "kdtool.decode.decode", argv)
    assert "lies inside" in planner.steps[0].error
