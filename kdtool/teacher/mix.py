"""Mixture of teachers.  In: kinds with their options.  Out: their linear interpolation, weights by EM on held-out text.

The held-out sentences are LM text that no component was trained on; the dev set has no say. (The training alignments'
transcripts would favour the n-gram, which remembers them.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.teacher.base import Teacher, TrainingText

HELD_OUT_UNITS = 40_000


class MixTeacher(Teacher):
    """sum_k w_k P_k(. | history) of teachers over the same units."""

    kind = "mix"

    def __init__(self, parts: dict[str, Teacher], weights: np.ndarray) -> None:
        first = next(iter(parts.values()))
        super().__init__(first.unit, first.num_units)
        self.parts, self.weights = parts, weights

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> MixTeacher:
        """`options`: kind -> its options; {"ngram": {}, "lstm": {}} if empty."""
        from kdtool.teacher.registry import teacher_class

        options = options or {"ngram": {}, "lstm": {}}
        if len(options) < 2 or cls.kind in options or not all(isinstance(v, dict) for v in options.values()):
            raise UsageError(f"a mix is made of two kinds or more, each with a mapping of options, not of {options}")
        if len(text.held_out.ids) == 0:
            raise KdError("no held-out sentences to choose the mixture's weights on; lower --held-out or give more LM text")
        parts = {kind: teacher_class(kind).train(text, own, seed=seed, work=work) for kind, own in sorted(options.items())}
        teacher = cls(parts, _weights(list(parts.values()), text))
        weights = {kind: round(float(w), 4) for kind, w in zip(parts, teacher.weights, strict=True)}
        teacher.info = {"weights": weights, "parts": {kind: part.info for kind, part in parts.items()}}
        return teacher

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        probs = sum(w * np.exp(part.log_probs(unit_ids)) for w, part in zip(self.weights, self.parts.values(), strict=True))
        with np.errstate(divide="ignore"):
            return np.log(probs / np.sum(probs, axis=1, keepdims=True)).astype(np.float32)  # type: ignore[no-any-return]

    def tensors(self) -> dict[str, np.ndarray]:
        own = {f"{kind}/{name}": value for kind, part in self.parts.items() for name, value in part.tensors().items()}
        return own | {"weights": self.weights}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> MixTeacher:
        from kdtool.teacher.registry import teacher_class

        parts: dict[str, Teacher] = {}
        for kind in sorted(info["weights"]):  # the order of the weights
            own = {n.removeprefix(f"{kind}/"): v for n, v in tensors.items() if n.startswith(f"{kind}/")}
            parts[kind] = teacher_class(kind).from_tensors(unit, num_units, own, info["parts"][kind])
        return cls(parts, tensors["weights"])


def _weights(parts: list[Teacher], text: TrainingText) -> np.ndarray:
    """Maximum-likelihood mixture weights by expectation maximisation."""
    columns: list[np.ndarray] = []
    have = 0
    for ids in text.held_out:
        own = np.stack([part.log_probs(ids)[np.arange(len(ids)), ids] for part in parts])
        columns.append(np.exp(own.astype(np.float64)))
        have += len(ids)
        if have >= HELD_OUT_UNITS:
            break
    probs = np.concatenate(columns, axis=1)
    probs = probs[:, probs.sum(axis=0) > 0]
    weights = np.full(len(parts), 1.0 / len(parts))
    for _ in range(100):
        share = weights[:, None] * probs
        weights = (share / share.sum(axis=0)).mean(axis=1)
    return weights
