"""Cross-entropy against truncated distributions, without ever making a dense target.

In: logits (N, V), for each frame a row of a table of U truncated distributions.  Out: (N,) in nats, differentiable in
the logits.  One pass of exp over the logits forward and one product backward; the teacher's side is touched at its K
kept entries only, which is what makes it cheaper than the dense form.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _TruncatedCrossEntropy(torch.autograd.Function):
    """H(p, q) over K + 1 masses.  With e = exp(z - max), S = sum e and R the part of S that is not kept:

    loss = log S - sum_kept p z - p_rest log R;  d/dz = e/S - p on kept entries, e/S - p_rest e/R on the others.
    R is summed over the entries themselves (S minus the kept ones would cancel when the rest is small).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, mass: Tensor, rest: Tensor) -> Tensor:
        tiny = torch.finfo(logits.dtype).tiny
        shifted = logits - logits.max(dim=1, keepdim=True).values
        kept_z = shifted.gather(1, ids)
        e = shifted.exp_()
        kept_e = e.gather(1, ids)
        e.scatter_(1, ids, 0.0)
        rest_sum = e.sum(1).clamp(min=tiny)
        # empty slots repeat the row's first entry: their mass is 0, and they must not be summed twice
        first = torch.ones_like(ids, dtype=torch.bool)
        first[:, 1:] = ids[:, 1:] != ids[:, :1]
        total = e.sum(1) + torch.where(first, kept_e, torch.zeros_like(kept_e)).sum(1)
        attached = torch.where(mass > 0, mass * kept_z, torch.zeros_like(kept_z)).sum(1)
        loss = total.log() - attached - rest * rest_sum.log()
        ctx.save_for_backward(e, kept_e, ids, mass, rest, rest_sum, total)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        e, kept_e, ids, mass, rest, rest_sum, total = ctx.saved_tensors
        out = e * (grad * (1.0 / total - rest / rest_sum))[:, None]
        kept = (kept_e / total[:, None] - mass) * grad[:, None]
        # an empty slot writes what the first slot writes: the order of the writes does not matter
        repeat = ids == ids[:, :1]
        out.scatter_(1, ids, torch.where(repeat, kept[:, :1], kept))
        return out, None, None, None


def truncated_cross_entropy(logits: Tensor, row: Tensor, ids: Tensor, mass: Tensor, rest: Tensor) -> Tensor:
    """-sum_kept p log q - p_rest log q_rest for each of N frames, in nats.

    logits (N, V); ``row`` (N,) int64 picks each frame's distribution: ``ids`` (U, K) distinct within a row, ``mass``
    (U, K) with 0 in empty slots, the first slot never empty, ``rest`` (U,); mass and rest of a row sum to one.
    A rest of the student's below the smallest normal float counts as that (log about -87), never as -inf.
    """
    if row.numel() == 0:
        return logits.sum(1)
    used = mass > 0
    used[:, 0] = True
    distinct = torch.where(used, ids, ids[:, :1])
    result: Tensor = _TruncatedCrossEntropy.apply(logits, distinct[row], mass[row], rest[row])
    return result
