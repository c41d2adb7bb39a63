"""One utterance of a corpus and the checks that it has to pass.  In: an audio file and its transcript.  Out: a fault or a length.

An utterance is one audio file. The audio is decoded to its end: a truncated file has a sound header.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 16


@dataclass(frozen=True)
class Utterance:
    """What a corpus says about an utterance, before anything was checked."""

    id: str
    speaker: str
    audio: Path
    text: str


@dataclass(frozen=True)
class Limits:
    """What the audio must be like.

    Attributes:
        sampling_rate: Hz. Other rates are refused, not resampled: 8 kHz audio lacks the upper half of the band, and a
            corpus that should be 16 kHz and is not was put together wrongly.
        min_seconds: shortest audio.
        max_chars_per_second: highest rate of transcript characters; read English has 6 to 20.
    """

    sampling_rate: int = 16000
    min_seconds: float = 0.1
    max_chars_per_second: float = 30.0


def check_utterance(utt: Utterance, limits: Limits) -> tuple[str, int]:
    """('', number of samples) of a sound utterance, (what is wrong and what to do, 0) of any other."""
    words = utt.text.split()
    if not words:
        return "its transcript is empty; add the words or remove the audio file", 0
    fault, samples = check_audio(utt.audio, limits)
    if fault:
        return fault, 0
    seconds = samples / limits.sampling_rate
    rate = len(" ".join(words)) / seconds
    if rate > limits.max_chars_per_second:
        return (
            f"{len(' '.join(words))} characters of transcript for {seconds:.2f} s of audio ({rate:.0f} a second, more than "
            f"{limits.max_chars_per_second:g}); the transcript of {utt.audio} belongs to other audio, or the audio is cut"
        ), 0
    return "", samples


def check_audio(path: Path, limits: Limits) -> tuple[str, int]:
    """('', samples) or (fault, 0); reads the whole file."""
    import soundfile

    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes); fetch it again", 0
    try:
        with soundfile.SoundFile(path) as audio:
            fault = _format_fault(path, audio.samplerate, audio.channels, limits)
            if fault:
                return fault, 0
            samples, constant = _read_through(audio)
            announced = audio.frames
    except (soundfile.LibsndfileError, RuntimeError) as e:
        return f"{path} cannot be decoded ({' '.join(str(e).split()).removeprefix(f'Error opening {str(path)!r}: ')}); fetch it again", 0
    fault = ""
    if samples != announced:
        fault = f"{path} is truncated: {samples} samples, its header announces {announced}; fetch it again"
    elif samples < limits.min_seconds * limits.sampling_rate:
        fault = f"{path} has {samples} samples, less than {limits.min_seconds:g} s; remove it with its transcript"
    elif constant:
        fault = f"{path} is silent (all {samples} samples are equal); remove it with its transcript"
    return fault, 0 if fault else samples


def _format_fault(path: Path, rate: int, channels: int, limits: Limits) -> str:
    if rate == limits.sampling_rate and channels == 1:
        return ""
    return (
        f"{path} has {rate} Hz and {channels} channel{'s' * (channels > 1)}, wanted are {limits.sampling_rate} Hz and one; "
        f"convert it (sox IN -r {limits.sampling_rate} -c 1 OUT) if its bandwidth is really that"
    )


def _read_through(audio: object) -> tuple[int, bool]:
    """(samples that can be decoded, whether all of them are equal)."""
    total, low, high = 0, None, None
    while True:
        block = audio.read(BLOCK, dtype="int16")  # type: ignore[attr-defined]
        if not len(block):
            return total, low == high
        total += len(block)
        low = min(int(block.min()), block[0] if low is None else low)
        high = max(int(block.max()), block[0] if high is None else high)
