"""Truncation of distributions.  In: dense natural-log probabilities.  Out: the kept pairs and the log mass of the rest.

Kept are the most probable ids of each row: at most K, and no more than are needed to reach a share of the mass
(top-K as in Futami et al. 2020, arXiv 2008.03822; "essence" as in Yang et al. 2019, arXiv 1906.10834). The mass of
what is left out stays known as one bucket, so a loss over it is never above the dense one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError


@dataclass
class Kept:
    """Rows of unequal length end to end: ``counts`` int64 (N,), ``ids`` int64 (M,) and ``logp`` float32 (M,) by falling
    probability within a row (equal ones by rising id), ``rest_logp`` float32 (N,), -inf where nothing is left."""

    counts: np.ndarray
    ids: np.ndarray
    logp: np.ndarray
    rest_logp: np.ndarray


def temper(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """log of p ** (1 / T), normalised: float32 (N, V) in nats."""
    if temperature <= 0:
        raise KdError(f"temperature {temperature}: it must be above 0")
    if temperature == 1.0:
        return log_probs
    scaled = log_probs.astype(np.float64) / temperature
    top = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - top).sum(axis=1, keepdims=True)) + top
    return (scaled - total).astype(np.float32)


def truncate(log_probs: np.ndarray, *, top_k: int, mass: float) -> Kept:
    """Keep the head of each row.

    Args:
        log_probs: (N, V) natural logs, each row sums to one; -inf is never kept.
        top_k: at most so many a row (0: no limit).
        mass: stop when so much of a row's mass is kept, above 0 and at most 1. At least one id is kept.

    Raises:
        KdError: a row that is not a distribution, or limits that make no sense.
    """
    if top_k < 0 or not 0.0 < mass <= 1.0:
        raise KdError(f"top_k {top_k}, mass {mass}: top_k of at least 0 and a mass above 0 and up to 1 are wanted")
    rows, size = log_probs.shape
    probs = np.exp(log_probs.astype(np.float64))
    total = probs.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(total - 1.0) < 1e-3))
    if bad.size:
        raise KdError(f"row {bad[0]} of a teacher's output sums to {total[bad[0]]:.6f}, not 1; the teacher is broken, train it again")
    width = min(top_k or size, size)
    order = _head(log_probs, width)
    kept_probs = np.take_along_axis(probs, order, axis=1)
    reached = np.cumsum(kept_probs, axis=1)
    before = np.concatenate([np.zeros((rows, 1)), reached[:, :-1]], axis=1)
    # In float64 a full row sums to 1 +- 1e-4 at most: without the `mass < 1` a whole row could lose its tail.
    keep = kept_probs > 0.0
    if mass < 1.0:
        keep &= before < mass * total[:, None]
    keep[:, 0] = True
    counts = keep.sum(axis=1)
    support = (probs > 0.0).sum(axis=1)
    left = total - (kept_probs * keep).sum(axis=1)
    with np.errstate(divide="ignore"):
        rest = np.where(counts >= support, -np.inf, np.log(np.maximum(left, 1e-12)))
    logp = np.take_along_axis(log_probs, order, axis=1)[keep]
    return Kept(counts, order[keep], logp.astype(np.float32), rest.astype(np.float32))


def _head(log_probs: np.ndarray, width: int) -> np.ndarray:
    """Ids (N, width) of the largest entries, falling; ties by rising id (inside what the partition picked)."""
    if width < log_probs.shape[1]:
        chosen = np.argpartition(-log_probs, width - 1, axis=1)[:, :width]
        chosen.sort(axis=1)
    else:
        chosen = np.broadcast_to(np.arange(width), log_probs.shape)
    values = np.take_along_axis(log_probs, chosen, axis=1)
    return np.take_along_axis(chosen, np.argsort(-values, axis=1, kind="stable"), axis=1)
