"""LSTM teacher.  In: unit sequences.  Out: a small recurrent language model (embedding, LSTM, softmax).

Trained on streams of shuffled sentences, with the state carried on from one stretch to the next.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from kdtool.teacher.recurrent import RecurrentModel, RecurrentOptions, RecurrentTeacher, read_together


class LstmModel(RecurrentModel):
    """Each unit from those before it."""

    def __init__(self, num_units: int, cfg: RecurrentOptions) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_units + 1, cfg.embedding)
        self.lstm = nn.LSTM(cfg.embedding, cfg.hidden, cfg.layers, batch_first=True)
        self.out = nn.Linear(cfg.hidden, num_units)

    def forward(self, window: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        hidden, state = self.lstm(self.embed(window[:, :-1]), state)
        return self.out(hidden), window[:, 1:], tuple(s.detach() for s in state)

    def together(self, lines: list[Tensor]) -> Iterable[Tensor]:
        return map(self.out, read_together(self.lstm, [self.embed(line[:-2]) for line in lines]))


class LstmTeacher(RecurrentTeacher):
    """P(unit | the units before it)."""

    kind, network, overlap = "lstm", LstmModel, 1
