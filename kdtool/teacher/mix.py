"""Mixture of teachers.  In: kinds with their options.  Out: their linear interpolation, weights by EM on held-out text.

The held-out sentences are LM text that no component was trained on; dev is not used. (The training alignments'
transcripts would favour the n-gram, which has memorised them.)
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.teacher.base import Teacher, TrainingText

HELD_OUT_UNITS = 40_000
DEFAULT: dict[str, Any] = {"ngram": {}, "lstm": {}}


class MixTeacher(Teacher):
    """sum_k w_k P_k(. | context) of teachers over the same units, all of them causal or all masked; `parts` by name: the kind,
    numbered from the second of a kind on."""

    kind = "mix"

    def __init__(self, parts: dict[str, Teacher], weights: np.ndarray) -> None:
        first = next(iter(parts.values()))
        super().__init__(first.unit, first.num_units)
        self.parts, self.weights, self.context = parts, weights, first.context

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> "MixTeacher":
        """`options`: kind -> its options; trained teachers in text.extras["teachers"] are parts, too. DEFAULT if there is neither."""
        from kdtool.teacher.registry import KINDS

        given: list[Teacher] = text.extras.get("teachers", [])
        options = options if options or given else DEFAULT
        if len(options) + len(given) < 2 or cls.kind in options or not all(isinstance(v, dict) for v in options.values()):
            raise UsageError(f"a mix is made of two teachers or more, kinds with a mapping of options each or trained ones, not of "
                             f"{options} and {len(given)} trained ones")  # fmt: skip
        if len(text.held_out.ids) == 0:
            raise KdError("no held-out sentences to choose the mixture's weights on; lower --held-out or give more LM text")
        contexts = {KINDS[kind].context for kind in options} | {teacher.context for teacher in given}
        if len(contexts) > 1:
            raise UsageError("a mix is of causal teachers or of masked ones, not of both: they answer different questions")
        text_alone = dataclasses.replace(text, extras={n: v for n, v in text.extras.items() if n != "teachers"})
        made = [KINDS[kind].train(text_alone, its_options, seed=seed, work=work) for kind, its_options in sorted(options.items())]
        parts: dict[str, Teacher] = {}
        for part in [*given, *made]:
            again = sum(name.split(".")[0] == part.kind for name in parts)
            parts[f"{part.kind}.{again + 1}" if again else part.kind] = part
        parts = dict(sorted(parts.items()))  # in JSON's order
        teacher = cls(parts, _weights(list(parts.values()), text))
        weights = {name: round(float(w), 4) for name, w in zip(parts, teacher.weights, strict=True)}
        teacher.info = {"weights": weights, "parts": {name: part.info for name, part in parts.items()}}
        return teacher

    def to(self, device: str) -> Teacher:
        for part in self.parts.values():
            part.to(device)
        return self

    @classmethod
    def trains(cls, options: dict[str, Any], given: int) -> list[str]:
        return sorted(options if options or given else DEFAULT)

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        probs = sum(w * np.exp(part.log_probs(unit_ids)) for w, part in zip(self.weights, self.parts.values(), strict=True))
        with np.errstate(divide="ignore"):
            return np.log(probs / np.sum(probs, axis=1, keepdims=True)).astype(np.float32)  # type: ignore[no-any-return]

    def tensors(self) -> dict[str, np.ndarray]:
        of_parts = {f"{name}/{tensor}": value for name, part in self.parts.items() for tensor, value in part.tensors().items()}
        return of_parts | {"weights": self.weights}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "MixTeacher":
        from kdtool.teacher.registry import KINDS

        parts: dict[str, Teacher] = {}
        for name in sorted(info["weights"]):
            of_part = {n.removeprefix(f"{name}/"): v for n, v in tensors.items() if n.startswith(f"{name}/")}
            parts[name] = KINDS[name.split(".")[0]].from_tensors(unit, num_units, of_part, info["parts"][name])
            parts[name].info = info["parts"][name]
        return cls(parts, tensors["weights"])


def _weights(parts: list[Teacher], text: TrainingText) -> np.ndarray:
    """Maximum-likelihood mixture weights by expectation maximisation."""
    columns: list[np.ndarray] = []
    for ids in text.held_out:
        columns.append(np.exp(np.stack([part.log_probs(ids)[np.arange(len(ids)), ids] for part in parts]).astype(np.float64)))
        if sum(column.shape[1] for column in columns) >= HELD_OUT_UNITS:
            break
    probs = np.concatenate(columns, axis=1)
    probs = probs[:, probs.sum(axis=0) > 0]
    weights = np.full(len(parts), 1.0 / len(parts))
    for _ in range(100):
        share = weights[:, None] * probs
        weights = (share / share.sum(axis=0)).mean(axis=1)
    return weights
