"""Bidirectional LSTM over subsampled frames (Hochreiter & Schmidhuber 1997; Graves & Schmidhuber 2005).

In: features (B, D, T).  Out: hidden layers (B, 2 * dim, n).  Sees the whole sentence in decoding: train it on whole utterances
(chunk: 0), as training on shorter chunks does not match.
"""
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kdtool.student.encoders.base import ChannelDropout
from kdtool.student.encoders.front import Layered


class BlstmLayer(nn.LSTM):
    """One layer (B, 2 * dim, n) -> the same; the backward direction of a sequence begins at its last frame."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__(2 * dim, dim, bidirectional=True)
        self.channel_dropout = ChannelDropout(dropout)

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        steps = x.permute(2, 0, 1)
        if pad is None:
            out = super().forward(steps)[0]
        else:
            packed = pack_padded_sequence(steps, (len(steps) - pad).cpu(), enforce_sorted=False)
            out = pad_packed_sequence(super().forward(packed)[0], total_length=len(steps))[0]
        return self.channel_dropout(out.permute(1, 2, 0))  # type: ignore[no-any-return]


class Blstm(Layered):
    """``layers`` bidirectional layers of ``dim`` cells per direction above the convolutional front end (layer 0)."""

    def __init__(self, input_dim: int, *, dim: int = 256, layers: int = 3, dropout: float = 0.3,
                 front: dict[str, Any] | None = None, subsampling: int = 3) -> None:
        if layers < 1:
            raise ValueError(f"layers {layers} is below 1")
        above = (BlstmLayer(dim, dropout) for _ in range(layers))
        super().__init__(input_dim, 2 * dim, above, dropout=dropout, front=front, subsampling=subsampling)
