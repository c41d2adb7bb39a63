"""Changes to features that leave labels and posteriors in step.

In: features (B, D, T) of a batch, a random generator.  Out: the same, changed in place or replaced.
"""

import numpy as np

from kdtool.core.errors import KdError
from kdtool.features.store import LOW_FREQ, parse_label

LOW_HZ, HIGH_HZ = 20.0, 7600.0  # of the filter bank; a little off does no harm here


def mask_features(
    feats: np.ndarray, rng: np.random.Generator, *, freq_masks: int, freq_width: int, time_masks: int, time_width: int
) -> None:
    """SpecAugment without warping (Park et al. 2019), in place on (B, D, T): masked cells become 0, the speaker's mean."""
    for chunk in feats:
        for cells, masks, widest in ((chunk, freq_masks, freq_width), (chunk.T, time_masks, time_width)):
            for _ in range(masks):
                width = int(rng.integers(0, min(widest, len(cells)) + 1))
                low = int(rng.integers(0, len(cells) - width + 1))
                cells[low : low + width] = 0.0


def warp_features(feats: np.ndarray, rng: np.random.Generator, warp: float) -> np.ndarray:
    """Vocal tract length perturbation (Jaitly & Hinton 2013) on mel bins: each chunk's frequencies times 1 +- ``warp``.

    (B, D, T) -> (B, D, T); bins that would be read from outside the filter bank repeat its edge.
    """
    batch, bins, _ = feats.shape
    mel_low, mel_high = _mel(np.array([LOW_HZ, HIGH_HZ]))
    hertz = 700.0 * (np.exp(np.linspace(mel_low, mel_high, bins) / 1127.0) - 1.0)
    factors = rng.uniform(1.0 - warp, 1.0 + warp, batch)
    place = ((_mel(hertz[None] * factors[:, None]) - mel_low) / (mel_high - mel_low) * (bins - 1)).clip(0, bins - 1)
    below = np.floor(place).astype(np.int64).clip(0, max(0, bins - 2))
    share = (place - below).astype(np.float32)[:, :, None]
    rows = np.arange(batch)[:, None]
    above = (below + 1).clip(0, bins - 1)
    return np.asarray(feats[rows, below] * (1.0 - share) + feats[rows, above] * share)


class BandLimit:
    """Empties the upper mel bins of some chunks from a random frequency on, as recordings of a narrow band (MP3, telephone) have them.

    What is left of such a band is the rounding noise of 16 bits: about -15 +- 0.43 nats in all bins, almost Gaussian, frames correlated
    by 0.2 and bins by 0.27 with their next ones and with no others (measured on rounding noise; decoded MP3 has the same). After
    normalisation per speaker that is noise of mean 0 and deviation 1, whatever the speaker: the floor that is put in.
    """

    FRAMES, BINS = 0.209, 0.293  # c in x[t] + c x[t - 1], which is correlated by c / (1 + c^2)

    def __init__(self, share: float, lowest: float, feature_kind: str, bins: int) -> None:
        """``share`` of the chunks lose the bins from a random one on, of those centred at ``lowest`` Hz or above; KdError if the
        features are not filter banks, or none of their bins lies that high."""
        features = parse_label(feature_kind)
        if features.kind != "fbank":
            raise KdError(f"band_limit: the features are {feature_kind}, mel bins are expected; extract fbank, or set band_limit to 0")
        low, high = _mel(np.array([LOW_FREQ, features.top], dtype=np.float64))
        centres = np.linspace(low, high, bins + 2)[1:-1]
        self.share, self.first = share, int(np.searchsorted(centres, _mel(np.array(lowest))))
        if self.first >= bins:
            raise KdError(f"band_lowest {lowest}: the features ({feature_kind}) end at {features.top} Hz; choose a lower frequency")

    def __call__(self, feats: np.ndarray, rng: np.random.Generator) -> None:
        """In place on (B, D, T)."""
        batch, bins, frames = feats.shape
        for b in np.flatnonzero(rng.random(batch) < self.share):
            low = int(rng.integers(self.first, bins))
            noise = rng.standard_normal((bins - low + 1, frames + 1), dtype=np.float32)
            noise = noise[1:] + self.BINS * noise[:-1]
            noise = noise[:, 1:] + self.FRAMES * noise[:, :-1]
            feats[b, low:] = noise / np.float32(np.sqrt((1 + self.BINS**2) * (1 + self.FRAMES**2)))


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
