"""Step collect_results: score files of all decodes below the experiment folders -> results.json and RESULTS.md.

In: folders that hold ``score.json`` files at any depth. Out: ``results.json`` (a list, one object per decode) in the first
folder, and the tables of RESULTS.md, which are printed as well. ``--check`` writes nothing and fails when RESULTS.md does not match
results.json.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kdtool.core.cli import cli_main
from kdtool.core.digest import altered_files, read_record
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_lines
from kdtool.core.walk import files_below
from kdtool.decode.tuned import RESCORED, SCORE
from kdtool.formats.system import GMM, learns_of
from kdtool.results.generated import Collection, Options, commits
from kdtool.results.tables import render

ABLATION = "conf/plan.json"  # marks an ablation's folder
ORDER = ("alignment", "labels", "main", "heads")  # what systems learn from, in the order of the tables


@dataclass(frozen=True)
class Config(Options):
    """Options of collect_results."""

    title: str = field(default="Results", metadata={"help": "heading of RESULTS.md"})
    baseline: str = field(default="student_ce", metadata={"help": "system to compare the others with, by paired bootstrap"})


class Utterance(NamedTuple):
    """One utterance's row of per_utt.tsv: errors, reference words (phones, for PER), reference and hypothesis, space-separated."""

    errors: int
    words: int
    ref: str
    hyp: str


def find_scores(roots: list[Path]) -> list[Path]:
    """All score.json files below the folders, sorted, each once; without hidden (incomplete) folders and ablations (a separate table)."""
    scores: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise KdError(f"{root}: no such folder; give the experiment folder (exp)")
        for path in files_below(root, hidden=False):
            if path.name != SCORE or any((f / ABLATION).is_file() for f in path.parents if root in f.parents):
                continue
            place = os.path.realpath(path)
            # If a folder also has a link to it, use the folder's name.
            if place not in scores or os.path.abspath(path) == place:
                scores[place] = path
    return sorted(scores.values())


def read_result(path: Path, root: Path) -> dict[str, Any]:
    """One decode as an object of results.json: its scores and its path. No times: equal scores give equal bytes."""
    # The rescored results have no record: they are files of the decode above.
    made = path.parent.parent if path.parent.name == RESCORED else path.parent
    record = read_record(made)
    if record and (changed := altered_files(made, record["outputs"])):
        raise KdError(f"{made}: changed since it was made ({changed}); decode again to restore it")
    return {**read_json(path), "decode": os.path.relpath(path.parent, root)}


def order_of(result: dict[str, Any]) -> tuple[Any, ...]:
    """GMMs, then cross-entropy, hard-label multi-task, label interpolation, distillation; then by name."""
    objective = result.get("objective") or ""
    rank = ORDER.index(result.get("learns_from") or learns_of(objective, result.get("heads") or []))
    if objective == GMM:
        rank = -2 if result["system"].startswith("mono") else -1
    return rank, result["system"], str(result.get("seed")), result["set"], result["lm"], result["decode"]


def per_utterance(decode: Path) -> dict[str, Utterance]:
    """Utterance -> its row, from a decode's per_utt.tsv."""
    lines = [line.split("\t") for line in read_lines(decode / "per_utt.tsv")[1:]]
    return {f[0]: Utterance(sum(map(int, f[3:6])), int(f[2]), f[7], f[6]) for f in lines}


def compare(results: list[dict[str, Any]], root: Path, baseline: str) -> None:
    """Add ``vs_baseline`` (paired bootstrap) to every result whose set and LM the baseline has decoded as well."""
    import numpy as np

    from kdtool.decode.bootstrap import paired

    bases = {(r["set"], r["lm"]): r for r in results if r["system"] == baseline}
    for result in results:
        base = bases.get((result["set"], result["lm"]))
        if base is None or base is result:
            continue
        scored, other = (per_utterance(root / r["decode"]) for r in (result, base))
        if set(scored) != set(other):
            raise KdError(f"{result['decode']} and {base['decode']} score {len(scored)} and {len(other)} utterances that are not the same; "
                          "decode both again on the same set")  # fmt: skip
        rows = np.array([(scored[u].errors, other[u].errors, scored[u].words, other[u].words) for u in sorted(scored)]).T
        if (rows[2] != rows[3]).any():
            raise KdError(f"{result['decode']} and {base['decode']} have different references; decode both with the same ones")
        numbers = {k: round(v, 3) for k, v in vars(paired(*rows[:3])).items()}
        result["vs_baseline"] = {"system": baseline, **numbers}


def collect(roots: list[Path], cfg: Config) -> list[dict[str, Any]]:
    """All decodes below the folders, in reporting order; KdError when there is none, or two have the same place in the tables."""
    results = sorted((read_result(p, roots[0]) for p in find_scores(roots)), key=order_of)
    if not results:
        raise KdError(f"no score.json below {', '.join(map(str, roots))}; decode first (steps/decode.sh)")
    compare(results, roots[0], cfg.baseline)
    return results


RESULTS = Collection(
    "collect_results", Config, ("exp...", "experiment folders"), ("results.json", "RESULTS.md"), collect,
    lambda root, results: commits([root / r["decode"] for r in results]), render, lambda results: (f"{len(results)} decodes", ""),
    "Tables of all decodes: results.json, RESULTS.md.",
)  # fmt: skip
main, would_run, check_outputs = RESULTS.main, RESULTS.would_run, RESULTS.check_outputs

if __name__ == "__main__":
    cli_main(main)
