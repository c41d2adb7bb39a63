"""Masked neural teacher.  In: unit sequences.  Out: P(u_i | all other units), by one LSTM that reads up to u_i and one from the end back.

No unit is masked and every position is learned: one LSTM has read the units before u_i, the other those after it, and a hidden layer over
both states predicts u_i; all positions of a sentence are computed at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdtool.teacher.recurrent import RecurrentModel, RecurrentOptions, RecurrentTeacher, read_together


@dataclass(frozen=True)
class BlstmOptions(RecurrentOptions):
    """As those of an LSTM, each of the two LSTMs of these widths and layers."""

    steps: int = 60


class BlstmModel(RecurrentModel):
    """Each unit from those before and after it; a stretch's first and last unit are only context."""

    def __init__(self, num_units: int, cfg: RecurrentOptions) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_units + 1, cfg.embedding)
        self.right = nn.LSTM(cfg.embedding, cfg.hidden, cfg.layers, batch_first=True)
        self.left = nn.LSTM(cfg.embedding, cfg.hidden, cfg.layers, batch_first=True)
        self.join = nn.Linear(2 * cfg.hidden, cfg.hidden)
        self.out = nn.Linear(cfg.hidden, num_units)

    def forward(self, window: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        embedded = self.embed(window)
        after = self.left(embedded[:, 2:].flip(1))[0].flip(1)
        return self._join(self.right(embedded[:, :-2])[0], after), window[:, 1:-1], None

    def together(self, lines: list[Tensor]) -> Iterable[Tensor]:
        embedded = [self.embed(line) for line in lines]
        before = read_together(self.right, [e[:-2] for e in embedded])
        after = read_together(self.left, [e[2:].flip(0) for e in embedded])
        return (self._join(b, a.flip(0)) for b, a in zip(before, after, strict=True))

    def _join(self, before: Tensor, after: Tensor) -> Tensor:
        return self.out(nn.functional.gelu(self.join(torch.cat([before, after], dim=-1))))  # type: ignore[no-any-return]


class BlstmTeacher(RecurrentTeacher):
    """P(unit | all other units)."""

    kind, context, network, overlap, options = "blstm", "masked", BlstmModel, 2, BlstmOptions
