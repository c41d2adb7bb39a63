"""Bidirectional LSTM over subsampled frames (Hochreiter & Schmidhuber 1997; Graves & Schmidhuber 2005).

In: features (B, D, T).  Out: hidden layers (B, 2 * dim, n).  Sees the whole chunk in training and the whole sentence at
test, so the longer the training chunks, the less it is surprised.
"""
from __future__ import annotations

from torch import Tensor, nn

from kdtool.student.encoders.base import ChannelDropout, Encoder, Front


class Blstm(Encoder):
    """``layers`` bidirectional layers of ``dim`` cells a direction above the convolutional front end (layer 0)."""

    def __init__(self, input_dim: int, *, dim: int = 256, layers: int = 3, dropout: float = 0.3, front_dim: int = 128,
                 front_kernel: int = 5, stride_kernel: int = 5, subsampling: int = 3) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers {layers} is below 1")
        self.subsampling = subsampling
        self.front = Front(input_dim, front_dim, 2 * dim, kernel=front_kernel, stride_kernel=stride_kernel,
                           subsampling=subsampling, dropout=dropout)
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
