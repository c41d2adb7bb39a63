"""Neural teachers are trained and dumped on the chosen device; the others have none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdtool.core.errors import UsageError
from kdtool.posteriors import make
from kdtool.teacher import base, recurrent, train
from kdtool.teacher.base import Teacher, TrainingText
from kdtool.teacher.mix import MixTeacher
from kdtool.teacher.registry import KINDS, load_teacher
from kdtool.units.text import Sequences

SMALL = {"updates": 3, "embedding": 4, "hidden": 6, "streams": 2, "steps": 5}
TEXT = Sequences.of([np.random.default_rng(n).integers(0, 5, 8).astype(np.int32) for n in range(12)])


def text(device: str) -> TrainingText:
    return TrainingText("phone", 5, lambda: iter([TEXT]), TEXT, device=device)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the devices that were chosen; all of them are the CPU."""
    names: list[str] = []

    def choose(name: str) -> torch.device:
        names.append(name)
        return torch.device("cpu")

    for module in (base, recurrent):
        monkeypatch.setattr(module, "choose_device", choose)
    return names


@pytest.mark.parametrize("kind", ["lstm", "blstm"])
def test_training_and_loading_choose_the_named_device(tmp_path: Path, named: list[str], kind: str) -> None:
    teacher = KINDS[kind].train(text("cuda:3"), SMALL, seed=0, work=tmp_path)
    teacher.save(tmp_path, {})
    assert set(named) == {"cuda:3"}
    named.clear()
    again = load_teacher(tmp_path, "cuda:5")
    assert named == ["cuda:5"]
    np.testing.assert_array_equal(again.log_probs(np.array([1, 2, 3])), teacher.log_probs(np.array([1, 2, 3])))


def test_a_mixture_puts_its_parts_there(tmp_path: Path, named: list[str]) -> None:
    parts: dict[str, Any] = {kind: KINDS[kind].train(text("cpu"), SMALL, seed=0, work=tmp_path) for kind in ("lstm", "blstm")}
    named.clear()
    mixture = MixTeacher(parts, np.array([0.5, 0.5]))
    assert mixture.to("cuda:1") is mixture and named == ["cuda:1", "cuda:1"]


def test_a_teacher_without_a_network_stays_where_it_is() -> None:
    table = object()
    assert Teacher.to(table, "cuda:9") is table  # type: ignore[arg-type, comparison-overlap]


def test_an_unknown_device_is_refused_before_any_work() -> None:
    for check, config in ((train.check, train.Config()), (make.check, make.Config())):
        with pytest.raises(UsageError, match="device tpu: auto, cpu, cuda or cuda:N"):
            check(dataclasses.replace(config, device="tpu"))  # type: ignore[arg-type]
