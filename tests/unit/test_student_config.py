"""The recipes' student configs are valid, and differ only in what they compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdtool.core.cli import parse_args
from kdtool.core.errors import UsageError
from kdtool.student.config import HeadSpec, StudentConfig

ROOT = Path(__file__).resolve().parents[2]
SHARED, CONF = ROOT / "utils" / "conf", ROOT / "egs" / "mini_librispeech" / "conf"
SYSTEMS = ("ce", "mtl", "li", "hmt")


def load(system: str, tiny: bool) -> StudentConfig:
    """In layers, as the recipe's stage `students` gives them."""
    options = []
    for section in dict.fromkeys(("student_ce", f"student_{system}")):
        options += [f"{folder / section}.yaml?" for folder in (SHARED, CONF)]
        options += [f"{CONF / 'tiny.yaml'}:{section}"] if tiny else []
    return parse_args(StudentConfig, [], [word for layer in options for word in ("--config", layer)], prog="test", description="")[1]


@pytest.mark.parametrize("tiny", [False, True], ids=["full", "tiny"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_encoder_has_the_layers_that_the_heads_name(system: str, tiny: bool) -> None:
    from kdtool.student.encoders import make_encoder

    cfg = load(system, tiny)
    layers = len(make_encoder(cfg.encoder, 80, cfg.encoder_options).dims)
    assert all(-layers <= spec.layer < layers for spec in cfg.head_specs())


@pytest.mark.parametrize("tiny", [False, True], ids=["full", "tiny"])
def test_systems_share_everything_but_their_losses(tiny: bool) -> None:
    def rest(system: str) -> dict[str, Any]:
        return {k: v for k, v in vars(load(system, tiny)).items() if k not in ("main", "main_options", "heads")}

    assert rest("ce") == rest("mtl") == rest("li") == rest("hmt")
    soft, hard = load("hmt", tiny).heads, load("mtl", tiny).heads
    assert soft and [{**h, "kind": "hard"} for h in soft] == hard


def test_a_heads_weight_may_change_over_the_training() -> None:
    head = HeadSpec.make({"unit": "phone", "layer": 1, "weight": [[0, 1.0], [0.5, 0.2], [1, 0]]})
    assert [round(head.weight_at(s), 9) for s in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 0.6, 0.2, 0.1, 0.0]
    assert HeadSpec.make({"unit": "phone", "layer": 1, "weight": 0.3}).weight_at(0.9) == 0.3
    for wrong in (-1, "much", [], [[0.5, 1], [0.5, 2]], [[0, 1], [1.5, 2]], [[0, -1]], [0.3]):
        with pytest.raises(UsageError, match="weight"):
            HeadSpec.make({"unit": "phone", "layer": 1, "weight": wrong})
