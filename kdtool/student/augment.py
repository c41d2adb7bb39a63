"""Changes to features that leave labels and posteriors in step.

In: features (B, D, T) of a batch, a random generator.  Out: the same, changed in place or replaced.
"""

from __future__ import annotations

import numpy as np

LOW_HZ, HIGH_HZ = 20.0, 7600.0  # of the filter bank; a little off does no harm here


def mask_features(
    feats: np.ndarray, rng: np.random.Generator, *, freq_masks: int, freq_width: int, time_masks: int, time_width: int
) -> None:
    """SpecAugment without warping (Park et al. 2019), in place on (B, D, T): masked cells become 0, the speaker's mean."""
    batch, bins, frames = feats.shape
    for b in range(batch):
        for _ in range(freq_masks):
            width = int(rng.integers(0, min(freq_width, bins) + 1))
            low = int(rng.integers(0, bins - width + 1))
            feats[b, low : low + width] = 0.0
        for _ in range(time_masks):
            width = int(rng.integers(0, min(time_width, frames) + 1))
            low = int(rng.integers(0, frames - width + 1))
            feats[b, :, low : low + width] = 0.0


def warp_features(feats: np.ndarray, rng: np.random.Generator, warp: float) -> np.ndarray:
    """Vocal tract length perturbation (Jaitly & Hinton 2013) on mel bins: each chunk's frequencies times 1 +- ``warp``.

    (B, D, T) -> (B, D, T); bins that would be read from outside the filter bank repeat its edge.
    """
    batch, bins, _ = feats.shape
    mel_low, mel_high = _mel(np.array([LOW_HZ, HIGH_HZ]))
    hertz = 700.0 * (np.exp(np.linspace(mel_low, mel_high, bins) / 1127.0) - 1.0)
    factors = rng.uniform(1.0 - warp, 1.0 + warp, batch)
    place = (_mel(hertz[None] * factors[:, None]) - mel_low) / (mel_high - mel_low) * (bins - 1)
    place = place.clip(0, bins - 1)
    below = np.floor(place).astype(np.int64).clip(0, max(0, bins - 2))
    share = (place - below).astype(np.float32)[:, :, None]
    rows = np.arange(batch)[:, None]
    above = (below + 1).clip(0, bins - 1)
    return np.asarray(feats[rows, below] * (1.0 - share) + feats[rows, above] * share)


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
