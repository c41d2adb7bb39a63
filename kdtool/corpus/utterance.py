"""One utterance of a corpus and the checks that it has to pass.  In: an audio file and its transcript.  Out: a fault or a length.

An utterance is one audio file. The audio is decoded to its end: a truncated file has a sound header.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdtool.text.marks import words_fault

BLOCK = 1 << 16
MIN_RATE = 8000  # Hz
EMPTY_TEXT = "its transcript is empty; add the words or remove the audio file"


@dataclass(frozen=True)
class Utterance:
    """What a corpus says about an utterance, before anything was checked."""

    id: str
    speaker: str
    audio: Path
    text: str


@dataclass(frozen=True)
class Audio:
    """What an audio file holds, decoded to its end: samples a channel, Hz, channels."""

    samples: int
    sampling_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.samples / self.sampling_rate


@dataclass(frozen=True)
class Limits:
    """What the audio must be like.

    Attributes:
        sampling_rate: Hz; None takes any from MIN_RATE on. Where a corpus is known to be 16 kHz, other rates are refused, not
            resampled: 8 kHz audio lacks the upper half of the band, so the corpus was put together wrongly.
        min_seconds: shortest audio.
        max_chars_per_second: highest rate of transcript characters; read English has 6 to 20.
        mono: refuse audio with several channels.
    """

    sampling_rate: int | None = 16000
    min_seconds: float = 0.1
    max_chars_per_second: float = 30.0
    mono: bool = True


def check_utterance(utt: Utterance, limits: Limits) -> tuple[str, Audio | None]:
    """('', its audio) of a sound utterance, (what is wrong and what to do, None) of any other."""
    if fault := words_fault(utt.text) or ("" if utt.text.split() else EMPTY_TEXT):
        return fault, None
    fault, audio = check_audio(utt.audio, limits)
    fault = fault or text_fault(utt.text, audio.seconds if audio else 0.0, str(utt.audio), limits)
    return fault, None if fault else audio


def text_fault(text: str, seconds: float, audio: str, limits: Limits) -> str:
    """'' or why this text cannot belong to so much audio; `audio` names it for the message."""
    characters = len(" ".join(text.split()))
    if characters <= limits.max_chars_per_second * seconds:
        return "" if characters else EMPTY_TEXT
    return (
        f"{characters} characters of transcript for {seconds:.2f} s of audio ({characters / seconds:.0f} a second, more than "
        f"{limits.max_chars_per_second:g}); the transcript of {audio} belongs to other audio, or the audio is cut"
    )


def check_audio(path: Path, limits: Limits) -> tuple[str, Audio | None]:
    """('', what it holds) or (fault, None); reads the whole file."""
    import soundfile

    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes); fetch it again", None
    try:
        with soundfile.SoundFile(path) as file:
            fault = _format_fault(path, file.samplerate, file.channels, limits)
            if fault:
                return fault, None
            samples, constant = _read_through(file)
            announced, audio = file.frames, Audio(samples, file.samplerate, file.channels)
    except (soundfile.LibsndfileError, RuntimeError) as e:
        return f"{path} cannot be decoded ({' '.join(str(e).split()).removeprefix(f'Error opening {str(path)!r}: ')}); fetch it again", None
    fault = ""
    if samples != announced:
        fault = f"{path} is truncated: {samples} samples, its header announces {announced}; fetch it again"
    elif audio.seconds < limits.min_seconds:
        fault = f"{path} has {samples} samples, less than {limits.min_seconds:g} s; remove it with its transcript"
    elif constant:
        fault = f"{path} is silent (all {samples} samples are equal); remove it with its transcript"
    return fault, None if fault else audio


def _format_fault(path: Path, rate: int, channels: int, limits: Limits) -> str:
    wanted = limits.sampling_rate or rate
    if rate < MIN_RATE:
        return f"{path} has {rate} Hz, less than {MIN_RATE}: too little of speech is in it; use the original recording"
    if rate == wanted and (channels == 1 or not limits.mono):
        return ""
    return (
        f"{path} has {rate} Hz and {channels} channel{'s' * (channels > 1)}, wanted are {wanted} Hz and one; "
        f"convert it (sox IN -r {wanted} -c 1 OUT) if its bandwidth is really that"
    )


def _read_through(audio: object) -> tuple[int, bool]:
    """(samples that can be decoded, whether all of them are equal)."""
    total = 0
    lows: list[int] = []
    highs: list[int] = []
    while True:
        block = audio.read(BLOCK, dtype="int16")  # type: ignore[attr-defined]
        if not len(block):
            return total, min(lows, default=0) == max(highs, default=0)
        total += len(block)
        lows.append(int(block.min()))
        highs.append(int(block.max()))


def audio_header(path: Path) -> tuple[int, int, int]:
    """(sampling rate, samples, channels) as the file's header says; ValueError when libsndfile cannot read it."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError) as e:
        raise ValueError(" ".join(str(e).split()).removeprefix(f"Error opening {str(path)!r}: ")) from e
    return info.samplerate, info.frames, info.channels


def read_through(path: Path) -> tuple[int, bool]:
    """(samples that can be decoded, whether all of them are equal); ValueError when decoding fails."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as audio:
            return _read_through(audio)
    except (soundfile.LibsndfileError, RuntimeError) as e:
        raise ValueError(" ".join(str(e).split())) from e
