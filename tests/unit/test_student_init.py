"""Initial weights from a finished student: a second phase, another kind on a trained encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from student_data import make_training_set, write_dump, write_set
from test_student_kinds import RunCounter, config

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tensors import load_tensors
from kdtool.student.config import StudentConfig
from kdtool.student.loop import Trainer
from kdtool.student.registry import KINDS
from kdtool.student.train import main

HEAD = {"unit": "senone", "layer": 1, "weight": 0.3, "hidden": 8, "kind": "hard"}
ENCODER = {"dim": 24, "bottleneck": 8, "contexts": [1, 1]}
OTHER = {**HEAD, "layer": 2}


def student(root: Path, name: str, *options: str) -> Path:
    """A small student of a small set with one dump."""
    if not (root / "ali").exists():
        write_set(root)
        write_dump(root / "lm", root / "ali", "senone")
    places = [str(root / p) for p in ("fbank", "ali", "fbank", "ali", name)]
    small = ["--epochs", "1", "--chunk", "30", "--batch", "6", "--encoder-options", json.dumps(ENCODER)]
    main([*places, *small, "--posts", str(root / "lm"), *options])
    return root / name


def begun(root: Path, **options: Any) -> Trainer:
    """A trainer that has made no update."""
    data = make_training_set()
    return Trainer(config(encoder_options=ENCODER, hidden=256, seed=7, **options), data, data, root)


def test_a_second_phase_begins_with_the_weights_of_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = student(tmp_path, "first", "--heads", json.dumps([HEAD, OTHER]))
    trained = load_tensors(first / "heads.safetensors")
    trainer = begun(tmp_path, init=first)
    assert "tensors from" in capsys.readouterr().err
    for name, tensor in trainer.model.state_dict().items():
        assert (name == "log_priors") != bool(np.array_equal(tensor.numpy(), trained[name])), name
    state = trainer.average.state if trainer.average else {}
    assert torch.equal(state["main.output.weight"], trainer.model.state_dict()["main.output.weight"])
    second = student(tmp_path, "second", "--init", str(first), "--heads", json.dumps([HEAD]), "--lr", "1e-9", "--warmup", "0")
    again = load_tensors(second / "model.safetensors")
    assert np.allclose(again["encoder.layers.0.affine.weight"], trained["encoder.layers.0.affine.weight"], atol=1e-3)
    assert "aux.senone_hard_1.output.weight" in load_tensors(second / "heads.safetensors")


def test_another_kind_begins_with_a_trained_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = student(tmp_path, "first")
    monkeypatch.setitem(KINDS.entries, "runs", f"{RunCounter.__module__}:RunCounter")
    trained, fresh = load_tensors(first / "model.safetensors"), begun(tmp_path, kind="runs").model.state_dict()
    for name, tensor in begun(tmp_path, kind="runs", init_encoder=first).model.state_dict().items():
        expected = trained[name] if name.startswith("encoder.") else fresh[name].numpy()
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_what_a_student_was_begun_with_is_an_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = student(tmp_path, "first")
    second = student(tmp_path, "second", "--init-encoder", str(first))
    assert "init_encoder" in json.loads((second / ".done.json").read_text())["key"]["inputs"]
    student(tmp_path, "first", "--seed", "3")
    capsys.readouterr()
    student(tmp_path, "second", "--init-encoder", str(first), "--dry-run")
    assert "would run (changed: input init_encoder)" in capsys.readouterr().out


def test_a_student_of_another_shape_is_refused(tmp_path: Path) -> None:
    first = student(tmp_path, "first")
    with pytest.raises(KdError, match=r"tensor encoder\S+ has shape .*, this student's is .*; give a student of the same encoder"):
        Trainer(config(init_encoder=first), make_training_set(), make_training_set(), tmp_path)
    with pytest.raises(KdError, match=r"tensor main\.\S+ has shape"):
        Trainer(config(encoder_options=ENCODER, init=first), make_training_set(), make_training_set(), tmp_path)
    with pytest.raises(UsageError, match="give one of them"):
        StudentConfig(init=first, init_encoder=first)
