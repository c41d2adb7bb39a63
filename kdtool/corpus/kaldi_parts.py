"""Places an utterance in its recording.  In: an utterance of the tables, the recording's audio.  Out: samples, or a fault.

Times become samples at the recording's rate, rounded to the nearest. Kaldi's durations are checked against the audio.
"""

from dataclasses import dataclass
from pathlib import Path

from kdtool.audio.reader import Sound
from kdtool.corpus.kaldi_dir import KaldiDir, Span
from kdtool.corpus.utterance import EMPTY_TEXT, Limits, text_fault
from kdtool.text.marks import words_fault

MAX_SECONDS_OFF = 0.1  # Kaldi's durations are rounded, and those from features are whole frames


class Faulty(Exception):
    """Why one utterance cannot be used; the others can."""


@dataclass
class Recorded:
    """A recording's audio: its file, its final place, its format and length; or a fault."""

    fault: str
    file: Path = Path()
    final: Path = Path()
    audio: Sound | None = None


@dataclass(frozen=True)
class Part:
    """First sample, the sample after the last, rate and channel; whether the end was cut to the recording's."""

    start: int
    end: int
    rate: int
    channel: int
    cut: bool


def place(span: Span, recorded: Recorded, channel: int | None, kaldi: KaldiDir, overshoot: float, max_chars_per_second: float) -> Part:
    """The utterance's part of its recording. Raises Faulty: with the reason and what to do.

    channel: from wav.scp, None if it has none; overshoot: seconds by which a segment may exceed its recording.
    """
    audio = recorded.audio
    if audio is None:
        raise Faulty(recorded.fault)
    if fault := words_fault(span.text):
        raise Faulty(f"{kaldi.tables['text'].where(span.id)}: {fault}")
    if not span.text.split():
        raise Faulty(EMPTY_TEXT.replace("the audio file", f"the utterance ({span.where})"))
    announced = kaldi.duration("reco2dur", span.recording)
    if announced is not None and abs(announced - audio.seconds) > MAX_SECONDS_OFF:
        raise Faulty(f"{span.recording} has {audio.seconds:.3f} s of audio, reco2dur says {announced:.3f} s; fetch the audio again, or "
                     "remove reco2dur")  # fmt: skip
    start, end = round(span.start * audio.rate), audio.samples if span.end is None else round(span.end * audio.rate)
    if start < 0 or end <= start or start >= audio.samples:
        last = f"{span.end:g} s" if span.end is not None else "its end"
        raise Faulty(f"{span.where}: {span.start:g} s to {last} is no part of {span.recording}, which has {audio.seconds:.3f} s; "
                     "fix the times")  # fmt: skip
    if end - audio.samples > overshoot * audio.rate:
        raise Faulty(f"{span.where}: it ends at {span.end:.3f} s, its recording {span.recording} at {audio.seconds:.3f} s, by more "
                     f"than --max-overshoot {overshoot:g}; fix the times, or fetch the audio again")  # fmt: skip
    last_sample = min(end, audio.samples)
    seconds, shortest = (last_sample - start) / audio.rate, Limits.min_seconds
    if seconds < shortest:
        raise Faulty(f"{span.where}: {seconds:.3f} s, less than {shortest:g} s; fix the times, or remove the utterance")
    announced = kaldi.duration("utt2dur", span.id)
    most = MAX_SECONDS_OFF + overshoot * (span.end is not None)  # Kaldi's tables do not know about an end that was cut
    if announced is not None and not -MAX_SECONDS_OFF <= announced - seconds <= most:
        raise Faulty(f"{span.where}: it has {seconds:.3f} s, utt2dur says {announced:.3f} s; fetch the audio again, or remove utt2dur")
    if fault := text_fault(span.text, seconds, span.recording, Limits(max_chars_per_second=max_chars_per_second)):
        raise Faulty(fault)
    return Part(start, last_sample, audio.rate, _channel(span, recorded.file, audio.channels, channel), end > audio.samples)


def _channel(span: Span, file: Path, channels: int, channel: int | None) -> int:
    """The utterance's channel: from segments, else from wav.scp, else the only one."""
    chosen = span.channel if span.channel is not None else channel
    if chosen is None and channels > 1:
        raise Faulty(f"{file} has {channels} channels; name one in a fifth column of segments (from 0), or convert the file "
                     "(sox IN -c 1 OUT)")  # fmt: skip
    if (chosen or 0) >= channels:
        raise Faulty(f"{span.where}: channel {chosen} of {file}, which has {channels}; they count from 0, fix the line")
    return chosen or 0
