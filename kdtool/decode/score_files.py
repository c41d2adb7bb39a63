"""Candidates + references -> the files of a decode folder.

Out: ``hyp.tsv`` (utterance, words), ``per_utt.tsv`` (id speaker words sub ins del hyp ref), ``score.json`` (the fields of
results.json), ``scales.json`` (the grid, its errors on each tuning half, the choices, the best point on the whole set).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.tables import open_text, write_json
from kdtool.decode.bootstrap import interval
from kdtool.decode.candidates import Candidate, best
from kdtool.decode.scoring import Counts, best_point, count_errors, error_rate, halves, two_fold
from kdtool.decode.tuned import Tuned

COLUMNS = ("id", "speaker", "words", "sub", "ins", "del", "hyp", "ref")


@dataclass
class Task:
    """Input of the scoring.

    ``utterances`` in reporting order; ``candidates`` may lack some of them: these have no path, are scored as empty and
    counted as failed. ``weights`` (G, 4) belong to the ``grid`` points; ``centre``: the search's LM scale; among equal
    scales the nearest wins; ``names``: fields that describe the system; ``meta``: the graph's meta.json; ``tuned``: if the
    grid was chosen on another set, else None.
    """

    utterances: list[str]
    references: dict[str, list[str]]
    speakers: dict[str, str]
    candidates: dict[str, list[Candidate]]
    grid: list[dict[str, float]]
    weights: np.ndarray
    centre: float
    names: dict[str, Any]
    meta: dict[str, Any]
    tuned: Tuned | None = None


def write_scores(folder: Path, task: Task, *, use_rescored: bool) -> dict[str, Any]:
    """Choose scales, score, write the four files into ``folder``; returns the content of score.json."""
    silence = set(task.meta["silence_words"])
    hyps = {u: _hypotheses(task, u, silence, use_rescored) for u in task.utterances}
    counts = {u: _counts(task.references[u], hyps[u]) for u in task.utterances}
    errors = np.array([[c.errors for c in counts[u]] for u in task.utterances])
    chosen, scales = _scales(task, errors, use_rescored)
    rows = [(u, counts[u][g], hyps[u][g]) for u, g in zip(task.utterances, chosen, strict=True)]
    result = _result(task, [c for _, c, _ in rows], [h for _, _, h in rows], scales, use_rescored)
    _write_tables(folder, rows, task)
    write_json(folder / "scales.json", scales)
    write_json(folder / "score.json", result)
    _say(result)
    return result


def _scales(task: Task, errors: np.ndarray, use_rescored: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """The grid point used for each utterance, int64 (U,), and the content of scales.json; errors: (U, G)."""
    scales: dict[str, Any] = {
        "formula": "acoustic - prior_scale * prior + lm_scale * lm + penalty * words, natural logs", "grid": task.grid,
    }  # fmt: skip
    if task.tuned is not None:
        points, same_set = task.tuned.points(use_rescored), task.tuned.tuned_on == task.names["set"]
        fold_of, split_by = halves(task.utterances, task.speakers) if same_set else (np.zeros(len(errors), dtype=np.int64), "set")
        tuned = [{"fold": i, "point": p, "tuned_on": task.tuned.tuned_on, "reported_utterances": int((fold_of == i).sum()), **task.grid[p]}
                 for i, p in enumerate(points)]  # fmt: skip
        return np.array(points)[fold_of], {**scales, "split_by": split_by, "tuned_on_reported": split_by == "nothing", "folds": tuned}
    folds, split_by = halves(task.utterances, task.speakers)
    preference = [abs(np.log(point["lm_scale"] / task.centre)) for point in task.grid]
    chosen, notes = two_fold(errors, folds, preference)
    whole = best_point(errors, preference)
    return chosen, {
        **scales, "split_by": split_by, "tuned_on_reported": split_by == "nothing",
        "folds": [{**note, **task.grid[note["point"]]} for note in notes],
        "whole": {"point": whole, "errors": int(errors[:, whole].sum()), **task.grid[whole]},
    }  # fmt: skip


def _hypotheses(task: Task, utterance: str, silence: set[str], use_rescored: bool) -> list[tuple[str, ...]]:
    """The hypothesis at each grid point, without silence."""
    candidates = task.candidates.get(utterance)
    if not candidates:
        return [()] * len(task.grid)
    spoken = [tuple(w for w in c.words if w not in silence) for c in candidates]
    return [spoken[i] for i in best(candidates, task.weights, use_rescored=use_rescored)]


def _counts(reference: Sequence[str], hyps: Sequence[tuple[str, ...]]) -> list[Counts]:
    once = {hyp: count_errors(reference, hyp) for hyp in set(hyps)}
    return [once[hyp] for hyp in hyps]


def _result(
    task: Task, counts: list[Counts], hyps: list[tuple[str, ...]], scales: dict[str, Any], use_rescored: bool
) -> dict[str, Any]:
    low, high = interval(np.array([c.errors for c in counts]), np.array([c.words for c in counts]))
    rate = round(error_rate(counts), 3)
    phones = task.meta["kind"] == "phone"
    described = {k: v for k, v in task.names.items() if k != "rescore_lm"}
    if task.tuned:
        described |= {"tuned_on": task.tuned.tuned_on, **({"pooled": True} if task.tuned.pooled else {})}
    return {
        **described, "lm": task.names["rescore_lm"] if use_rescored else task.meta["lm"],
        "first_pass_lm": task.meta["lm"], "utterances": len(counts), "failed": len(task.utterances) - len(task.candidates),
        "empty": sum(not hyp for hyp in hyps), "words": sum(c.words for c in counts), "sub": sum(c.sub for c in counts),
        "ins": sum(c.ins for c in counts), "del": sum(c.dele for c in counts), "wer": None if phones else rate,
        "per": rate if phones else None, "ci95": [round(low, 3), round(high, 3)],
        "scales": [{k: fold[k] for k in ("prior_scale", "lm_scale", "penalty")} for fold in scales["folds"]],
    }  # fmt: skip


def _write_tables(folder: Path, rows: list[tuple[str, Counts, tuple[str, ...]]], task: Task) -> None:
    with open_text(folder / "hyp.tsv", "w") as f:
        for u, _, hyp in rows:
            f.write(f"{u}\t{' '.join(hyp)}\n")
    with open_text(folder / "per_utt.tsv", "w") as f:
        f.write("\t".join(COLUMNS) + "\n")
        for u, c, hyp in rows:
            numbers = [str(n) for n in (c.words, c.sub, c.ins, c.dele)]
            f.write("\t".join([u, task.speakers[u], *numbers, " ".join(hyp), " ".join(task.references[u])]) + "\n")


def _say(result: dict[str, Any]) -> None:
    kind, rate = ("PER", result["per"]) if result["wer"] is None else ("WER", result["wer"])
    low, high = result["ci95"]
    scales = ", ".join(f"{s['lm_scale']:g}" for s in result["scales"])
    print(f"{result['system']} on {result['set']}, {result['lm']}: {kind} {rate:.2f}% [{low:.2f}, {high:.2f}] of {result['words']} words "
          f"({result['sub']} sub, {result['ins']} ins, {result['del']} del; {result['failed']} failed, {result['empty']} empty; "
          f"LM scales {scales})", file=sys.stderr)  # fmt: skip
