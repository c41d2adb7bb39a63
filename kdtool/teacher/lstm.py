"""LSTM teacher.  In: unit sequences.  Out: a small recurrent language model (embedding, LSTM, softmax).

Trained on streams of shuffled sentences joined by a begin-of-sentence symbol, by truncated back-propagation with the state
carried on.
"""

from __future__ import annotations

from collections.abc import Sequence
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
class LstmOptions:
    """embedding, hidden: widths. layers. updates: of `streams` x `steps` units each. rate: Adam's highest."""

    embedding: int = 64
    hidden: int = 256
    layers: int = 1
    updates: int = 1000
    streams: int = 64
    steps: int = 40
    rate: float = 6e-3


class LstmModel(nn.Module):
    """Units (B, L) with V for a sentence's begin -> logits (B, L, V) of the units that follow, and the state."""

    def __init__(self, num_units: int, cfg: LstmOptions) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_units + 1, cfg.embedding)
        self.lstm = nn.LSTM(cfg.embedding, cfg.hidden, cfg.layers, batch_first=True)
        self.out = nn.Linear(cfg.hidden, num_units)

    def forward(self, units: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        hidden, state = self.lstm(self.embed(units), state)
        return self.out(hidden), state


class LstmTeacher(Teacher):
    """Recurrent model over units; `seen` bool (V,) marks the units of the training text; others have no probability."""

    kind = "lstm"

    def __init__(self, unit: str, num_units: int, model: LstmModel, seen: np.ndarray) -> None:
        super().__init__(unit, num_units)
        self.model, self.seen = model.eval(), seen.astype(bool)

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> LstmTeacher:
        cfg: LstmOptions = check_options(LstmOptions, options, cls.kind)
        if min(vars(cfg).values()) <= 0:
            raise UsageError(f"lstm teacher: every option must be above 0, not {vars(cfg)}")
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        stream, seen = shuffled_stream(text, cfg.streams, cfg.updates * cfg.steps + 1, seed)
        model = LstmModel(text.num_units, cfg)
        begin_at_unigrams(model.out, stream)
        model.to(device := choose_device(text.device))
        state: Any = None

        def loss_of(update: int) -> torch.Tensor:
            nonlocal state
            part = stream[:, update * cfg.steps : (update + 1) * cfg.steps + 1].long().to(device)
            logits, state = model(part[:, :-1], state)
            state = tuple(s.detach() for s in state)
            return unit_loss(logits, part[:, 1:])

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
        device = self.model.out.weight.device
        lines = [torch.from_numpy(np.append(self.num_units, ids[:-1]).astype(np.int64)).to(device) for ids in sentences if len(ids)]
        hidden = read_together(self.model.lstm, [self.model.embed(line) for line in lines]) if lines else []
        return log_distributions(map(self.model.out, hidden), self.seen, sentences)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"seen": self.seen.astype(np.uint8)} | {n: p.cpu().numpy() for n, p in self.model.state_dict().items()}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> LstmTeacher:
        model = LstmModel(num_units, check_options(LstmOptions, info["options"], cls.kind))
        try:
            model.load_state_dict({n: torch.from_numpy(t) for n, t in tensors.items() if n != "seen"})
        except RuntimeError as e:
            raise KdError(f"LSTM teacher of {num_units} {unit}s: its weights do not fit its options ({e}); train it again") from e
        return cls(unit, num_units, model, tensors["seen"])
