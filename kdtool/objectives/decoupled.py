"""Decoupled distillation (DKD): separate weights for the target and non-target parts of the teacher's KL.

In: logits (N, V), the unit of each frame, a row of ``Posteriors`` for it.  Out: losses (M,) in nats. Source: Zhao et al. 2022, "Decoupled
Knowledge Distillation" (arXiv 2203.08679), eqs. 5 to 8: KD = TCKD + (1 - p_t) NCKD, and DKD = alpha TCKD + beta NCKD, both times T ** 2.

Exact if the whole distribution is kept. On a truncated one the masses are those of the kept entries and one bucket for the rest, as in
``soft``, with the rest spread evenly over the entries not kept. If the target is one of those, p_t is its even share, the bucket holds the
others, and NCKD is taken over K + 1 masses: never above the exact NCKD of that completion.
"""
import torch
from torch import Tensor

from kdtool.objectives.soft import tempered
from kdtool.objectives.targets import FrameTargets, Tempered, rows


class Decoupled(Tempered):
    """alpha KL(b^T || b^S) + beta KL(p^T || p^S | not the target), b being target against all others, both at ``temperature``."""

    def __init__(self, alpha: float = 1.0, beta: float = 1.0, temperature: float = 1.0, teacher_temperature: float = 1.0) -> None:
        if alpha < 0.0 or beta < 0.0:
            raise ValueError(f"alpha {alpha}, beta {beta}: neither may be negative")
        super().__init__(temperature, teacher_temperature)
        self.alpha, self.beta = alpha, beta

    def has_loss(self, targets: FrameTargets) -> Tensor:
        return (targets.teacher()[0] >= 0) & (targets.labels >= 0)

    def __call__(self, logits: Tensor, targets: FrameTargets) -> Tensor:
        unit_row, posteriors = targets.teacher()
        mask = self.has_loss(targets)
        row, label = rows(unit_row, mask), rows(targets.labels, mask)[:, None]
        log_q = torch.log_softmax(rows(logits, mask) / self.temperature, dim=1)
        if len(row) == 0:
            return log_q.sum(1)
        mass, rest, _ = tempered(posteriors, logits.shape[1], self.still_to_temper)
        ids, mass, rest = posteriors.ids[row], mass[row], rest[row]
        kept = posteriors.logp[row] > -torch.inf
        is_target = kept & (ids == label)
        not_kept = (logits.shape[1] - kept.sum(1)).clamp(min=1)
        hidden = (rest / not_kept).masked_fill(is_target.any(1), 0.0)
        target = (mass * is_target).sum(1) + hidden
        masses = torch.cat([mass.masked_fill(is_target, 0.0), (rest - hidden)[:, None].clamp(min=0.0)], dim=1)
        others = masses.sum(1)  # not 1 - target, which cancels when the teacher is certain
        log_target = log_q.gather(1, label)[:, 0]
        certain = torch.ones_like(label, dtype=torch.bool)
        log_others = _log_rest(log_q, label, certain)
        target_part = _divergence(target, log_target) + _divergence(others, log_others)
        # Divergence over the non-target entries: both sides divided by their mass.
        log_rest = _log_rest(log_q, torch.cat([ids, label], dim=1), torch.cat([kept, certain], dim=1))
        log_masses = torch.cat([log_q.gather(1, ids), log_rest[:, None]], dim=1) - log_others[:, None]
        share = masses / others.clamp(min=torch.finfo(masses.dtype).tiny)[:, None]
        other_part = _divergence(share, log_masses).sum(1)
        return (self.alpha * target_part + self.beta * other_part) * self.temperature ** 2


def _divergence(mass: Tensor, log_q: Tensor) -> Tensor:
    """p (log p - log q), 0 where p is 0: log q of empty slots and of an empty rest is ignored."""
    nothing = mass <= 0
    return mass * (mass.masked_fill(nothing, 1.0).log() - log_q.masked_fill(nothing, 0.0))


def _log_rest(log_q: Tensor, ids: Tensor, counts: Tensor) -> Tensor:
    """log of the mass outside those ``ids`` (N, K) that count, at least that of the smallest normal float; the last one counts."""
    inside = torch.zeros(log_q.shape, dtype=torch.bool, device=log_q.device)
    inside = inside.scatter(1, torch.where(counts, ids, ids[:, -1:]), True)
    outside = log_q.exp().masked_fill(inside, 0.0).sum(1)
    return outside.clamp(min=torch.finfo(log_q.dtype).tiny).log()
