"""The recipes' student configs are valid, and differ in nothing but what they are compared on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdtool.core.cli import parse_args
from kdtool.student.config import StudentConfig

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
    def trunk(name: str) -> dict[str, Any]:
        return {k: v for k, v in vars(load(folder / f"student_{name}.yaml")).items() if k not in ("main", "main_options", "heads")}

    assert trunk("ce") == trunk("mtl") == trunk("li") == trunk("hmt")
    soft, hard = load(folder / "student_hmt.yaml").heads, load(folder / "student_mtl.yaml").heads
    assert [{**h, "kind": "hard"} for h in soft] == hard
