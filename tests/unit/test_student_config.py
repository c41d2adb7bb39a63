"""The recipes' student configs are valid, and differ in nothing but what they are compared on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdtool.core.cli import parse_args
from kdtool.core.errors import UsageError
from kdtool.student.config import HeadSpec, StudentConfig

CONF = Path(__file__).resolve().parents[2] / "egs" / "mini_librispeech" / "conf"
FILES = sorted(CONF.rglob("student_*.yaml"))


def load(path: Path) -> StudentConfig:
    return parse_args(StudentConfig, [], ["--config", str(path)], prog="test", description="")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONF)))
def test_config_makes_a_trunk_with_the_layers_its_heads_want(path: Path) -> None:
    from kdtool.student.encoders import make_encoder

    cfg = load(path)
    layers = len(make_encoder(cfg.encoder, 80, cfg.encoder_options).dims)
    assert all(-layers <= spec.layer < layers for spec in cfg.head_specs())


@pytest.mark.parametrize("folder", [CONF, CONF / "tiny"], ids=["full", "tiny"])
def test_systems_share_everything_but_their_objective(folder: Path) -> None:
    def encoder(name: str) -> dict[str, Any]:
        return {k: v for k, v in vars(load(folder / f"student_{name}.yaml")).items() if k not in ("main", "main_options", "heads")}

    assert encoder("ce") == encoder("mtl") == encoder("li") == encoder("hmt")
    soft, hard = load(folder / "student_hmt.yaml").heads, load(folder / "student_mtl.yaml").heads
    assert [{**h, "kind": "hard"} for h in soft] == hard


def test_a_heads_weight_may_change_over_the_training() -> None:
    head = HeadSpec.make({"unit": "phone", "layer": 1, "weight": [[0, 1.0], [0.5, 0.2], [1, 0]]})
    assert [round(head.weight_at(s), 9) for s in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 0.6, 0.2, 0.1, 0.0]
    assert HeadSpec.make({"unit": "phone", "layer": 1, "weight": 0.3}).weight_at(0.9) == 0.3
    for wrong in (-1, "much", [], [[0.5, 1], [0.5, 2]], [[0, 1], [1.5, 2]], [[0, -1]], [0.3]):
        with pytest.raises(UsageError, match="weight"):
            HeadSpec.make({"unit": "phone", "layer": 1, "weight": wrong})
