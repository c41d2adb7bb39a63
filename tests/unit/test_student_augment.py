"""Band limiting: which bins of which chunks are emptied, and that the floor is what a recording without an upper band has there."""

from __future__ import annotations

import numpy as np
import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.features.job import make_extractor
from kdtool.student.augment import BandLimit
from kdtool.student.config import StudentConfig

FBANK = "16 kHz fbank"


def correlations(feats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (T, D) with unit deviation: with the 1st, 2nd, 3rd next frame, and with the next bins."""
    return tuple(np.array([(a[k:] * a[:-k]).mean() for k in (1, 2, 3)]) for a in (feats, feats.T))  # type: ignore[return-value]


def test_the_floor_is_what_rounding_leaves_in_an_empty_band() -> None:
    """Audio below 2 kHz, rounded to 16 bits as a decoded MP3 is, normalised as features are: the same moments and correlations."""
    rng, rate = np.random.default_rng(0), 16000
    spectrum = np.fft.rfft(rng.normal(0, 3000, 40 * rate))
    spectrum[np.fft.rfftfreq(40 * rate, 1 / rate) > 2000] = 0
    audio = np.rint(np.fft.irfft(spectrum)) / 32768
    real = make_extractor("fbank", rate).extract(audio.astype(np.float32), rate)[10:-10, 73:]
    assert np.abs(real.mean(0) + 15).max() < 0.4 and np.abs(real.std(0) - 0.43).max() < 0.03
    real = (real - real.mean(0)) / real.std(0)
    feats = np.zeros((1, 80, 4000), np.float32)
    limit = BandLimit(1.0, 6000.0, FBANK, 80)
    while not feats[0, 73].any():  # until a chunk loses all bins from 73 on
        limit(feats, rng)
    floor = feats[0, 73:].T
    assert np.abs(floor.mean(0)).max() < 0.1 and np.abs(floor.std(0) - 1).max() < 0.05
    assert abs((floor**3).mean()) < 0.1 and abs((real**3).mean()) < 0.1
    for mine, others in zip(correlations(floor), correlations(real), strict=True):
        assert np.abs(mine - others).max() < 0.06


def test_upper_bins_of_some_chunks_are_emptied_and_nothing_else_changes() -> None:
    feats = np.full((400, 80, 7), 5.0, np.float32)
    BandLimit(0.25, 4000.0, FBANK, 80)(feats, np.random.default_rng(1))
    emptied = (feats != 5.0).all(2)
    assert feats.dtype == np.float32 and np.array_equal(emptied, (feats != 5.0).any(2))  # all frames of a bin, or none
    low = np.where(emptied.any(1), emptied.argmax(1), 80)
    for chunk, first in enumerate(low):  # one edge a chunk, everything above it
        assert emptied[chunk, first:].all()
    assert 70 <= (low < 80).sum() <= 130
    # The 63rd of 80 filters is the first that is centred at 4 kHz or above.
    assert low.min() == 62 and low[low < 80].max() == 79
    untouched = np.full((9, 80, 7), 5.0, np.float32)
    BandLimit(0.0, 4000.0, FBANK, 80)(untouched, np.random.default_rng(1))
    assert (untouched == 5.0).all()


def test_the_lowest_bin_follows_the_rate_and_the_band() -> None:
    firsts = [BandLimit(0.5, 3000.0, kind, 80).first for kind in (FBANK, "16 kHz fbank to 5500 Hz", "8 kHz fbank")]
    assert firsts == sorted(firsts) and len({*firsts}) == 3
    with pytest.raises(KdError, match=r"band_lowest 4000.0: .*8 kHz fbank.* end at 3600 Hz"):
        BandLimit(0.5, 4000.0, "8 kHz fbank", 80)
    with pytest.raises(KdError, match="16 kHz mfcc, mel bins are expected"):
        BandLimit(0.5, 4000.0, "16 kHz mfcc", 13)
    for wrong in ({"band_limit": 1.5}, {"band_limit": -0.1}, {"band_lowest": 0.0}):
        with pytest.raises(UsageError, match="a share from 0 to 1, a frequency above 0"):
            StudentConfig(**wrong)
