"""Cross-entropy against truncated distributions, without a dense target.

In: logits (N, V), for each frame a row of a table of U truncated distributions.  Out: a loss in nats for each frame with a row,
differentiable in the logits.  One exp of the logits forward and one product backward, with ``overwrite`` both in the logits'
memory; only the K kept entries of the teacher are read.
"""
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _TruncatedCrossEntropy(torch.autograd.Function):
    """H(p, q) over K + 1 masses.  With e = exp(z - max), S = sum e and R the part of S that is not kept:

    loss = log S - sum_kept p z - p_rest log R;  d/dz = e/S - p on kept entries, e/S - p_rest e/R on the others.
    R is summed over the entries themselves (S minus the kept ones would cancel when the rest is small).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, mass: Tensor, rest: Tensor, scale: float, overwrite: bool) -> Tensor:
        e = logits.detach() if overwrite else logits.detach().clone()
        if scale != 1.0:
            e.mul_(scale)
        e.sub_(e.amax(dim=1, keepdim=True))
        kept_z = e.gather(1, ids)
        kept_e = kept_z.exp()
        rest_sum = exp_(e).scatter_(1, ids, 0.0).sum(1)
        # empty slots repeat the row's first entry: their mass is 0, and they must not be summed twice
        repeat = ids == ids[:, :1]
        repeat[:, 0] = False
        total = rest_sum + kept_e.masked_fill(repeat, 0.0).sum(1)
        rest_sum = rest_sum.clamp_(min=torch.finfo(e.dtype).tiny)
        attached = (mass * kept_z).masked_fill_(mass == 0.0, 0.0).sum(1)
        ctx.scale, ctx.overwrite = scale, overwrite
        ctx.save_for_backward(e, kept_e, ids, repeat, mass, rest, rest_sum, total)
        return total.log() - attached - rest * rest_sum.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        e, kept_e, ids, repeat, mass, rest, rest_sum, total = ctx.saved_tensors
        grad = grads[0] * ctx.scale
        kept = (kept_e / total[:, None] - mass) * grad[:, None]
        # if the logits were overwritten, a second backward is an autograd error (e has changed), not a wrong number
        out = torch.mul(e, (grad * (1.0 / total - rest / rest_sum))[:, None], out=e if ctx.overwrite else torch.empty_like(e))
        # an empty slot writes the same value as the first slot: the order of the writes does not matter
        out.scatter_(1, ids, torch.where(repeat, kept[:, :1], kept))
        return out, None, None, None, None, None


def exp_(x: Tensor) -> Tensor:
    """exp in place, of a tensor outside autograd.  On the CPU by NumPy: with AVX-512 it takes half the time of torch's,
    which is the largest part of the whole loss; both are within 3 units of the last digit."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return x.exp_()
    values = x.numpy()
    np.exp(values, out=values)
    return x


def truncated_cross_entropy(
    logits: Tensor, row: Tensor, ids: Tensor, mass: Tensor, rest: Tensor, *, scale: float = 1.0, overwrite: bool = False
) -> Tensor:
    """-sum_kept p log q - p_rest log q_rest of each frame that has a row, in nats; q is the softmax of logits * ``scale``.

    logits (N, V); ``row`` (N,) int64 selects each frame's distribution, -1 for none: ``ids`` (U, K) distinct within a row, ``mass``
    (U, K) with 0 in empty slots, the first slot never empty, ``rest`` (U,); mass and rest of a row sum to one.
    A rest of the student's below the smallest normal float counts as that (log about -87), never as -inf.

    ``overwrite``: the logits become the buffer, and later hold their gradient, so that nothing of their size is
    allocated: for contiguous logits that nothing else reads, made by an operation that does not need its result again.
    """
    taught = row >= 0
    used = mass > 0
    used[:, 0] = True
    distinct = torch.where(used, ids, ids[:, :1])
    if not bool(taught.all()):
        if not bool(taught.any()):
            return logits[taught].sum(1)
        # A frame without a row is computed with the first row, and its loss dropped: cheaper than copying the others.
        row = row.clamp(min=0)
    result: Tensor = _TruncatedCrossEntropy.apply(logits, *(part.index_select(0, row) for part in (distinct, mass, rest)), scale, overwrite)
    return result if bool(taught.all()) else result[taught]
