"""Bootstrap over utterances (Bisani & Ney 2004): confidence intervals of an error rate, or of a difference.

In: errors and reference words of each utterance. Out: percentile intervals. Deterministic: the seed is fixed by the caller.
"""

from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError

RESAMPLES = 10_000
SEED = 20_211_020


def drawn_rates(errors: np.ndarray, words: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Errors in percent of the words over U utterances drawn with replacement: (U, C) and (U,) -> float64 (resamples, C)."""
    if len(errors) != len(words) or not len(words) or words.sum() <= 0:
        raise KdError(f"bootstrap over {len(errors)} error counts and {len(words)} lengths with {words.sum()} words; score again")
    rng, count = np.random.default_rng(seed), len(words)
    columns = np.concatenate([errors, words[:, None]], axis=1).astype(np.float64)
    # The number of draws of each utterance is multinomial: no index table of resamples x utterances is needed.
    share = np.full(count, 1.0 / count)
    sums = np.concatenate([rng.multinomial(count, share, size=min(1000, resamples - n)) @ columns for n in range(0, resamples, 1000)])
    return np.asarray(100.0 * sums[:, :-1] / np.maximum(sums[:, -1:], 1.0))


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The 95% percentile interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def interval(errors: np.ndarray, words: np.ndarray, *, resamples: int = RESAMPLES, seed: int = SEED) -> tuple[float, float]:
    """95% interval (percent) of the error rate sum(errors) / sum(words); errors, words: (U,)."""
    return percentiles(drawn_rates(errors[:, None], words, resamples, seed))


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
    if len(system) != len(baseline):
        raise KdError(f"paired bootstrap over {len(system)} and {len(baseline)} utterances; both systems must decode the same set")
    drawn = drawn_rates((system - baseline)[:, None], words, resamples, seed)
    return Difference(float(100.0 * (system - baseline).sum() / words.sum()), *percentiles(drawn), float((drawn < 0).mean()))
