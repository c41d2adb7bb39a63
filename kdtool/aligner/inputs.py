"""What there is to align.  In: a folder.  Out: items (audio with its text) and, by name, what cannot be used and why.

Layouts: a text file (.txt or .lab) beside each audio file, at any depth; LibriSpeech (<id> WORDS in *.trans.txt);
a Kaldi data folder (see kaldi_inputs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.errors import KdError, UsageError
from kdtool.core.walk import files_below

AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".sph")
TEXT = (".txt", ".lab")
TRANSCRIPTS = ".trans.txt"
LAYOUTS = ("auto", "beside", "librispeech", "kaldi")
SPEAKERS = ("file", "folder")


@dataclass(frozen=True)
class Item:
    """One audio file and its text; `name` is its path below the folder without the suffix, or the utterance's id; unique.

    recording: what the audio file is called, '' for `name`; part: first sample and the one behind the last, None for all;
    channel: from 0, None where the user chooses.
    """

    name: str
    speaker: str
    audio: Path
    text: str
    recording: str = ""
    part: tuple[int, int] | None = None
    channel: int | None = None


Fault = tuple[str, str]


def find_items(folder: Path, layout: str = "auto", speaker: str = "file") -> tuple[list[Item], list[Fault]]:
    """Items and faults (name, reason) of a folder, sorted by name.

    speaker: what is normalised together, each "file" or all files of a "folder"; LibriSpeech's ids name their speaker.

    Raises:
        KdError: no folder, or neither audio nor text in it.
    """
    if layout not in LAYOUTS or speaker not in SPEAKERS:
        raise UsageError(f"--layout {layout} --speaker {speaker}: known are {', '.join(LAYOUTS)}; {', '.join(SPEAKERS)}")
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; name the folder that holds the audio and its text")
    from kdtool.aligner.kaldi_inputs import is_kaldi, kaldi_items

    if layout == "kaldi" or (layout == "auto" and is_kaldi(folder)):
        return kaldi_items(folder)
    audio, texts, transcripts = _walk(folder)
    if not audio and not texts and not transcripts:
        raise KdError(f"{folder}: no audio ({' '.join(AUDIO)}) and no text ({' '.join(TEXT)}) in it; check the path")
    if layout == "librispeech" or (layout == "auto" and transcripts):
        return _librispeech(folder, audio, transcripts)
    return _beside(folder, audio, texts, speaker)


def _walk(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Audio, text and LibriSpeech transcript files; hidden ones do not count."""
    audio, texts, transcripts = [], [], []
    for path in files_below(folder, hidden=False):
        if path.name.endswith(TRANSCRIPTS):
            transcripts.append(path)
        elif path.suffix.lower() in AUDIO:
            audio.append(path)
        elif path.suffix.lower() in TEXT:
            texts.append(path)
    return audio, texts, transcripts


def _stems(folder: Path, paths: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return found


def _beside(folder: Path, audio: Sequence[Path], texts: Sequence[Path], speaker: str) -> tuple[list[Item], list[Fault]]:
    items, faults = [], []
    sounds, words = _stems(folder, audio), _stems(folder, texts)
    for name in sorted({*sounds, *words}):
        mine, said = sounds.get(name, []), words.get(name, [])
        if len(mine) > 1 or len(said) > 1:
            files = ", ".join(p.name for p in (mine if len(mine) > 1 else said))
            faults.append((name, f"which of {files} counts? keep one of them"))
        elif not mine:
            faults.append((name, f"{said[0]} has no audio file beside it; add the audio or remove the text"))
        elif not said:
            faults.append((name, f"{mine[0]} has no text beside it (.txt or .lab); add it or remove the audio"))
        else:
            try:
                text = read_text(said[0])
            except KdError as e:
                faults.append((name, str(e)))
                continue
            who = name if speaker == "file" else str(Path(name).parent)
            items.append(Item(name, who, mine[0].absolute(), text))
    return items, faults


def _librispeech(folder: Path, audio: Sequence[Path], transcripts: Sequence[Path]) -> tuple[list[Item], list[Fault]]:
    by_stem: dict[str, list[Path]] = {}
    for path in audio:
        by_stem.setdefault(path.stem, []).append(path)
    items, faults, seen = [], [], set()
    for file in transcripts:
        for number, line in enumerate(read_text(file, keep_lines=True).splitlines(), 1):
            name, _, text = line.strip().partition(" ")
            files = by_stem.get(name, [])
            if not name:
                continue
            if name in seen:
                raise KdError(f"{file}, line {number}: {name} has a transcript already; remove one of the two")
            seen.add(name)
            if len(files) == 1:
                items.append(Item(name, name.split("-")[0], files[0].absolute(), text))
            elif files:
                faults.append((name, f"which of {', '.join(map(str, files))} counts? keep one of them"))
            else:
                faults.append((name, f"{file} has a transcript for it, but there is no audio file {name}; add it or remove the line"))
    silent = {stem: paths[0] for stem, paths in by_stem.items() if stem not in seen}
    faults += [(stem, f"{path} has no line in a {TRANSCRIPTS} file; add it or remove the audio") for stem, path in silent.items()]
    return sorted(items, key=lambda i: i.name), sorted(faults)


def read_text(path: Path, keep_lines: bool = False) -> str:
    """A text file's words, separated by single spaces unless the lines are kept; KdError when it is not UTF-8."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise KdError(f"{path}: not UTF-8 (byte 0x{data[e.start]:02x} at position {e.start}); convert it with iconv") from e
    return text if keep_lines else " ".join(text.split())
