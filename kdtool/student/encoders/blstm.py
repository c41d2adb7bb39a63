"""Bidirectional LSTM over subsampled frames (Hochreiter & Schmidhuber 1997; Graves & Schmidhuber 2005).

In: features (B, D, T).  Out: hidden layers (B, 2 * dim, n).  Sees the whole chunk in training and the whole sentence at
test, so the longer the training chunks, the less it is surprised.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdtool.student.encoders.base import ChannelDropout, Encoder
from kdtool.student.encoders.front import make_front


class Blstm(Encoder):
    """``layers`` bidirectional layers of ``dim`` cells a direction above the convolutional front end (layer 0)."""

    def __init__(self, input_dim: int, *, dim: int = 256, layers: int = 3, dropout: float = 0.3,
                 front: dict[str, Any] | None = None, subsampling: int = 3) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers {layers} is below 1")
        self.subsampling = subsampling
        self.front = make_front(input_dim, 2 * dim, subsampling, dropout, front)
        self.layers = nn.ModuleList(nn.LSTM(2 * dim, dim, bidirectional=True) for _ in range(layers))
        self.dropout = ChannelDropout(dropout)
        self.left = self.right = self.front.context
        self.dims = [2 * dim] * (layers + 1)

    def forward(self, feats: Tensor) -> list[Tensor]:
        hidden = [self.front(feats)]
        for layer in self.layers:
            steps, _ = layer(hidden[-1].permute(2, 0, 1))
            hidden.append(self.dropout(steps.permute(1, 2, 0)))
        return hidden
