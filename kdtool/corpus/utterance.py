"""One utterance of a corpus and its checks.  In: an audio file, read to its end, and its transcript.  Out: a fault or a length."""

from dataclasses import dataclass
from pathlib import Path

from kdtool.audio.faults import AudioFault
from kdtool.audio.reader import Sound, open_audio
from kdtool.text.marks import words_fault

MIN_RATE = 8000  # Hz
EMPTY_TEXT = "its transcript is empty; add the words or remove the audio file"


@dataclass(frozen=True)
class Utterance:
    """What a corpus says about an utterance, unchecked."""

    id: str
    speaker: str
    audio: Path
    text: str


@dataclass(frozen=True)
class Limits:
    """Requirements for the audio."""

    # Hz; None: any rate from MIN_RATE on. Where a corpus is known to be 16 kHz, other rates are refused, not resampled: 8 kHz audio
    # lacks the upper half of the band, so the corpus is inconsistent.
    sampling_rate: int | None = 16000
    min_seconds: float = 0.1
    max_chars_per_second: float = 30.0  # transcript characters; read English has 6 to 20
    mono: bool = True  # refuse audio with several channels


def check_utterance(utt: Utterance, limits: Limits) -> tuple[str, Sound | None]:
    """('', its audio) for a valid utterance, else (what is wrong and what to do, None)."""
    if fault := words_fault(utt.text) or ("" if utt.text.split() else EMPTY_TEXT):
        return fault, None
    fault, audio = check_audio(utt.audio, limits)
    fault = fault or text_fault(utt.text, audio.seconds if audio else 0.0, str(utt.audio), limits)
    return fault, None if fault else audio


def text_fault(text: str, seconds: float, audio: str, limits: Limits) -> str:
    """'' or why this text cannot belong to this much audio; `audio` names it for the message."""
    characters = len(" ".join(text.split()))
    if characters <= limits.max_chars_per_second * seconds:
        return "" if characters else EMPTY_TEXT
    return (
        f"{characters} characters of transcript for {seconds:.2f} s of audio ({characters / seconds:.0f} a second, more than "
        f"{limits.max_chars_per_second:g}); the transcript of {audio} belongs to other audio, or the audio is cut"
    )


def check_audio(path: Path, limits: Limits) -> tuple[str, Sound | None]:
    """('', format and length) or (fault, None); reads the whole file."""
    try:
        with open_audio(path) as file:
            if fault := _format_fault(path, file.sound, limits):
                return fault, None
            audio = file.read_through()
    except AudioFault as e:
        return str(e), None
    if audio.seconds < limits.min_seconds:
        fault = f"{path} has {audio.samples} samples, less than {limits.min_seconds:g} s; remove it with its transcript"
    elif audio.constant:
        fault = f"{path} is silent (all {audio.samples} samples are equal); remove it with its transcript"
    return fault, None if fault else audio


def _format_fault(path: Path, audio: Sound, limits: Limits) -> str:
    if audio.rate < MIN_RATE:
        return f"{path} has {audio.rate} Hz, less than {MIN_RATE}: too little of speech is in it; use the original recording"
    expected = limits.sampling_rate or audio.rate
    if audio.rate == expected and (audio.channels == 1 or not limits.mono):
        return ""
    return (
        f"{path} has {audio.rate} Hz and {audio.channels} channel{'s' * (audio.channels > 1)}, expected are {expected} Hz and one; "
        f"convert it (sox IN -r {expected} -c 1 OUT) if its bandwidth is really that"
    )
