"""Per-speaker mean and variance.  In: sums per utterance.  Out: cmvn.safetensors, '<speaker>.mean' and '.std'.

The sums are stored per utterance and added in the order of the data set, so the result does not depend on the number of
processes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kdtool.core.errors import KdError
from kdtool.features.store import MIN_STD


def utterance_sums(feats: np.ndarray) -> np.ndarray:
    """Sum and sum of squares over time: (T, D) -> float64 (2, D)."""
    wide = feats.astype(np.float64)
    return np.stack([wide.sum(0), np.square(wide).sum(0)])


def speaker_stats(rows: Iterable[tuple[str, int, np.ndarray]]) -> dict[str, np.ndarray]:
    """Turn (speaker, num_frames, sums (2, D)) of all utterances into mean and standard deviation per speaker.

    Returns:
        float32 (D,) arrays under '<speaker>.mean' and '<speaker>.std'; std is at least MIN_STD.
    """
    totals: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for speaker, frames, sums in rows:
        totals[speaker] = totals[speaker] + sums if speaker in totals else sums.astype(np.float64)
        counts[speaker] = counts.get(speaker, 0) + frames
    out = {}
    for speaker, (first, second) in totals.items():
        if counts[speaker] < 1:
            raise KdError(f"speaker {speaker}: no frames to normalise with; remove the speaker's empty utterances")
        mean = first / counts[speaker]
        variance = second / counts[speaker] - mean**2
        out[f"{speaker}.mean"] = mean.astype(np.float32)
        out[f"{speaker}.std"] = np.sqrt(np.maximum(variance, MIN_STD**2)).astype(np.float32)
    return out
