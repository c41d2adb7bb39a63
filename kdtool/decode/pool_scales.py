"""Step pool_scales: one choice of scales for several systems, whose own choices on a small set differ by chance.

In: their decodes of one set with one graph and one grid of scales.  Out: a folder for --scales-from of steps/decode.sh.

The errors of all systems are added up at each point of the grid, and one point is chosen: on all of the set (``whole``, for other sets),
and on each half of the speakers for the other half (``folds``, for this very set). Equal errors: the LM scale nearest to the grid's middle.
Out: ``scales.json`` (nothing but the choice, so that a system that does not change it makes nothing stale), ``pooled.json`` (the systems,
their decodes, the summed errors), and the same in ``rescored/`` where all decodes have it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import read_json, write_json
from kdtool.decode.scoring import best_point
from kdtool.decode.tuned import POOLED, RESCORED, SCALES, SCORE

SAME = ("set", "lm", "first_pass_lm", "utterances", "words")  # fields of score.json that all decodes share


@dataclass(frozen=True)
class Config:
    """pool_scales has no options."""


def read_decode(folder: Path) -> dict[str, Any]:
    """What one decode brings: its fields of SAME, system, grid, split, and the errors on each tuning half, int64 (folds, G).

    Raises:
        KdError: no decode there, or one whose scales were not chosen on its own set.
    """
    if not (folder / SCALES).is_file():
        raise KdError(f"{folder}: no {SCALES} there; name decode folders (steps/decode.sh)")
    score, scales = read_json(folder / SCORE), read_json(folder / SCALES)
    if "whole" not in scales:
        raise KdError(f"{folder}: its scales came from another set, so it cannot choose any; name the decodes of that set")
    errors = np.array([fold["tuning_errors"] for fold in scales["folds"]], dtype=np.int64)
    return {**{k: score[k] for k in (*SAME, "system")}, **{k: scales[k] for k in ("grid", "split_by")}, "errors": errors}


def pool(decodes: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of scales.json and pooled.json.

    Raises:
        KdError: two decodes are of different sets, graphs, references or grids.
    """
    read = [read_decode(folder) for folder in decodes]
    for folder, one in zip(decodes, read, strict=True):
        for key in (*SAME, "split_by", "grid"):
            if one[key] != read[0][key]:
                shown = "other scales" if key == "grid" else f"{key} {one[key]}"
                raise KdError(f"{folder}: it was decoded with {shown}, {decodes[0]} with {'its own' if key == 'grid' else read[0][key]}; "
                              "pool decodes of one set, graph and grid")  # fmt: skip
    grid, errors = read[0]["grid"], sum(one["errors"] for one in read)
    logs = np.log([point["lm_scale"] for point in grid])
    preference = np.abs(logs - np.median(np.unique(logs)))
    whole = best_point(errors, preference)
    folds = [best_point(half[None], preference) for half in errors]
    same = {k: read[0][k] for k in ("set", "lm", "first_pass_lm", "split_by")}
    scales = {**same, "grid": grid, "folds": [{"fold": i, "point": p, **grid[p]} for i, p in enumerate(folds)],
              "whole": {"point": whole, **grid[whole]}}  # fmt: skip
    return scales, {**same, "systems": sorted({one["system"] for one in read}), "decodes": len(read), "errors": errors.tolist()}


def write(decodes: list[Path], work: Path) -> None:
    """Both files; KdError where only some decodes are rescored."""
    rescored = [d / RESCORED for d in decodes if (d / RESCORED).is_dir()]
    if rescored and len(rescored) != len(decodes):
        lacking = next(d for d in decodes if not (d / RESCORED).is_dir())
        raise KdError(f"{lacking}: no {RESCORED}/ there, {rescored[0].parent} has it; decode all with --rescore-lm, or none")
    for place, folders in ((work, decodes), (work / RESCORED, rescored)):
        if folders:
            place.mkdir(exist_ok=True)
            scales, pooled = pool(folders)
            write_json(place / SCALES, scales)
            write_json(place / POOLED, pooled)
            point = scales["whole"]
            print(f"{scales['set']}, {scales['lm']}: LM scale {point['lm_scale']:g}, prior scale {point['prior_scale']:g}, penalty "
                  f"{point['penalty']:g} for {len(folders)} decodes of {len(pooled['systems'])} systems")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/pool_scales.sh."""
    places = [("decodes...", "decode folders of one set and graph"), ("out", "folder to make")]
    paths, _, common = parse_args(Config, places, argv, prog="steps/pool_scales.sh", description=__doc__ or "")
    decodes: list[Path] = paths["decodes"]
    if len({d.resolve() for d in decodes}) != len(decodes):
        raise UsageError("a decode folder is named twice; its errors would count twice")
    run_step(
        f"pool_scales {paths['out'].name}", out=paths["out"], inputs={str(i): d for i, d in enumerate(decodes)}, options={},
        code=("kdtool.decode.pool_scales",), body=lambda work: write(decodes, work), common=common,
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
