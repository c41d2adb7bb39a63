"""First layers of a trunk: from features at full rate to one frame in ``subsampling``.

In: features (B, D, T).  Out: (B, outputs, n).  ``context``: frames seen to each side of an output's centre frame.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdtool.student.encoders.base import conv_block


class Front(nn.Module):
    """A front end; output j stands for input frame context + j * subsampling."""

    context: int = 0


class Conv1dFront(Front):
    """Two convolutions over time: at full rate over ``kernel`` frames, then strided over ``stride_kernel`` of its outputs."""

    def __init__(
        self, input_dim: int, outputs: int, subsampling: int, dropout: float, *, channels: int = 128, kernel: int = 5,
        stride_kernel: int = 5,
    ) -> None:
        super().__init__()
        check_odd(kernel, stride_kernel)
        self.full = conv_block(input_dim, channels, kernel)
        self.strided = conv_block(channels, outputs, stride_kernel, stride=subsampling, dropout=dropout)
        self.context = (kernel - 1) // 2 + (stride_kernel - 1) // 2

    def forward(self, feats: Tensor) -> Tensor:
        hidden: Tensor = self.strided(self.full(feats))
        return hidden


class Conv2dFront(Front):
    """Two convolutions over time and frequency (the second strided in time), each halving the frequencies, and a projection.

    Filters shared along the frequencies learn from little speech what a formant is wherever it lies (LeCun & Bengio 1995;
    Abdel-Hamid et al. 2014).
    """

    def __init__(
        self, input_dim: int, outputs: int, subsampling: int, dropout: float, *, channels: int = 16, strided_channels: int = 32,
        kernel: int = 3, stride_kernel: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        check_odd(kernel, stride_kernel)
        half = (input_dim + 1) // 2
        quarter = (half + 1) // 2
        self.full = conv2d_block(1, channels, kernel, 1)
        self.strided = conv2d_block(channels, strided_channels, stride_kernel, subsampling)
        self.project = nn.Sequential(*conv_block(strided_channels * quarter, outputs, 1, dropout=dropout))
        self.context = (kernel - 1) // 2 + (stride_kernel - 1) // 2

    def forward(self, feats: Tensor) -> Tensor:
        hidden: Tensor = self.project(self.strided(self.full(feats[:, None])).flatten(1, 2))
        return hidden


FRONTS: dict[str, type] = {"conv1d": Conv1dFront, "conv2d": Conv2dFront}


def make_front(input_dim: int, outputs: int, subsampling: int, dropout: float, options: dict[str, Any] | None) -> Front:
    """The front end named by ``options['kind']`` (conv1d unless it says otherwise); ValueError when there is none such."""
    options = dict(options or {})
    kind = options.pop("kind", "conv1d")
    if kind not in FRONTS or subsampling < 1:
        raise ValueError(f"front end '{kind}' (known: {', '.join(sorted(FRONTS))}), subsampling {subsampling} (at least 1)")
    front: Front = FRONTS[kind](input_dim, outputs, subsampling, dropout, **options)
    return front


def conv2d_block(inputs: int, outputs: int, time_kernel: int, time_stride: int) -> nn.Sequential:
    """Convolution over 3 frequencies (stride 2, padded) and ``time_kernel`` frames (not padded), ReLU, normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (3, time_kernel), stride=(2, time_stride), padding=(1, 0)),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(outputs),
    )


def check_odd(*kernels: int) -> None:
    """ValueError unless all are odd: an output must stand for a centre frame."""
    if any(k % 2 == 0 or k < 1 for k in kernels):
        raise ValueError(f"kernels {kernels} must be odd, to have a centre frame")
