"""Finds audio and text to align.  In: a folder.  Out: items (audio with its text); faults (name, reason) for what cannot be used.

Layouts: a text file (.txt or .lab) beside each audio file, at any depth; LibriSpeech (<id> WORDS in *.trans.txt);
a Kaldi data folder (see kaldi_inputs.py). Audio is known by its suffix. If a text has no audio, any file of its name that is audio by
its content is used; if such a file must be converted first, the fault says so.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.aligner.items import Fault, Item
from kdtool.audio.faults import CONVERT
from kdtool.audio.kinds import AUDIO, CONVERTED, HEADERLESS
from kdtool.audio.reader import is_audio
from kdtool.core.encoding import read_utf8, utf8_lines
from kdtool.core.errors import KdError, UsageError
from kdtool.core.names import escaped, is_utf8, printable
from kdtool.core.walk import file_fault, files_below
from kdtool.text.kinds import plain_fault
from kdtool.text.marks import words_fault

TEXT = (".txt", ".lab")
TRANSCRIPTS = ".trans.txt"
LARGEST_TEXT = 1 << 24  # bytes; about a hundred hours of speech
LAYOUTS = ("auto", "beside", "librispeech", "kaldi")
SPEAKERS = ("file", "folder")


@dataclass
class Files:
    """Readable files, and the unreadable ones with reasons."""

    audio: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)
    transcripts: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    odd: list[tuple[Path, str]] = field(default_factory=list)


def find_items(folder: Path, layout: str = "auto", speaker: str = "file") -> tuple[list[Item], list[Fault]]:
    """Items and faults (name, reason) of a folder, sorted by name.

    speaker: normalise over each "file" or over all files of a "folder"; LibriSpeech's ids name their speaker.

    Raises:
        KdError: the folder does not exist, or holds neither audio nor text in it.
    """
    if layout not in LAYOUTS or speaker not in SPEAKERS:
        raise UsageError(f"--layout {layout} --speaker {speaker}: known are {', '.join(LAYOUTS)}; {', '.join(SPEAKERS)}")
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; name the folder that holds the audio and its text")
    if not is_utf8(str(folder.absolute())):
        raise KdError(f"{escaped(str(folder.absolute()))}: its path is not UTF-8; rename the folder, or name it by a link")
    from kdtool.aligner.kaldi_inputs import is_kaldi, kaldi_items

    if layout == "kaldi" or (layout == "auto" and is_kaldi(folder)):
        return kaldi_items(folder)
    files = _walk(folder)
    if not files.audio and not files.texts and not files.transcripts and not files.odd:
        foreign = next((f"; {p.name} has to be converted first: {CONVERT}" for p in files.others if p.suffix.lower() in CONVERTED), "")
        raise KdError(f"{folder}: no audio ({' '.join(AUDIO)}) and no text ({' '.join(TEXT)}) in it; check the path{foreign}")
    if layout == "librispeech" or (layout == "auto" and files.transcripts):
        return _librispeech(folder, files)
    return _beside(folder, files, speaker)


def _walk(folder: Path) -> Files:
    """Audio, text and LibriSpeech transcript files; hidden files are skipped."""
    faults: list[tuple[Path, str]] = []
    paths = files_below(folder, hidden=False, faults=faults)
    paths += [path for path, _ in faults]
    known, files = {str(path): reason for path, reason in faults}, Files()
    for path in sorted(paths):
        reason = known.get(str(path)) or ("" if is_utf8(str(path.relative_to(folder))) else file_fault(path))
        suffix = path.suffix.lower()
        counts = path.name.endswith(TRANSCRIPTS) or suffix in AUDIO or suffix in TEXT
        if reason and (counts or os.path.isdir(path)):
            files.odd.append((path, reason))
        elif path.name.endswith(TRANSCRIPTS):
            files.transcripts.append(path)
        elif suffix in AUDIO:
            files.audio.append(path)
        elif suffix in TEXT:
            files.texts.append(path)
        else:
            files.others.append(path)
    return files


def _more_audio(names: Collection[str], others: dict[str, list[Path]], audio: dict[str, list[Path]]) -> None:
    """Give texts without audio the files of their name that have another suffix but are audio, in place."""
    for name in names:
        for path in others.get(name, []) if name not in audio else []:
            if path.suffix.lower() in (*CONVERTED, *HEADERLESS) or (not file_fault(path) and is_audio(path)):
                audio.setdefault(name, []).append(path)


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _stems(folder: Path, paths: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(_name(folder, path), []).append(path)
    return found


def _pair_spellings(sounds: dict[str, list[Path]], words: dict[str, list[Path]]) -> None:
    """Pair audio and text whose names differ only in how an accent is encoded (one or two characters), in place."""

    def alone(mine: Collection[str], other: Collection[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in sorted(set(mine) - set(other)):
            found.setdefault(unicodedata.normalize("NFC", name), []).append(name)
        return found

    texts = alone(words, sounds)
    for spelling, names in alone(sounds, words).items():
        if len(names) == 1 and len(texts.get(spelling, [])) == 1:
            words[names[0]] = words.pop(texts[spelling][0])


def _beside(folder: Path, files: Files, speaker: str) -> tuple[list[Item], list[Fault]]:
    items, faults = [], {}
    sounds, words = _stems(folder, files.audio), _stems(folder, files.texts)
    _more_audio(words, _stems(folder, files.others), sounds)
    _pair_spellings(sounds, words)
    for name in sorted({*sounds, *words}):
        mine, said = sounds.get(name, []), words.get(name, [])
        if len(mine) > 1 or len(said) > 1:
            paths = ", ".join(p.name for p in (mine if len(mine) > 1 else said))
            faults[name] = f"which of {paths} counts? keep one of them"
        elif not mine:
            there = folder / f"{name}{AUDIO[0]}"
            missing = f"{there.name} beside it is a folder" if there.is_dir() else "has no audio file beside it"
            faults[name] = f"{said[0]} {missing}; add the audio or remove the text"
        elif not said:
            faults[name] = f"{mine[0]} has no text beside it (.txt or .lab); add it or remove the audio"
        else:
            try:
                text = read_text(said[0])
            except (KdError, OSError) as e:
                faults[name] = str(e) if isinstance(e, KdError) else f"{said[0]}: {file_fault(said[0]) or e.strerror}"
                continue
            who = name if speaker == "file" else str(Path(name).parent)
            items.append(Item(name, who, mine[0].absolute(), text))
    return items, _with_odd(folder, files, faults, items)


def _with_odd(folder: Path, files: Files, faults: dict[str, str], items: Sequence[Item], stem: bool = False) -> list[Fault]:
    """All faults, sorted. An odd name replaces the fault of its missing partner; if an item has that name, it is given in full.

    stem: audio is known by its name without folder.
    """
    names = {i.name for i in items}
    for path, reason in files.odd:
        whole = path.relative_to(folder).as_posix()
        name = whole if os.path.isdir(path) else path.stem if stem and path.suffix.lower() in AUDIO else _name(folder, path)
        faults[whole if name in names else name] = f"{printable(str(path))}: {reason}"
    return sorted(faults.items())


def _by_stem(paths: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _librispeech(folder: Path, files: Files) -> tuple[list[Item], list[Fault]]:
    by_stem, others = _by_stem(files.audio), _by_stem(files.others)
    faults: dict[str, str] = {}
    found: dict[str, tuple[str, str]] = {}
    for file in files.transcripts:
        for number, line in _transcript_lines(folder, file, faults):
            name, _, text = line.strip().partition(" ")
            where = f"{file}, line {number}"
            if name in found:
                faults[name] = f"{where}: it has a transcript in {found[name][0]} already; remove one of the two"
            elif name:
                found[name] = where, text
                if fault := words_fault(text):
                    faults[name] = f"{where}: {fault}"
    _more_audio(found, others, by_stem)
    items = []
    for name, (where, text) in found.items():
        paths = by_stem.get(name, [])
        if len(paths) == 1 and name not in faults:
            items.append(Item(name, name.split("-")[0], paths[0].absolute(), text))
        elif len(paths) > 1:
            faults.setdefault(name, f"which of {', '.join(map(str, paths))} counts? keep one of them")
        else:
            faults.setdefault(name, f"{where} has a transcript for it, but there is no audio file {name}; add it or remove the line")
    for stem, paths in by_stem.items():
        if stem not in found:
            faults.setdefault(stem, f"{paths[0]} has no line in a {TRANSCRIPTS} file; add it or remove the audio")
    return sorted(items, key=lambda i: i.name), _with_odd(folder, files, faults, items, stem=True)


def _transcript_lines(folder: Path, file: Path, faults: dict[str, str]) -> list[tuple[int, str]]:
    """(line number, line). A line in another encoding is a fault of its utterance; an unreadable file is one fault."""
    try:
        return list(enumerate(utf8_lines(file), 1))
    except OSError as e:
        reason = f"{file}: {file_fault(file) or e.strerror}"
    except KdError as e:
        reason = str(e)
        if good := _utf8_ones(file, reason, faults):
            return good
    faults[file.relative_to(folder).as_posix()] = reason
    return []


def _utf8_ones(file: Path, reason: str, faults: dict[str, str]) -> list[tuple[int, str]]:
    """If most lines are UTF-8 text: those lines; the others become faults of their utterances."""
    good, bad = [], {}
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        try:
            good.append((number, line.decode("utf-8").removeprefix("\ufeff")))
        except UnicodeDecodeError:
            bad[line.split()[0].decode(errors="replace")] = f"{file}, line {number}: not UTF-8; {reason.rpartition('; ')[2]}"
    if len(bad) >= len(good) or any("\0" in line for _, line in good):
        return []
    faults.update(bad)
    return good


def read_text(path: Path) -> str:
    """A text file's words in one line, otherwise unchanged.

    Raises:
        KdError: another encoding; subtitles, labels or markup instead of plain text; far too large.
    """
    if (size := path.stat().st_size) > LARGEST_TEXT:
        raise KdError(f"{path}: {size} bytes, more than {LARGEST_TEXT}, are not the text of one recording; is it another file?")
    text = read_utf8(path)
    if fault := plain_fault(path, text):
        raise KdError(fault)
    return re.sub(r"[ \t\r\n\f\v]+", " ", text).strip(" ")
