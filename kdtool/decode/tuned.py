"""Scales chosen elsewhere.  In: folder of another set's decode, or of a choice pooled over systems.  Out: the grid points to report with.

A test set is reported at the scales that are best on all of a held-out set, so nothing is tuned on the test set, not even on a half. A
pooled choice (kdtool.decode.pool_scales) serves its own set as well: each half is reported at the point that is best on the other half.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json

SCALES, SCORE, RESCORED, POOLED = "scales.json", "score.json", "rescored", "pooled.json"
POINT = ("prior_scale", "lm_scale", "penalty")


@dataclass(frozen=True)
class Tuned:
    """``grid``: the points to score, of the first pass and of the rescoring, if any; ``tuned_on``: the set's name.

    ``folds``: points per pass; 1 for the whole set, 2 where each half of the speakers has its own. ``pooled``: whether the choice is one
    for several systems.
    """

    grid: list[dict[str, float]]
    tuned_on: str
    folds: int = 1
    pooled: bool = False

    def points(self, use_rescored: bool) -> list[int]:
        """Indices of the grid points of the first pass or of the rescoring, one per fold."""
        start = len(self.grid) - self.folds if use_rescored else 0
        return [*range(start, start + self.folds)]


def inputs_of(folder: Path, rescored: bool) -> dict[str, Path]:
    """The files that determine the choice, for a step's record; KdError when one is missing."""
    places = [folder, *([folder / RESCORED] if rescored else [])]
    for place in places:
        if not (place / SCALES).is_file():
            raise KdError(f"--scales-from {place}: no {SCALES} there; decode that set first, with the same graph"
                          + (" and --rescore-lm" if place != folder else ""))  # fmt: skip
    return {f"scales {i}": place / SCALES for i, place in enumerate(places)}


def tuned_elsewhere(folder: Path, names: dict[str, Any], lm: str) -> Tuned:
    """The scales that are best on the whole set decoded in ``folder``; a pool's own set has one point per half.

    Args:
        names: system, set and rescore_lm of this decode.
        lm: name of the graph's LM.

    Raises:
        KdError: the other decode has the same set, another system or another LM; the system is not among the pooled ones.
    """
    pooled = (folder / POOLED).is_file()
    grid: list[dict[str, float]] = []
    for place, rescored in ((folder, lm), (folder / RESCORED, names["rescore_lm"])):
        if rescored is None:
            continue
        about, scales = read_json(place / (POOLED if pooled else SCORE)), read_json(place / SCALES)
        here, kind, same = {"first_pass_lm": lm, "lm": rescored}, "pooled over decodes", "the pool of the same LMs"
        if not pooled:
            here, kind, same = {"system": names["system"], **here}, "it is a decode", "one of the same model and LMs"
        if wrong := [f"{k} {about.get(k)} instead of {here[k]}" for k in here if about.get(k) != here[k]]:
            raise KdError(f"--scales-from {place}: {kind} with {', '.join(wrong)}; name {same}")
        if pooled and names["system"] not in about["systems"]:
            raise KdError(f"--scales-from {place}: {names['system']} is not among the {len(about['systems'])} pooled systems "
                          f"({', '.join(about['systems'][:5])}); pool again with its decode")  # fmt: skip
        if not pooled and about["set"] == names["set"]:
            raise KdError(f"--scales-from {place}: it is a decode of {about['set']} itself; name one of a held-out set")
        if "whole" not in scales:
            raise KdError(f"--scales-from {place}: its scales came from another set, so they were not chosen on {about['set']}; "
                          "name the decode that they come from")  # fmt: skip
        points = scales["folds"] if about["set"] == names["set"] else [scales["whole"]]
        grid += [{k: float(point[k]) for k in POINT} for point in points]
    return Tuned(grid, about["set"], len(points), pooled)
