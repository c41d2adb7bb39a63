"""Masked n-gram teacher.  In: a causal n-gram.  Out: P(u_i | all other units of the sentence), exact under that model.

By Bayes' rule P(u_i = v | rest) is proportional to P(v | left) times the product of P(u_j | .. v ..) over the n - 1 units that
follow, whose contexts hold v, including the sentence's end if it is among them. All v are scored at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import UsageError
from kdtool.teacher.base import Teacher, TrainingText, check_ids, check_options
from kdtool.teacher.ngram import NgramTeacher
from kdtool.teacher.trie import NgramTrie

PAIRS = 1 << 17  # (place, unit) pairs per block: a few arrays of 1 MB


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
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> "MaskedNgramTeacher":
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
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "MaskedNgramTeacher":
        return cls(unit, NgramTrie(tensors), info["end"])

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        check_ids(unit_ids, self.num_units, self.unit)
        states, symbols = self.trie.states(unit_ids), self.trie.symbol[unit_ids.astype(np.int64)]
        if self.end:
            symbols = np.append(symbols, self.trie.end)
        scores = np.full((len(unit_ids), self.num_units), -np.inf)
        rows = max(1, PAIRS // self.num_units)
        for first in range(0, len(scores), rows):
            here = slice(first, min(first + rows, len(scores)))
            scores[here, self.trie.seen] = self._score(states[:, here], symbols[first + 1 :])
        scores -= scores.max(axis=1, initial=-np.inf, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return scores.astype(np.float32)

    def _score(self, states: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Unnormalised log P(v | rest) of the seen units, float64 (N, U), at N places: `states` before them, the following `symbols`."""
        trie, units = self.trie, np.flatnonzero(self.trie.seen)
        scores = trie.raw(states)[:, units].astype(np.float64)
        state = trie.step(states.repeat(len(units), axis=1), np.tile(trie.symbol[units], len(scores)))[0]
        for k in range(trie.order - 1):
            rows = min(len(scores), len(symbols) - k)
            if rows <= 0:
                break
            state, logp = trie.step(state[:, : rows * len(units)], symbols[k : k + rows].repeat(len(units)))
            scores[:rows] += logp.reshape(rows, -1)
        return scores
