"""Plain time-delay network (Waibel et al. 1989; Peddinti et al. 2015): full convolutions over three spliced frames.

In: features (B, D, T).  Out: hidden layers (B, dim, n).
"""
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdtool.student.encoders.base import Encoder, check_contexts, conv_block, crop
from kdtool.student.encoders.front import make_front


class Tdnn(Encoder):
    """``contexts``: for each layer after the front end, its subsampled context frames on each side (0: none)."""

    def __init__(self, input_dim: int, *, dim: int = 256, contexts: list[int] | None = None, dropout: float = 0.3,
                 front: dict[str, Any] | None = None, subsampling: int = 3) -> None:
        super().__init__()
        self.contexts = check_contexts([1, 1, 2, 2] if contexts is None else contexts)
        self.subsampling = subsampling
        self.front = make_front(input_dim, dim, subsampling, dropout, front)
        self.layers = nn.ModuleList(
            conv_block(dim, dim, 3 if c else 1, dilation=max(1, c), dropout=dropout) for c in self.contexts
        )
        self.left = self.right = self.front.context + subsampling * sum(self.contexts)
        self.dims = [dim] * (len(self.layers) + 1)

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> list[Tensor]:
        hidden = [self.front(feats, pad)]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], pad))
        left = [sum(self.contexts[i:]) for i in range(len(hidden))]
        return [crop(h, c, c) for h, c in zip(hidden, left, strict=True)]
