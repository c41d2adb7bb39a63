"""The essence of a teacher's distributions: what a loss reads of each row (Yang et al. 2019, arXiv 1906.10834).

In: ``Posteriors``, the likeliest entry of a row first.  Out: ``Posteriors`` with fewer entries; the others go to the rest or are forgotten.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kdtool.objectives.targets import Posteriors

BUCKET, RENORMALISE = "bucket", "renormalise"


@dataclass(frozen=True)
class Essence:
    """Which entries of a row count; the likeliest always does, and all conditions must hold.

    ``top_k``: the K likeliest (0: all); ``top_p``: the fewest that together have this mass (1: all); ``threshold``: those of at least this
    probability. ``rest``: bucket: the mass of the others is one bucket; renormalise: the kept ones are scaled to sum to one, and the
    student's mass elsewhere costs as much as its mass on a wrong entry.
    """

    top_k: int = 0
    top_p: float = 1.0
    threshold: float = 0.0
    rest: str = BUCKET

    def __post_init__(self) -> None:
        if self.top_k < 0 or not 0.0 < self.top_p <= 1.0 or not 0.0 <= self.threshold < 1.0 or self.rest not in (BUCKET, RENORMALISE):
            raise ValueError(f"top_k {self.top_k}, top_p {self.top_p}, threshold {self.threshold}, rest {self.rest}: at least 0, above 0 "
                             f"and up to 1, from 0 to below 1, {BUCKET} or {RENORMALISE}")  # fmt: skip

    @classmethod
    def of(cls, options: dict[str, Any] | None) -> Essence:
        """From a loss's option ``essence``; TypeError or ValueError for a wrong one."""
        return cls(**(options or {}))

    def __call__(self, posteriors: Posteriors) -> Posteriors:
        if self == Essence():
            return posteriors
        logp, rest = posteriors.logp, posteriors.rest_logp
        mass = logp.exp()
        place = torch.arange(logp.shape[1], device=logp.device).expand(logp.shape)
        keep = (mass.cumsum(1) - mass < self.top_p) & (mass >= self.threshold)
        if self.top_k:
            keep &= place < self.top_k
        keep |= place == 0
        if self.rest == RENORMALISE:
            rest = torch.full_like(rest, -torch.inf)
        else:
            rest = torch.logaddexp(rest, logp.masked_fill(keep, -torch.inf).logsumexp(1))
        return Posteriors(posteriors.ids, logp.masked_fill(~keep, -torch.inf), rest)
