"""Factorised time-delay network, TDNN-F (Povey et al. 2018, "Semi-orthogonal low-rank matrix factorization").

In: features (B, D, T).  Out: hidden layers (B, dim, n).
"""
from typing import Any

import torch
from torch import Tensor, nn

from kdtool.student.encoders.base import BatchNorm1d, ChannelDropout, Conv1d, check_contexts, crop
from kdtool.student.encoders.front import Layered


class FactorisedLayer(nn.Module):
    """Linear bottleneck over (t - c, t), affine over (t, t + c), ReLU, batch normalisation, dropout, scaled bypass."""

    def __init__(self, dim: int, bottleneck: int, context: int, dropout: float, bypass: float) -> None:
        super().__init__()
        kernel = 2 if context else 1
        self.context, self.bypass = context, bypass
        self.linear = Conv1d(dim, bottleneck, kernel, dilation=max(1, context), bias=False)
        self.affine = Conv1d(bottleneck, dim, kernel, dilation=max(1, context))
        self.relu = nn.ReLU()
        self.norm = BatchNorm1d(dim)
        self.dropout = ChannelDropout(dropout)

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        y = self.dropout(self.norm(self.relu(self.affine(self.linear(x))), pad))
        return torch.add(y, crop(x, self.context, self.context), alpha=self.bypass) if self.bypass else y

    @torch.no_grad()
    def orthogonalise(self) -> None:
        """One step towards M M^T = a^2 I for the bottleneck's matrix M, with free a ('floating' scale, section 2.2 of the paper)."""
        m = self.linear.weight.flatten(1)
        p = m @ m.t()
        scale2 = (p * p).sum() / p.trace()
        ratio = (p * p).sum() * p.shape[0] / p.trace() ** 2
        # Kaldi's safeguard: a large step overshoots when the singular values are far apart
        speed = 0.125 if ratio <= 1.02 else 0.125 * (0.5 if ratio <= 1.1 else 0.25)
        p.diagonal().sub_(scale2)
        self.linear.weight.sub_(((4.0 * speed / scale2) * (p @ m)).view_as(self.linear.weight))


class TdnnF(Layered):
    """``contexts``: for each layer, its subsampled context frames on each side (0: a layer without splicing).

    orthogonal_every: updates between two steps of the semi-orthogonal constraint (0: never).
    """

    def __init__(self, input_dim: int, *, dim: int = 512, bottleneck: int = 96, contexts: list[int] | None = None,
                 dropout: float = 0.2, bypass: float = 0.66, front: dict[str, Any] | None = None, subsampling: int = 3,
                 orthogonal_every: int = 4) -> None:
        contexts = check_contexts([1, 1, 0, 1, 1, 2, 2] if contexts is None else contexts)
        layers = (FactorisedLayer(dim, bottleneck, c, dropout, bypass) for c in contexts)
        super().__init__(input_dim, dim, layers, contexts=contexts, dropout=dropout, front=front, subsampling=subsampling)
        self.orthogonal_every = orthogonal_every

    def constrain(self, update: int, share: float) -> None:
        if self.orthogonal_every and update % self.orthogonal_every == 0:
            for layer in self.layers:
                layer.orthogonalise()  # type: ignore[operator]
