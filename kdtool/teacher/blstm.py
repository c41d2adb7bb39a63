"""Masked neural teacher.  In: unit sequences.  Out: P(u_i | all other units), by one LSTM that reads up to u_i and one from the end back.

No unit is masked and every position is learned: one LSTM has read the units before u_i, the other those after it, and a hidden layer over
both states predicts u_i; all positions of a sentence are computed at once. Trained on windows of a stream of shuffled sentences,
joined by a symbol that marks begin and end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdtool.core.device import choose_device
from kdtool.core.errors import KdError, UsageError
from kdtool.teacher.base import Teacher, TrainingText, check_options
from kdtool.teacher.ngram import check_ids
from kdtool.teacher.streams import begin_at_unigrams, fit, log_distributions, read_together, shuffled_stream, unit_loss


@dataclass(frozen=True)
class BlstmOptions:
    """embedding, hidden: widths. layers: of each LSTM. updates: of `streams` windows of `steps` units each. rate: Adam's highest."""

    embedding: int = 64
    hidden: int = 256
    layers: int = 1
    updates: int = 1000
    streams: int = 64
    steps: int = 60
    rate: float = 6e-3


class BlstmModel(nn.Module):
    """Units (B, L + 2) with V at a sentence's begin and end -> logits (B, L, V) of all but the first and the last."""

    def __init__(self, num_units: int, cfg: BlstmOptions) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_units + 1, cfg.embedding)
        self.right = nn.LSTM(cfg.embedding, cfg.hidden, cfg.layers, batch_first=True)
        self.left = nn.LSTM(cfg.embedding, cfg.hidden, cfg.layers, batch_first=True)
        self.join = nn.Linear(2 * cfg.hidden, cfg.hidden)
        self.out = nn.Linear(cfg.hidden, num_units)

    def forward(self, units: torch.Tensor) -> torch.Tensor:
        embedded = self.embed(units)
        before = self.right(embedded[:, :-2])[0]
        after = self.left(embedded[:, 2:].flip(1))[0].flip(1)
        return self._join(before, after)

    def together(self, lines: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The same for several sentences, units (L + 2,) each -> logits (L, V) each."""
        embedded = [self.embed(line) for line in lines]
        before = read_together(self.right, [e[:-2] for e in embedded])
        after = read_together(self.left, [e[2:].flip(0) for e in embedded])
        return (self._join(b, a.flip(0)) for b, a in zip(before, after, strict=True))

    def _join(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return self.out(nn.functional.gelu(self.join(torch.cat([before, after], dim=-1))))  # type: ignore[no-any-return]


class BlstmTeacher(Teacher):
    """Two LSTMs over units; `seen` bool (V,) marks the units of the training text; others have no probability."""

    kind = "blstm"
    context = "masked"

    def __init__(self, unit: str, num_units: int, model: BlstmModel, seen: np.ndarray) -> None:
        super().__init__(unit, num_units)
        self.model, self.seen = model.eval(), seen.astype(bool)

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> BlstmTeacher:
        cfg: BlstmOptions = check_options(BlstmOptions, options, cls.kind)
        if min(vars(cfg).values()) <= 0:
            raise UsageError(f"blstm teacher: every option must be above 0, not {vars(cfg)}")
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        stream, seen = shuffled_stream(text, cfg.streams, cfg.updates * cfg.steps + 2, seed)
        model = BlstmModel(text.num_units, cfg)
        begin_at_unigrams(model.out, stream)
        model.to(device := choose_device(text.device))

        def loss_of(update: int) -> torch.Tensor:
            part = stream[:, update * cfg.steps : (update + 1) * cfg.steps + 2].long().to(device)
            return unit_loss(model(part), part[:, 1:-1])

        fit(model, loss_of, cfg.updates, cfg.rate, cls.kind)
        teacher = cls(text.unit, text.num_units, model, seen)
        teacher.info = {"options": dict(vars(cfg)), "parameters": sum(p.numel() for p in model.parameters())}
        return teacher

    def to(self, device: str) -> Teacher:
        self.model.to(choose_device(device))
        return self

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        return self.log_probs_many([unit_ids])[0]

    @torch.no_grad()
    def log_probs_many(self, sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
        for ids in sentences:
            check_ids(ids, self.num_units, self.unit)
        edge, device = [self.num_units], self.model.out.weight.device
        lines = [torch.from_numpy(np.concatenate([edge, ids, edge]).astype(np.int64)).to(device) for ids in sentences if len(ids)]
        logits = self.model.together(lines) if lines else iter(())
        return log_distributions(logits, self.seen, sentences)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"seen": self.seen.astype(np.uint8)} | {n: p.cpu().numpy() for n, p in self.model.state_dict().items()}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> BlstmTeacher:
        model = BlstmModel(num_units, check_options(BlstmOptions, info["options"], cls.kind))
        try:
            model.load_state_dict({n: torch.from_numpy(t) for n, t in tensors.items() if n != "seen"})
        except RuntimeError as e:
            raise KdError(f"BLSTM teacher of {num_units} {unit}s: its weights do not fit its options ({e}); train it again") from e
        return cls(unit, num_units, model, tensors["seen"])
