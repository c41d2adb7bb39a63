"""Bootstrap over utterances (Bisani & Ney 2004): confidence intervals of an error rate, or of a difference.

In: errors and reference words of each utterance. Out: percentile intervals. Deterministic: the seed is fixed by the caller.
"""

from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError

RESAMPLES = 10_000
SEED = 20_211_020


def resampled(columns: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums of each column (U, C) over U utterances drawn with replacement: float64 (resamples, C)."""
    rng = np.random.default_rng(seed)
    count = len(columns)
    # The number of draws of each utterance is multinomial: no index table of resamples x utterances is needed.
    share = np.full(count, 1.0 / count)
    parts = [rng.multinomial(count, share, size=min(1000, resamples - n)) @ columns for n in range(0, resamples, 1000)]
    return np.concatenate(parts)


def interval(errors: np.ndarray, words: np.ndarray, *, resamples: int = RESAMPLES, seed: int = SEED) -> tuple[float, float]:
    """95% interval (percent) of the error rate sum(errors) / sum(words); errors, words: (U,)."""
    if len(errors) != len(words) or len(errors) == 0 or words.sum() <= 0:
        raise KdError(f"bootstrap over {len(errors)} error counts and {len(words)} lengths with {words.sum()} words; score again")
    sums = resampled(np.stack([errors, words], axis=1).astype(np.float64), resamples, seed)
    rates = 100.0 * sums[:, 0] / np.maximum(sums[:, 1], 1.0)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """System minus baseline in points, its 95% interval, and the share of resamples in which the system is better."""

    delta: float
    low: float
    high: float
    better: float


def paired(
    system: np.ndarray, baseline: np.ndarray, words: np.ndarray, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Difference:
    """Paired bootstrap of two systems' errors (U,) on the same utterances with ``words`` reference words each."""
    if not len(system) == len(baseline) == len(words) or len(words) == 0 or words.sum() <= 0:
        raise KdError(f"paired bootstrap over {len(system)} and {len(baseline)} utterances; both systems must decode the same set")
    sums = resampled(np.stack([system, baseline, words], axis=1).astype(np.float64), resamples, seed)
    delta = 100.0 * (sums[:, 0] - sums[:, 1]) / np.maximum(sums[:, 2], 1.0)
    low, high = np.quantile(delta, [0.025, 0.975])
    point = 100.0 * (system.sum() - baseline.sum()) / words.sum()
    return Difference(float(point), float(low), float(high), float((delta < 0).mean()))
