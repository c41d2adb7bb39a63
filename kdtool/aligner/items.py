"""What is aligned: audio files with their text.  In: a Kaldi data folder (other layouts: inputs.py).  Out: items, and faults.

Relative paths in wav.scp start at the current folder, as in Kaldi; commands in it are refused (utils/import_kaldi_data.sh
can run them).
"""

from dataclasses import dataclass
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.names import printable
from kdtool.core.walk import file_fault
from kdtool.corpus.kaldi_audio import Entry, read_entries, refuse_commands
from kdtool.corpus.kaldi_dir import KaldiDir, read_dir, spans
from kdtool.corpus.kaldi_parts import Faulty, Recorded, place
from kdtool.corpus.utterance import Limits, check_audio

MAX_OVERSHOOT = 0.5  # seconds by which a segment may exceed its recording
Fault = tuple[str, str]  # name and reason of a file that cannot be used


@dataclass(frozen=True)
class Item:
    """One audio file and its text; `name` is its path below the folder without the suffix, or the utterance's id; unique.

    recording: the audio file's name, '' if it equals `name`; part: first sample and the sample after the last, None for all;
    channel: from 0, None: the user's option; given: the original name, '' if it equals `name`.
    """

    name: str
    speaker: str
    audio: Path
    text: str
    recording: str = ""
    part: tuple[int, int] | None = None
    channel: int | None = None
    given: str = ""

    @property
    def called(self) -> str:
        """The original name, for dropped.tsv and messages."""
        return self.given or self.name


def is_kaldi(folder: Path) -> bool:
    """Whether the folder holds Kaldi's tables."""
    return (folder / "wav.scp").is_file() and (folder / "text").is_file()


def _read(folder: Path) -> tuple[KaldiDir, list[Entry]]:
    kaldi = read_dir(folder)
    entries = read_entries(kaldi.tables["wav.scp"], Path.cwd())
    refuse_commands(entries)
    return kaldi, entries


def kaldi_audio(folder: Path) -> dict[str, Path]:
    """The recordings' audio files, which lie outside the folder; unreadable ones are reported per utterance later."""
    return {f"audio of {e.id}": e.file for e in _read(folder)[1] if e.file is not None and not file_fault(e.file)}


def kaldi_items(folder: Path) -> tuple[list[Item], list[Fault]]:
    """Items and faults, sorted by name; KdError when a table is missing or malformed, or wav.scp holds commands."""
    kaldi, entries = _read(folder)
    utterances, faults = spans(kaldi)
    by_id = {e.id: e for e in entries}
    recordings = {name: _decode(by_id[name]) for name in sorted({span.recording for span in utterances})}
    items = []
    for span in utterances:
        recording = recordings[span.recording]
        try:
            part = place(span, recording, by_id[span.recording].channel, kaldi, MAX_OVERSHOOT, float("inf"))
        except Faulty as e:
            faults.append((span.id, str(e)))
            continue
        audio = recording.file.absolute()
        items.append(Item(span.id, span.speaker, audio, span.text, span.recording, (part.start, part.end), part.channel))
    if not items and not faults:
        raise KdError(f"{folder}: no utterance in it; check its tables")
    return sorted(items, key=lambda i: i.name), sorted(faults)


def _decode(entry: Entry) -> Recorded:
    assert entry.file is not None  # commands are refused
    if fault := file_fault(entry.file):
        base = f"; relative paths count from {Path.cwd()}" if entry.relative else ""
        return Recorded(f"{entry.where}: {printable(str(entry.file))}: {fault}{base}")
    fault, audio = check_audio(entry.file, Limits(sampling_rate=None, mono=False))
    return Recorded(fault and f"{entry.where}: {fault}", entry.file, entry.file, audio)
