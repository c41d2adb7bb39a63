"""Error counts by kaldialign, and the choice of scales by two-fold tuning.

In: references, and the hypothesis of each utterance at every point of a grid of scales. Out: per utterance counts at
scales that were chosen on other speakers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdtool.core.errors import KdError


@dataclass(frozen=True)
class Counts:
    """Edit operations between a reference of ``words`` words and a hypothesis."""

    words: int
    sub: int
    ins: int
    dele: int

    @property
    def errors(self) -> int:
        return self.sub + self.ins + self.dele


def count_errors(ref: Sequence[str], hyp: Sequence[str]) -> Counts:
    """Levenshtein alignment with unit costs (kaldialign); an empty hypothesis is all deletions."""
    import kaldialign

    found = kaldialign.edit_distance(list(ref), list(hyp))
    return Counts(len(ref), int(found["sub"]), int(found["ins"]), int(found["del"]))


def error_rate(counts: Sequence[Counts]) -> float:
    """Percent: errors per reference word; KdError without reference words."""
    words = sum(c.words for c in counts)
    if not words:
        raise KdError("the references hold no word at all: no error rate can be given; check the data set's text")
    return 100.0 * sum(c.errors for c in counts) / words


def halves(utterances: Sequence[str], speakers: Mapping[str, str]) -> tuple[np.ndarray, str]:
    """Two folds, int64 (U,) of 0 and 1, without a speaker in both (sorted, first half and second), and what was split.

    That is 'speakers', 'utterances' if there is one speaker only, or 'nothing' if there is one utterance only.
    """
    names = sorted({speakers[u] for u in utterances})
    if len(names) > 1:
        side = {name: n * 2 // len(names) for n, name in enumerate(names)}
        return np.array([side[speakers[u]] for u in utterances]), "speakers"
    if len(utterances) > 1:
        rank = {u: n for n, u in enumerate(sorted(utterances))}
        return np.array([rank[u] * 2 // len(utterances) for u in utterances]), "utterances"
    return np.zeros(len(utterances), dtype=np.int64), "nothing"


def best_point(errors: np.ndarray, preference: Sequence[float]) -> int:
    """The grid point with the fewest errors (U, G) in total; ties: the smallest preference, then the first."""
    totals = errors.sum(axis=0)
    return int(np.lexsort((np.arange(len(totals)), np.asarray(preference), totals))[0])


def two_fold(errors: np.ndarray, folds: np.ndarray, preference: Sequence[float]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The grid point used for each utterance, int64 (U,), chosen on the other half; for each fold the errors on its tuning half.

    errors: int (U, G); folds: (U,) 0 or 1; preference: (G,), the smaller one wins ties.
    """
    chosen = np.zeros(len(folds), dtype=np.int64)
    notes = []
    for fold in sorted(set(folds.tolist())):
        tune = folds != fold if np.any(folds != fold) else folds == fold
        totals = errors[tune].sum(axis=0)
        point = best_point(errors[tune], preference)
        chosen[folds == fold] = point
        notes.append({"fold": int(fold), "point": point, "tuning_errors": totals.tolist(), "tuning_utterances": int(tune.sum()),
                      "reported_utterances": int((folds == fold).sum())})  # fmt: skip
    return chosen, notes
