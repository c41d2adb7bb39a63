"""Plain time-delay network (Waibel et al. 1989; Peddinti et al. 2015): full convolutions over three spliced frames.

In: features (B, D, T).  Out: hidden layers (B, dim, n).
"""
from typing import Any

from kdtool.student.encoders.base import check_contexts, conv_block
from kdtool.student.encoders.front import Layered


class Tdnn(Layered):
    """``contexts``: for each layer after the front end, its subsampled context frames on each side (0: none)."""

    def __init__(self, input_dim: int, *, dim: int = 256, contexts: list[int] | None = None, dropout: float = 0.3,
                 front: dict[str, Any] | None = None, subsampling: int = 3) -> None:
        contexts = check_contexts([1, 1, 2, 2] if contexts is None else contexts)
        layers = (conv_block(dim, dim, 3 if c else 1, dilation=max(1, c), dropout=dropout) for c in contexts)
        super().__init__(input_dim, dim, layers, contexts=contexts, dropout=dropout, front=front, subsampling=subsampling)
