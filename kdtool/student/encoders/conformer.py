"""Conformer (Gulati et al. 2020): self-attention over the whole sequence, convolution around each frame.

In: features (B, D, T).  Out: hidden layers (B, dim, n).  Sees the whole sentence in decoding: train it on whole utterances (chunk: 0).
Position: a learned relative bias on the attention's scores, one number per head and distance. It is initialised as in ALiBi (Press et al.
2022), slopes 2^-2, 2^-4, .. of the distance, and learned (Raffel et al. 2020); beyond ``reach`` frames all distances share a bias.
Other differences from the paper: root mean square norms (Zhang & Sennrich 2019) for layer norms, and dropout of whole channels.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdtool.student.encoders.base import BatchNorm1d, ChannelDropout, Conv1d, within
from kdtool.student.encoders.front import Layered, check_odd


class ChannelNorm(nn.Module):
    """Each frame's channels divided by their root mean square, times a learned gain."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        scale = (x.to(torch.promote_types(x.dtype, torch.float32)).square().mean(1, keepdim=True) + 1e-5).rsqrt()
        return x * (scale * self.gain[:, None]).to(x.dtype)


class Attention(nn.Module):
    """Self-attention of (B, C, n) with a bias per head and distance; padding is not attended to."""

    def __init__(self, dim: int, heads: int, reach: int) -> None:
        super().__init__()
        if dim % heads or reach < 1:
            raise ValueError(f"dim {dim} must be a multiple of heads {heads}, reach {reach} at least 1")
        self.heads, self.reach = heads, reach
        self.norm = ChannelNorm(dim)
        self.inputs, self.output = Conv1d(dim, 3 * dim, 1), Conv1d(dim, dim, 1)
        distance = torch.arange(-reach, reach + 1).abs()
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        # one row: the weight decay of matrices would pull the biases to 'no position'
        self.bias = nn.Parameter((-slopes[:, None] * distance).flatten())

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        batch, dim, n = x.shape
        query, key, value = self.inputs(self.norm(x)).view(batch, 3, self.heads, dim // self.heads, n).unbind(1)
        scores = (query * (dim // self.heads) ** -0.5).transpose(2, 3) @ key + self.positions(n)
        if pad is not None:
            scores = scores.masked_fill(~within(n, pad)[:, None, None], -torch.inf)
        share = torch.softmax(scores, dim=3).to(value.dtype)
        mixed: Tensor = self.output((value @ share.transpose(2, 3)).reshape(batch, dim, n))
        return mixed

    def positions(self, n: int) -> Tensor:
        """(heads, n, n): entry (i, j) is the bias of distance j - i."""
        distance = torch.arange(1 - n, n, device=self.bias.device).clamp(-self.reach, self.reach) + self.reach
        return self.bias.view(self.heads, -1).index_select(1, distance).unfold(1, n, 1).flip(1)


class Convolution(nn.Module):
    """Gated projection, a filter of ``kernel`` frames per channel, normalisation, projection; padded with zeros."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        check_odd(kernel)
        self.norm = ChannelNorm(dim)
        self.gated, self.output = Conv1d(dim, 2 * dim, 1), Conv1d(dim, dim, 1)
        self.filter = Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.batch_norm = BatchNorm1d(dim)

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        y = F.glu(self.gated(self.norm(x)), dim=1)
        if pad is not None:
            y = y.masked_fill(~within(y.shape[2], pad)[:, None], 0.0)
        filtered: Tensor = self.output(F.silu(self.batch_norm(self.filter(y), pad)))
        return filtered


class Block(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, each with a residual connection; a norm."""

    def __init__(self, dim: int, heads: int, reach: int, kernel: int, wide: int, dropout: float) -> None:
        super().__init__()
        self.first, self.last = (
            nn.Sequential(ChannelNorm(dim), Conv1d(dim, wide, 1), nn.SiLU(), Conv1d(wide, dim, 1)) for _ in range(2)
        )
        self.attention, self.convolution = Attention(dim, heads, reach), Convolution(dim, kernel)
        self.norm, self.dropout = ChannelNorm(dim), ChannelDropout(dropout)

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        x = x + 0.5 * self.dropout(self.first(x))
        x = x + self.dropout(self.attention(x, pad))
        x = x + self.dropout(self.convolution(x, pad))
        x = x + 0.5 * self.dropout(self.last(x))
        normed: Tensor = self.norm(x)
        return normed


class Conformer(Layered):
    """``layers`` blocks above the convolutional front end (layer 0).

    kernel: frames (of the subsampled rate) of the convolutions; reach: largest distance with a separate bias, in such frames; wide:
    width of the feed-forward layers, 0 for twice ``dim``.
    """

    def __init__(self, input_dim: int, *, dim: int = 144, layers: int = 5, heads: int = 4, kernel: int = 15, reach: int = 64,
                 wide: int = 0, dropout: float = 0.1, front: dict[str, Any] | None = None, subsampling: int = 3) -> None:
        if layers < 1 or heads < 1 or wide < 0:
            raise ValueError(f"layers {layers} and heads {heads} must be at least 1, wide {wide} not negative")
        blocks = (Block(dim, heads, reach, kernel, wide or 2 * dim, dropout) for _ in range(layers))
        super().__init__(input_dim, dim, blocks, dropout=dropout, front=front, subsampling=subsampling)
