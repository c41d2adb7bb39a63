"""Bidirectional LSTM over subsampled frames (Hochreiter & Schmidhuber 1997; Graves & Schmidhuber 2005).

In: features (B, D, T).  Out: hidden layers (B, 2 * dim, n).  Sees the whole sentence in decoding: train it on whole utterances
(chunk: 0), as training on shorter chunks does not match.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kdtool.student.encoders.base import ChannelDropout, Encoder
from kdtool.student.encoders.front import make_front


class Blstm(Encoder):
    """``layers`` bidirectional layers of ``dim`` cells per direction above the convolutional front end (layer 0)."""

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

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> list[Tensor]:
        hidden = [self.front(feats, pad)]
        for layer in self.layers:
            hidden.append(self.dropout(_run(layer, hidden[-1].permute(2, 0, 1), pad).permute(1, 2, 0)))
        return hidden


def _run(layer: nn.Module, x: Tensor, pad: Tensor | None) -> Tensor:
    """Outputs (n, B, 2 * dim) of one layer; the backward direction of a sequence begins at its last frame."""
    if pad is None:
        steps: Tensor = layer(x)[0]
        return steps
    packed = pack_padded_sequence(x, (len(x) - pad).cpu(), enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], total_length=len(x))[0]
