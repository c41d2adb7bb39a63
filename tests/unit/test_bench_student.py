"""The benchmark of the cost of learning from teachers runs, and its figures make sense."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("bench_student", Path(__file__).parents[1] / "bench" / "bench_student.py")
assert SPEC and SPEC.loader
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)

CONFIG = """\
encoder: tdnn
encoder_options: {dim: 16, contexts: [1], front: {channels: 8}}
hidden: 8
batch: 2
chunk: 30
precision: float32
heads:
  - {unit: phone, layer: 0, weight: 0.3, hidden: 4}
  - {unit: subword, layer: 1, weight: 0.3, hidden: 4, stride: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "student.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_steps_in_pairs(config: str) -> None:
    figures = bench.main(["step", "--config", config, "--repeats", "4"])
    low, high = figures["interval"]
    assert figures["pairs"] == 4 and figures["heads"] == 2 and 0 < low <= figures["ratio"] <= high


def test_the_sparse_loss_is_the_dense_one_for_less() -> None:
    figures = bench.main(["loss", "--units", "2000", "--frames", "60", "--repeats", "3"])
    assert figures["largest_difference"] < 1e-5  # means over 60 frames of gradients of at most 1
    assert figures["memory_ratio"] <= 0.1 and figures["sparse_mb"] < figures["gradient_mb"] < figures["dense_mb"]


def test_the_exported_models_cost_the_same(config: str) -> None:
    figures = bench.main(["export", "--config", config, "--repeats", "3", "--seconds", "1"])
    assert figures["ce_parameters"] == figures["heads_parameters"] == figures["ce_parameters_in_training"]
    assert figures["heads_parameters_in_training"] > figures["heads_parameters"]
    assert figures["ce_bytes"] == figures["heads_bytes"] and figures["ratio"] > 0
