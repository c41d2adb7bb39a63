"""A file's header against its bytes.  In: a layout, the decoder.  Out: a Sound; a fault if it holds less than announced, or much more."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.audio.layout import Layout
from kdtool.core.errors import KdError

CONVERT = "ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"
NOTES = 5  # printed notes
MIN_RATE, MAX_RATE = 1000, 192000  # Hz; limits for speech are set by the callers
MAX_EXTRA = 0.1  # largest extra data after the announced end, in seconds of audio; more is treated as audio, not as a tag
BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}


class AudioFault(KdError):
    """An unusable audio file; the message names the file and says what to do."""


@dataclass(frozen=True)
class Sound:
    """Contents of an audio file. kind: format; coding: of the samples, libsndfile's name; samples: per channel; rate: Hz.

    low, high: smallest and largest sample of all channels, full scale is 1.0 (None before the file was read through).
    notes: notes for the user about a usable file; they begin with a verb's subject, not with the path.
    """

    kind: str
    samples: int
    rate: int
    channels: int
    coding: str = "PCM_16"
    low: float | None = None
    high: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.rate

    @property
    def constant(self) -> bool:
        """Whether all samples are equal: silence without any noise."""
        return self.low == self.high


def length(samples: int, rate: int) -> str:
    """'48,000 samples (3.00 s)'."""
    return f"{samples:,} samples ({samples / rate:.2f} s)" if rate > 0 else f"{samples:,} samples"


def tell_audio(notes: Iterable[tuple[str, str]]) -> None:
    """Print notes about files that are used nevertheless: (file, note)."""
    rows = sorted(set(notes))
    print(*(f"note: {path}: {note}" for path, note in rows[:NOTES]), sep="\n", end="\n" * bool(rows), file=sys.stderr)
    if len(rows) > NOTES:
        print(f"note: the like of {len(rows) - NOTES} more audio files", file=sys.stderr)


def truncated(path: Path, held: str, announced: str) -> AudioFault:
    """A file that holds less than it announces."""
    return AudioFault(f"{path} is truncated: it holds {held}, its header announces {announced}; fetch it again")


def undecodable(path: Path, kind: str, error: Exception) -> AudioFault:
    """libsndfile's error about a file, without libsndfile's name for it."""
    reason = re.sub(r"^Error opening .*?: ", "", " ".join(str(error).split()))
    return AudioFault(f"{path} cannot be decoded ({kind}: {reason.rstrip('.')}); fetch it again, or convert it: {CONVERT}")


def sound_of(path: Path, decoder: Any, layout: Layout) -> Sound:
    """The header's content; AudioFault when it is impossible, or the file holds less or much more."""
    rate, channels, frames = decoder.samplerate, decoder.channels, decoder.frames
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioFault(f"{path} has {rate} Hz by its header, {MIN_RATE} to {MAX_RATE} are read: the header is wrong, or this is no "
                         "speech; fetch it again, or convert it")  # fmt: skip
    unit = BYTES.get(decoder.subtype, 0) * channels
    held, announced = _lengths(layout, frames, unit)
    if layout.cut:
        raise AudioFault(f"{path} is truncated: {length(frames, rate)} can be decoded, and {layout.cut}; fetch it again")
    if announced > held:
        sizes = ("", "") if layout.announced is None else (f" in {layout.held:,} bytes", f" in {layout.announced:,}")
        raise truncated(path, length(held, rate) + sizes[0], length(announced, rate) + sizes[1])
    if unit and layout.found is None and frames < layout.held // unit:
        read = f"only {length(frames, rate)} of {length(layout.held // unit, rate)} can be read"
        raise AudioFault(f"{path}: {read}; its header contradicts itself, or it is too large for its format; convert it: {CONVERT}")
    samples = announced if unit and layout.announced is not None else min(frames, held) if layout.promised is None else frames
    if samples <= 0:
        raise AudioFault(f"{path} holds no audio (0 samples behind its header); fetch it again, or remove it")
    notes = (*layout.notes, *_extra(path, layout, samples, rate, unit))
    return Sound(layout.kind, samples, rate, channels, decoder.subtype, notes=notes)


def _lengths(layout: Layout, frames: int, unit: int) -> tuple[int, int]:
    """(samples that the file holds, samples that it announces)."""
    if layout.found is not None and not layout.lacks:
        return layout.found, layout.found if layout.promised is None else layout.promised
    if layout.announced is None:
        return frames, frames
    if unit:
        return layout.held // unit, layout.announced // unit
    return frames, max(frames + 1, frames * layout.announced // max(1, layout.held)) if layout.lacks else frames


def _extra(path: Path, layout: Layout, samples: int, rate: int, unit: int) -> tuple[str, ...]:
    """A note on the data after the announced end; AudioFault if it may be audio."""
    announced = f"it announces {length(samples, rate)}"
    if layout.found is not None and layout.found > (layout.promised or layout.found) + MAX_EXTRA * rate:
        raise AudioFault(f"{path} holds more than it announces: {announced}, its frames are {length(layout.found, rate)} (were two files "
                         f"joined?); convert it: {CONVERT}")  # fmt: skip
    if not layout.extra:
        return ()
    more = layout.extra // unit if unit else samples * layout.extra // max(1, layout.held)
    what = f"{announced}, behind which lie {layout.extra:,} bytes more (as many as {length(more, rate)})"
    if layout.zeros or more < MAX_EXTRA * rate:
        return (f"{what}; they are left out",)
    end = path.stat().st_size - layout.extra
    raise AudioFault(f"{path} holds more than it announces: {what}; if that is audio, write it anew: ffmpeg -ignore_length 1 -i IN "
                     f"OUT.wav; if not, cut it off: head -c {end} IN >OUT")  # fmt: skip
