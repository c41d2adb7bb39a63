"""Audio of any rate and number of channels.  In: an audio file.  Out: a 16-bit mono file at the model's rate, its exact length.

The file is decoded to its end: a truncated one has a sound header.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError, UsageError
from kdtool.core.sound import write_sound

BLOCK = 1 << 18
ESTIMATED = (".mp3", ".ogg", ".opus")  # their headers need not know the exact length
MIN_SECONDS = 0.03


@dataclass(frozen=True)
class Staged:
    """The original: sampling rate in Hz, first sample and samples used, samples a channel in all, channels; the file that was
    made, and its samples."""

    rate: int
    start: int
    length: int
    whole: int
    channels: int
    path: Path
    samples: int

    @property
    def seconds(self) -> float:
        """Exact duration of what is used of the original."""
        return self.length / self.rate


def parse_channel(text: str) -> int | None:
    """'mix' -> None, '1' -> 0 and so on."""
    if text == "mix":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--channel {text}: 'mix', or the channel's number from 1")
    return int(text) - 1


def stage(source: Path, target: Path, rate: int, channel: int | None, part: tuple[int, int] | None = None) -> Staged:
    """Write one channel of `source` (None: the mean of all) to `target` at `rate`; of `part` only, when it is given.

    Raises:
        KdError: unreadable, cut, silent or too short audio, or no such channel; says which and what to do.
        OSError: `target` cannot be written, as on a full disk.
    """
    import numpy as np
    import soundfile

    if source.stat().st_size == 0:
        raise KdError(f"{source} is empty (0 bytes); fetch it again")
    try:
        with soundfile.SoundFile(source) as audio:
            own, channels, announced = audio.samplerate, audio.channels, audio.frames
            if channel is not None and channel >= channels:
                raise KdError(f"{source} has {channels} channel{'s' * (channels > 1)}, no channel {channel + 1}; choose another --channel")
            start, end = part or (0, announced)
            audio.seek(start)
            signal = _read(audio, channel, end - start if part else None)
    except (soundfile.LibsndfileError, RuntimeError) as e:
        text = " ".join(str(e).split()).removeprefix(f"Error opening {str(source)!r}: ")
        raise KdError(f"{source} cannot be decoded ({text}); is it audio? fetch or convert it again") from e
    if len(signal) != end - start and source.suffix.lower() not in ESTIMATED:
        raise KdError(f"{source} is truncated: {start + len(signal)} samples, its header announces {announced}; fetch it again")
    if missing := _missing_bytes(source):
        raise KdError(f"{source} is truncated: {missing} bytes are missing that its header announces; fetch it again")
    if len(signal) < MIN_SECONDS * own:
        raise KdError(f"{source} has {len(signal)} samples at {own} Hz, less than {MIN_SECONDS:g} s")
    if not np.isfinite(signal).all():
        raise KdError(f"{source} holds samples that are not finite; convert it again")
    if signal.min() == signal.max():
        raise KdError(f"{source} is silent (all {len(signal)} samples are equal)")
    length = len(signal)
    signal = resample(signal, own, rate)
    # Mixed or resampled audio may pass full scale by a little; the features are normalised for level anyway.
    top = max(1.0, float(np.abs(signal).max()))
    write_sound(target, [signal / top], rate)
    return Staged(own, start, length, start + length if part is None else announced, channels, target, len(signal))


def _missing_bytes(path: Path) -> int:
    """How many bytes a RIFF file lacks; libsndfile makes do with what is there without a word."""
    with open(path, "rb") as f:
        head = f.read(8)
    if head[:4] != b"RIFF" or head[4:8] in (b"\0\0\0\0", b"\xff\xff\xff\xff"):  # written to a pipe: the size was not known
        return 0
    return max(0, int.from_bytes(head[4:8], "little") + 8 - path.stat().st_size)


def _read(audio: Any, channel: int | None, count: int | None) -> Any:
    """`count` samples (None: all) of a channel or of the mean, float32: block by block, so that only one channel is held."""
    import numpy as np

    blocks = []
    left = BLOCK if count is None else count
    while len(block := audio.read(min(BLOCK, left), dtype="float32", always_2d=True)):
        left -= 0 if count is None else len(block)
        blocks.append(block.mean(axis=1) if channel is None else block[:, channel].copy())
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def resample(signal: Any, old: int, new: int) -> Any:
    """Band-limited; time stands still (a linear-phase filter whose delay is taken out)."""
    if old == new:
        return signal
    from scipy.signal import resample_poly

    unit = math.gcd(old, new)
    return resample_poly(signal, new // unit, old // unit).astype("float32")
