"""The free phone loop of a GMM: any phone may follow any other.  In: a tree, log-likelihoods of its senones.  Out: the best path.

The loop has no context: a unit is a state of a phone, whatever its neighbours (and its place in the word). Its score
on a frame is that of its best senone. So the loop is small (a hundred units), the same for every kind of GMM, and exact.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdtool.formats.tree import Tree
from kdtool.gmm.model import DiagGmm

CHUNK = 8192  # frames scored at a time: all senones of an hour would take gigabytes
# Weight of a phone's prior (1 / number of phones) against the acoustic scores. On held-out speech 3 gives the lowest phone error
# against the transcript (0, 1, 3, 6, 10: 34.4, 30.7, 28.5, 29.6, 34.5%); a phone bigram gains 1% only.
PHONE_WEIGHT = 3.0


@dataclass(frozen=True)
class LoopPath:
    """The recognised path: unit per frame (T,), and whether a phone begins there, bool (T,)."""

    unit: np.ndarray
    begins: np.ndarray


class PhoneLoop:
    """The loop over a GMM's phones. ``units``: as a tree: ``units.pdf_map[0, phone, 0, state]`` is a unit, ``units.pdf_phone`` the
    phone of each unit."""

    def __init__(self, tree: Tree, num_states: Mapping[int, int], family: Mapping[int, int]) -> None:
        """num_states, family: per phone, as in a lang folder."""
        self.units = Tree.monophone(num_states, family)
        unit = self.units.pdf_map[0, tree.pdf_phone, 0, tree.pdf_state]
        self._order = np.argsort(unit, kind="stable")
        self._begin = np.searchsorted(unit[self._order], np.arange(self.units.num_pdfs))
        self._first = np.flatnonzero(self.units.pdf_state == 0)
        self._last = np.append(self._first[1:], self.units.num_pdfs) - 1
        self.entry = -PHONE_WEIGHT * math.log(len(self._first))

    def scores(self, model: DiagGmm, feats: np.ndarray, pdfs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihoods (nats); each senone is scored once. feats: (T, D); pdfs: senones whose scores are returned, too.

        Returns float32 (T, 1 + len(pdfs)), first column empty, as k2 requires; float32 (T, units).
        """
        own = np.zeros((len(feats), 1 + len(pdfs)), np.float32)
        units = np.empty((len(feats), self.units.num_pdfs), np.float32)
        for begin in range(0, len(feats), CHUNK):
            part = slice(begin, begin + CHUNK)
            every = model.log_likelihood(feats[part])
            own[part, 1:] = every[:, pdfs]
            units[part] = np.maximum.reduceat(every[:, self._order], self._begin, axis=1)
        return own, units

    def unit(self, phone: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Units of phones' states, int32."""
        return self.units.pdf_map[0, phone, 0, state]

    def phone_means(self, scores: np.ndarray) -> np.ndarray:
        """Mean over phones of the best state's score per frame, (T,): the fit of a random phone."""
        best: np.ndarray = np.maximum.reduceat(scores, self._first, axis=1)
        return best.mean(axis=1, dtype=np.float64)

    def best_path(self, scores: np.ndarray) -> LoopPath:
        """Exact Viterbi. scores: (T, units); T at least a phone's number of states. Ties: staying in a unit wins."""
        frames, size = scores.shape
        sums = np.full(size, -np.inf)
        sums[self._first] = scores[0, self._first]
        moved, leaves = np.zeros((frames, size), bool), np.zeros(frames, np.int32)
        came = np.empty(size)
        for t in range(1, frames):
            leaves[t] = self._last[sums[self._last].argmax()]
            came[1:] = sums[:-1]
            came[self._first] = sums[leaves[t]] + self.entry
            np.greater(came, sums, out=moved[t])
            np.maximum(came, sums, out=sums)
            sums += scores[t]
        path, begins = np.empty(frames, np.int32), np.zeros(frames, bool)
        unit = int(self._last[sums[self._last].argmax()])
        first = set(self._first.tolist())
        for t in range(frames - 1, -1, -1):
            path[t] = unit
            if moved[t, unit]:
                begins[t] = unit in first
                unit = int(leaves[t]) if begins[t] else unit - 1
        begins[0] = True
        return LoopPath(path, begins)
