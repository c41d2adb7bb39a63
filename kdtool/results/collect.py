"""Step collect_results: score files of all decodes below the experiment folders -> results.json and RESULTS.md.

In: folders that hold ``score.json`` files at any depth. Out: ``results.json`` (a list, one object per decode) in the first
folder, and the tables of RESULTS.md, which are printed as well. ``--check`` writes nothing and fails when RESULTS.md does not match
results.json.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.digest import altered_files, read_record
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_lines
from kdtool.core.walk import files_below
from kdtool.formats.system import GMM, learns_of
from kdtool.results.generated import check, check_files, commits, would_change, write
from kdtool.results.tables import render

ABLATION = "conf/plan.json"  # marks an ablation's folder
ORDER = ("alignment", "labels", "main", "heads")  # what systems learn from, in the order of the tables
RESCORED = "rescored"  # where decode puts the scores of its second pass


@dataclass(frozen=True)
class Config:
    """Options of collect_results."""

    results: Path | None = field(default=None, metadata={"help": "results.json to write (default: in the first folder)"})
    baseline: str = field(default="student_ce", metadata={"help": "system to compare the others with, by paired bootstrap"})
    title: str = field(default="Results", metadata={"help": "heading of RESULTS.md"})
    note: str = field(default="", metadata={"help": "sentence under the heading that describes the data"})
    command: str = field(default="", metadata={"help": "command that made the results, for the record"})
    check: bool = field(default=False, metadata={"help": "true: write nothing, fail when RESULTS.md does not match results.json"})


def find_scores(roots: list[Path]) -> list[Path]:
    """All score.json files below the folders, sorted, each once; skips hidden (incomplete) folders and ablations, which have a separate
    table."""
    found: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise KdError(f"{root}: no such folder; give the experiment folder (exp)")
        for path in files_below(root, hidden=False):
            if path.name != "score.json" or _of_ablation(path, root):
                continue
            place = os.path.realpath(path)
            # If a folder also has a link to it, use the folder's name.
            if place not in found or os.path.abspath(path) == place:
                found[place] = path
    return sorted(found.values())


def _of_ablation(path: Path, root: Path) -> bool:
    return any((folder / ABLATION).is_file() for folder in path.parents if root in folder.parents)


def read_result(path: Path, root: Path) -> dict[str, Any]:
    """One decode as an object of results.json: its scores and its path. No times: equal scores give equal bytes."""
    # The rescored results have no record: they are files of the decode above.
    made = path.parent.parent if path.parent.name == RESCORED else path.parent
    record = read_record(made)
    if record and (changed := altered_files(made, record)):
        raise KdError(f"{made}: changed since it was made ({changed}); decode again to restore it")
    result = dict(read_json(path))
    result["decode"] = os.path.relpath(path.parent, root)
    return result


def order_of(result: dict[str, Any]) -> tuple[Any, ...]:
    """GMMs, then cross-entropy, hard-label multi-task, label interpolation, distillation; then by name."""
    objective = result.get("objective") or ""
    rank = ORDER.index(result.get("learns_from") or learns_of(objective, result.get("heads") or []))
    if objective == GMM:
        rank = -2 if result["system"].startswith("mono") else -1
    return rank, result["system"], str(result.get("seed")), result["set"], result["lm"], result["decode"]


def per_utterance(path: Path) -> dict[str, tuple[int, int]]:
    """Utterance -> (errors, reference words), from a decode's per_utt.tsv."""
    lines = [line.split("\t") for line in read_lines(path)[1:]]
    return {f[0]: (int(f[3]) + int(f[4]) + int(f[5]), int(f[2])) for f in lines}


def compare(results: list[dict[str, Any]], root: Path, baseline: str) -> None:
    """Add ``vs_baseline`` (paired bootstrap) to every result whose set and LM the baseline has decoded as well."""
    import numpy as np

    from kdtool.decode.bootstrap import paired

    bases = {(r["set"], r["lm"]): r for r in results if r["system"] == baseline}
    for result in results:
        base = bases.get((result["set"], result["lm"]))
        if base is None or base is result:
            continue
        own, other = (per_utterance(root / r["decode"] / "per_utt.tsv") for r in (result, base))
        if set(own) != set(other):
            raise KdError(f"{result['decode']} and {base['decode']} score {len(own)} and {len(other)} utterances that are not the same; "
                          "decode both again on the same set")  # fmt: skip
        ids = sorted(own)
        if any(own[u][1] != other[u][1] for u in ids):
            raise KdError(f"{result['decode']} and {base['decode']} have different references; decode both with the same ones")
        errors, base_errors, words = (np.array(x) for x in zip(*((own[u][0], other[u][0], own[u][1]) for u in ids), strict=True))
        d = paired(errors, base_errors, words)
        numbers = {"delta": d.delta, "low": d.low, "high": d.high, "better": d.better}
        result["vs_baseline"] = {"system": baseline, **{k: round(v, 3) for k, v in numbers.items()}}


def collect(roots: list[Path], baseline: str) -> list[dict[str, Any]]:
    """All decodes below the folders, in reporting order; KdError when there is none, or two have the same place in the tables."""
    root = roots[0]
    results = sorted((read_result(p, root) for p in find_scores(roots)), key=order_of)
    if not results:
        raise KdError(f"no score.json below {', '.join(map(str, roots))}; decode first (steps/decode.sh)")
    compare(results, root, baseline)
    return results


def made_of(cfg: Config, root: Path, results: list[dict[str, Any]]) -> dict[str, str]:
    """The record of the tables' making."""
    return {
        "title": cfg.title, "note": cfg.note, "command": cfg.command,
        "git": commits([root / r["decode"] for r in results]), "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }  # fmt: skip


def arguments(argv: list[str] | None) -> tuple[list[Path], Path, Path, Config]:
    """Experiment folders, results.json, RESULTS.md and the options."""
    paths, cfg, _ = parse_args(
        Config, [("exp...", "experiment folders"), ("markdown", "RESULTS.md to write")], argv, prog="steps/collect_results.sh",
        description="Tables of all decodes: results.json, RESULTS.md.",
    )  # fmt: skip
    return paths["exp"], cfg.results or paths["exp"][0] / "results.json", paths["markdown"], cfg


def would_run() -> str:
    """Why collecting would change something, '' if nothing; for a recipe's --dry-run. Making the tables takes no time."""
    roots, json_path, markdown, cfg = arguments(None)
    if not (json_path.is_file() and markdown.is_file()):
        return "no output yet"
    results = collect(roots, cfg.baseline)
    return would_change(json_path, markdown, results, made_of(cfg, roots[0], results), render)


def check_outputs() -> None:
    """UsageError when a file cannot be written where it goes; for a recipe, before its first stage."""
    _, json_path, markdown, _ = arguments(None)
    check_files(json_path, markdown)


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/collect_results.sh."""
    roots, json_path, markdown, cfg = arguments(argv)
    if cfg.check:
        check(json_path, markdown, render, "collect_results")
        return
    results = collect(roots, cfg.baseline)
    print(write(json_path, markdown, results, made_of(cfg, roots[0], results), render))
    print(f"collect_results: {len(results)} decodes in {json_path}, tables in {markdown}", file=sys.stderr)


if __name__ == "__main__":
    cli_main(main)
