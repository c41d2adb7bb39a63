"""Audio of any rate and number of channels.  In: an audio file.  Out: a 16-bit mono file at the model's rate, its exact length."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.audio.reader import open_audio
from kdtool.core.errors import KdError, UsageError
from kdtool.core.sound import write_sound

MIN_SECONDS = 0.03


@dataclass(frozen=True)
class Staged:
    """The original: rate in Hz, first sample and samples used, samples per channel in all, channels; the staged file and its samples;
    notes for the user about the original."""

    rate: int
    start: int
    length: int
    whole: int
    channels: int
    path: Path
    samples: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Exact duration of the used part of the original."""
        return self.length / self.rate


def parse_channel(text: str) -> int | None:
    """'mix' -> None, '1' -> 0 and so on."""
    if text == "mix":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--channel {text}: 'mix', or the channel's number from 1")
    return int(text) - 1


def stage(source: Path, target: Path, rate: int, channel: int | None, part: tuple[int, int] | None = None) -> Staged:
    """Write one channel of `source` (None: the mean of all) to `target` at `rate`; only `part`, if given. Raises KdError: no such
    channel, silent or too short audio, and as `open_audio`; OSError: `target` cannot be written, as on a full disk."""
    import numpy as np

    with open_audio(source) as audio:
        old_rate, channels, whole = audio.sound.rate, audio.sound.channels, audio.sound.samples
        if channel is not None and channel >= channels:
            raise KdError(f"{source} has {channels} channel{'s' * (channels > 1)}, no channel {channel + 1}; choose another --channel")
        start, end = part or (0, whole)
        if not start < end <= whole:
            raise KdError(f"{source} has {whole} samples, {start} to {end} are expected; it was changed meanwhile: start again")
        # Block by block, so that memory holds one channel only.
        signal = np.concatenate([b.mean(axis=1) if channel is None else b[:, channel].copy() for b in audio.blocks(start, end)])
    if len(signal) < MIN_SECONDS * old_rate:
        raise KdError(f"{source} has {len(signal)} samples at {old_rate} Hz, less than {MIN_SECONDS:g} s")
    if signal.min() == signal.max():
        raise KdError(f"{source} is silent (all {len(signal)} samples are equal)")
    length = len(signal)
    signal = resample(signal, old_rate, rate)
    # Mixed or resampled audio may pass full scale by a little; the features are normalised for level anyway.
    top = max(1.0, float(np.abs(signal).max()))
    write_sound(target, [signal / top], rate)
    return Staged(old_rate, start, length, whole, channels, target, len(signal), audio.sound.notes)


def resample(signal: Any, old: int, new: int) -> Any:
    """Band-limited, without delay (linear-phase filter, its delay removed)."""
    if old == new:
        return signal
    from scipy.signal import resample_poly

    unit = math.gcd(old, new)
    return resample_poly(signal, new // unit, old // unit).astype("float32")
