"""Scales chosen on another set's decode.  In: that decode's folder.  Out: the grid points to report with.

A test set is reported at the scales that are best on all of a held-out set, so nothing is tuned on the test set, not even on a half.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json

SCALES, SCORE, RESCORED = "scales.json", "score.json", "rescored"


@dataclass(frozen=True)
class Tuned:
    """``grid``: the points to score, of the first pass and of the rescoring, if any; ``tuned_on``: the set's name."""

    grid: list[dict[str, float]]
    tuned_on: str

    def point(self, use_rescored: bool) -> int:
        """Index of the grid point of the first pass or of the rescoring."""
        return len(self.grid) - 1 if use_rescored else 0


def inputs_of(folder: Path, rescored: bool) -> dict[str, Path]:
    """The files that determine the choice, for a step's record; KdError when one is missing."""
    places = [folder, *([folder / RESCORED] if rescored else [])]
    for place in places:
        if not (place / SCALES).is_file():
            raise KdError(f"--scales-from {place}: no {SCALES} there; decode that set first, with the same graph"
                          + (" and --rescore-lm" if place != folder else ""))  # fmt: skip
    return {f"scales {i}": place / SCALES for i, place in enumerate(places)}


def tuned_elsewhere(folder: Path, names: dict[str, Any], lm: str) -> Tuned:
    """The scales that are best on the whole set decoded in ``folder``.

    Args:
        names: system, set and rescore_lm of this decode.
        lm: name of the graph's LM.

    Raises:
        KdError: the other decode has the same set, another system or another LM.
    """
    grid = []
    for place, wanted in ((folder, lm), (folder / RESCORED, names["rescore_lm"])):
        if wanted is None:
            continue
        score, scales = read_json(place / SCORE), read_json(place / SCALES)
        own = {"system": names["system"], "first_pass_lm": lm, "lm": wanted}
        if wrong := [f"{k} {score.get(k)} instead of {own[k]}" for k in own if score.get(k) != own[k]]:
            raise KdError(f"--scales-from {place}: it is a decode with {', '.join(wrong)}; name one of the same model and LMs")
        if score["set"] == names["set"]:
            raise KdError(f"--scales-from {place}: it is a decode of {score['set']} itself; name one of a held-out set")
        if "whole" not in scales:
            raise KdError(f"--scales-from {place}: its scales came from another set, so they were not chosen on {score['set']}; "
                          "name the decode that they come from")  # fmt: skip
        grid.append({k: float(scales["whole"][k]) for k in ("prior_scale", "lm_scale", "penalty")})
    return Tuned(grid, score["set"])
