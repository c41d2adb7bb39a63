"""Masked n-gram teacher.  In: a causal n-gram.  Out: P(u_i | all other units of the sentence), exact under that model.

By Bayes' rule P(u_i = v | rest) is proportional to P(v | left) times the product of P(u_j | .. v ..) over the n - 1 units that
follow, whose contexts hold v, including the sentence's end if it is among them. All v are scored at once. The model knows fewer
contexts with v after every following symbol, so only the (position, v) pairs that are still in a table
are carried on; for all others the following units have equal probabilities, except for the back-off weights summed before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import UsageError
from kdtool.teacher.base import Teacher, TrainingText, check_options
from kdtool.teacher.ngram import NgramTeacher, check_ids
from kdtool.teacher.trie import NgramTrie

PAIRS = 1 << 17  # (place, unit) pairs per block: a few arrays of 1 MB

# Level -> (position * V + v, ascending; nodes of the context of `level` symbols that holds v there).
Alive = dict[int, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class MaskedNgramOptions:
    """ngram: options of the causal n-gram, unused when a trained one is given. end: true: the utterance is a whole sentence, its end
    is known; false: it is the beginning of a sentence that may continue."""

    ngram: dict[str, Any] = field(default_factory=dict)
    end: bool = True


class MaskedNgramTeacher(Teacher):
    """The two-sided conditionals of a back-off n-gram; units missing from its text are <unk> as context."""

    kind = "masked_ngram"
    context = "masked"

    def __init__(self, unit: str, trie: NgramTrie, end: bool) -> None:
        super().__init__(unit, trie.num_units)
        self.trie, self.end = trie, end

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> MaskedNgramTeacher:
        cfg: MaskedNgramOptions = check_options(MaskedNgramOptions, options, cls.kind)
        given = text.extras.get("teachers", [])
        causal = given[0] if given else NgramTeacher.train(text, cfg.ngram, seed=seed, work=work)
        if len(given) > 1 or not isinstance(causal, NgramTeacher):
            kinds = ", ".join(teacher.kind for teacher in given)
            raise UsageError(f"kind {cls.kind} is made from one teacher of kind {NgramTeacher.kind}, not from: {kinds}")
        teacher = cls(text.unit, causal.trie, cfg.end)
        teacher.info = {"end": cfg.end, "ngram": causal.info}
        return teacher

    def tensors(self) -> dict[str, np.ndarray]:
        return self.trie.tensors

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> MaskedNgramTeacher:
        return cls(unit, NgramTrie(tensors), info["end"])

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        check_ids(unit_ids, self.num_units, self.unit)
        trie = self.trie
        states = trie.states(unit_ids)
        symbols = trie.symbol[unit_ids.astype(np.int64)]
        if self.end:
            symbols = np.append(symbols, trie.end)
        alike = self._without(states, symbols)
        scores = np.full((len(unit_ids), self.num_units), -np.inf)
        rows = max(1, PAIRS // self.num_units)
        for first in range(0, len(scores), rows):
            here = slice(first, min(first + rows, len(scores)))
            scores[here, trie.seen] = self._score(states[:, here], symbols[first + 1 :], alike[first + 1 :])[:, trie.seen]
        scores -= scores.max(axis=1, initial=-np.inf, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return scores.astype(np.float32)

    def _without(self, states: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """float64 (len(symbols), order): log P(symbol | the last k symbols), for k = 0 ..; for <unk> only the contexts' share,
        as its unigram probability is the same for every v."""
        trie = self.trie
        own = np.where(symbols == trie.unknown, 0.0, trie.tensors["logp.1"][symbols])
        out = np.empty((len(symbols), trie.order))
        out[:, 0] = own
        for level in range(1, trie.order):
            out[:, level] = out[:, level - 1]
            there = np.flatnonzero(states[level - 1, : len(symbols)] >= 0)
            self._extend(level, out[:, level], there, states[level - 1, there], symbols[there])
        return out

    def _extend(self, level: int, scores: np.ndarray, places: np.ndarray, nodes: np.ndarray, symbols: np.ndarray) -> tuple[np.ndarray, ...]:
        """Add the effect of contexts of `level` symbols on the following symbols to that of shorter ones in `scores`.

        Returns:
            The positions whose n-gram the model has, and its index in the tables of order level + 1.
        """
        tensors = self.trie.tensors
        scores[places] += tensors[f"backoff.{level}"][nodes]
        found = self.trie.place(level, nodes, symbols)
        there = np.flatnonzero(found >= 0)
        places, found = places[there], found[there]
        scores[places] = tensors[f"logp.{level + 1}"][found]
        return places, found

    def _score(self, states: np.ndarray, symbols: np.ndarray, alike: np.ndarray) -> np.ndarray:
        """Unnormalised log P(v | rest) float64 (N, V) at N positions: `states` before them, the following `symbols`,
        and `alike`, their log-probabilities as far as contexts do not reach back to v."""
        trie, size = self.trie, self.num_units
        scores = trie.raw(states)[:, :size].astype(np.float64)
        alive = self._contexts(states)
        for k in range(1, trie.order):
            rows = min(len(scores), len(symbols) - k + 1)
            if rows <= 0:
                break
            said = np.repeat(alike[k - 1 : k - 1 + rows, k - 1], size)
            longer: Alive = {}
            for level in range(k, trie.order):
                places, nodes = alive[level]
                inside = np.searchsorted(places, rows * size)
                places, nodes = places[:inside], nodes[:inside]
                longer[level + 1] = self._extend(level, said, places, nodes, symbols[k - 1 :][places // size])  # type: ignore[assignment]
            alive = longer
            scores[:rows] += said.reshape(rows, size)
        return scores

    def _contexts(self, states: np.ndarray) -> Alive:
        """The contexts that end in v at each position, for every v and length."""
        trie, size = self.trie, self.num_units
        units, count = np.flatnonzero(trie.seen), states.shape[1]
        places = (np.arange(count)[:, None] * size + units).reshape(-1)
        alive: Alive = {1: (places, np.tile(trie.symbol[units], count))}
        for level in range(1, trie.order - 1):
            rows = np.flatnonzero(states[level - 1] >= 0)
            counts, columns, nodes = trie.continuations(level, states[level - 1, rows])
            units_only = np.flatnonzero(columns < size)
            places = np.repeat(rows * size, counts) + columns
            order = units_only[np.argsort(places[units_only], kind="stable")]
            alive[level + 1] = (places[order], nodes[order])
        return alive
