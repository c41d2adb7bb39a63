"""Base class of the encoders, and their shared layers.

In: features (B, D, T).  Out: one tensor (B, C, n) per layer.
Sequences of a batch may have different lengths: all begin together, and ``pad`` (int64 (B,), or None for no padding) counts the
padding frames at each end. Nothing of a sequence may depend on its padding, neither outputs nor statistics.

Shapes are channels first everywhere; in memory the channels come last (``Conv1d``, ``BatchNorm1d``, ``channels_last``): nothing is
reordered around a convolution, and what is done per channel runs along the memory. A 1 x 1 ``Conv1d`` runs two to four times as fast as
the same product as ``nn.Linear`` in float32 (oneDNN's kernels against the BLAS of the wheel).
"""
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """An encoder that sees ``left`` and ``right`` frames around the first and last output's centre frame.

    Attributes:
        subsampling: input frames per output frame.
        left, right: context in 10 ms frames; an input of left + (n - 1) * subsampling + 1 + right frames gives n outputs,
            output j represents input frame left + j * subsampling.
        dims: channels of each layer that a head can attach to (index from 0; -1 is the last).
        not_averaged: names of buffers that the moving average of the weights copies instead of averaging; any module may have it.
    """

    subsampling: int = 3
    left: int = 0
    right: int = 0
    dims: list[int]
    not_averaged: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, feats: Tensor, pad: Tensor | None = None) -> list[Tensor]:
        """Hidden layers, all of the same number of frames n, aligned; ``pad`` counts output frames."""

    def input_frames(self, outputs: int) -> int:
        """Length of input that gives ``outputs`` output frames."""
        return self.left + (outputs - 1) * self.subsampling + 1 + self.right

    def penalties(self) -> dict[str, Tensor]:
        """Extra loss terms of the last forward pass in training, by name: scalars, summed over its output frames without
        padding and weighted by the encoder's options; training divides them by the number of output frames of the update."""
        return {}

    def constrain(self, update: int, share: float) -> None:
        """Called after optimiser update number ``update``, for encoders with constraints on their weights.

        ``share``: part of the updates done before it, 0 to 1, for constraints that are lifted during training.
        """


class ChannelDropout(nn.Module):
    """Drops whole channels of a sequence at once (one mask (B, C, 1) for all its frames).

    Kaldi's choice for TDNN-F, and far cheaper than a random number per element.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        mask = torch.rand(x.shape[0], x.shape[1], 1, dtype=x.dtype, device=x.device) >= self.p
        return x * (mask.to(x.dtype) / (1.0 - self.p))


def within(frames: int, pad: Tensor) -> Tensor:
    """bool (B, frames), True where a sequence has a frame and False in its padding."""
    return torch.arange(frames, device=pad.device) < (frames - pad)[:, None]


def channels_last(feats: Tensor) -> Tensor:
    """Features (B, D, T) as one plane (B, 1, D, T); torch then keeps channels last in what convolutions make of it."""
    return feats.unsqueeze(-1).permute(0, 3, 1, 2)


class Conv1d(nn.Conv1d):
    """Over (B, C, T), with the channels last in memory: torch does so for ``Conv2d`` only."""

    def forward(self, x: Tensor) -> Tensor:
        plane = (x.unsqueeze(2) if x.ndim == 3 else x).contiguous(memory_format=torch.channels_last)
        weight = self.weight.view(self.out_channels, -1, plane.shape[2], self.kernel_size[0])
        (stride,), (padding,), (dilation,) = self.stride, self.padding, self.dilation
        return F.conv2d(plane, weight, self.bias, (1, stride), (0, int(padding)), (1, dilation), self.groups).squeeze(2)


class _MaskedStatistics(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the frames of all sequences, without their padding (which becomes 0)."""

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        if pad is None or not self.training:
            return super().forward(x)
        frames = x.shape[-1]
        own = (frames - pad).tolist()
        rows = x.permute(0, 2, 3, 1)  # as in memory, so that the gradients are laid out alike
        joined = torch.cat([one[:, :n] for one, n in zip(rows.unbind(), own, strict=True)], dim=1)
        parts = super().forward(joined.permute(2, 0, 1).unsqueeze(0)).squeeze(0).permute(1, 2, 0).split(own, dim=1)
        return torch.stack([F.pad(part, (0, 0, 0, frames - n)) for part, n in zip(parts, own, strict=True)]).permute(0, 3, 1, 2)


class BatchNorm1d(_MaskedStatistics, nn.BatchNorm2d):
    """Over (B, C, n)."""

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        return super().forward(x.unsqueeze(2), pad).squeeze(2)


class BatchNorm2d(_MaskedStatistics, nn.BatchNorm2d):
    """Over (B, C, F, n)."""


class ConvBlock(nn.Sequential):
    """Layers in sequence that pass the padding to the normalisation."""

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer(x, pad) if isinstance(layer, _MaskedStatistics) else layer(x)
        return x


def conv_block(inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, dropout: float = 0.0) -> ConvBlock:
    """Convolution without padding, ReLU, batch normalisation, channel dropout; ``pad`` counts its output frames."""
    return ConvBlock(
        Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation),
        nn.ReLU(),
        BatchNorm1d(outputs),
        ChannelDropout(dropout),
    )


def crop(x: Tensor, left: int, right: int, step: int = 1) -> Tensor:
    """Drop ``left`` and ``right`` frames of (B, C, T), keep every ``step``-th of the others; the gradient has its channels last, too."""
    return x.transpose(1, 2)[:, left : x.shape[2] - right : step].transpose(1, 2) if left or right or step > 1 else x


def check_contexts(contexts: list[int]) -> list[int]:
    """``contexts`` if all are whole numbers >= 0, else ValueError."""
    if not contexts or any(int(c) != c or c < 0 for c in contexts):
        raise ValueError(f"contexts {contexts}: a list of whole numbers from 0 up is expected, one a layer")
    return [int(c) for c in contexts]
