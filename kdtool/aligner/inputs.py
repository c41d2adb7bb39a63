"""Finds audio and text to align.  In: a folder.  Out: items (audio with its text); faults (name, reason) for what cannot be used.

Layouts: a text file (.txt or .lab) beside each audio file, at any depth; LibriSpeech (<id> WORDS in *.trans.txt);
a Kaldi data folder (see items.py). Audio is known by its suffix. If a text has no audio, any file of its name that is audio by
its content is used; if such a file must be converted first, the fault says so.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from kdtool.aligner.items import Fault, Item, is_kaldi, kaldi_items
from kdtool.audio.faults import CONVERT
from kdtool.audio.kinds import AUDIO, CONVERTED, HEADERLESS
from kdtool.audio.reader import is_audio
from kdtool.core.encoding import mostly_utf8_lines, read_utf8, utf8_lines
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
T = TypeVar("T")


class Files:
    """The files below a folder by kind; `odd`: the unreadable ones with reasons. Hidden files are skipped."""

    def __init__(self, folder: Path) -> None:
        self.audio, self.texts, self.transcripts, self.others = (list[Path]() for _ in range(4))
        self.odd: list[tuple[Path, str]] = []
        faults: list[tuple[Path, str]] = []
        paths = files_below(folder, hidden=False, faults=faults)
        known = {str(path): reason for path, reason in faults}
        for path in sorted([*paths, *(path for path, _ in faults)]):
            reason = known.get(str(path)) or ("" if is_utf8(str(path.relative_to(folder))) else file_fault(path))
            suffix = path.suffix.lower()
            kind = self.audio if suffix in AUDIO else self.texts if suffix in TEXT else self.others
            kind = self.transcripts if path.name.endswith(TRANSCRIPTS) else kind
            if reason and (kind is not self.others or os.path.isdir(path)):
                self.odd.append((path, reason))
            else:
                kind.append(path)


def find_items(folder: Path, layout: str = "auto", speaker: str = "file") -> tuple[list[Item], list[Fault]]:
    """Items and faults (name, reason) of a folder, sorted by name. speaker: normalise over each "file" or over all files of a
    "folder"; LibriSpeech's ids name their speaker. Raises KdError: the folder does not exist, or holds neither audio nor text in it."""
    if layout not in LAYOUTS or speaker not in SPEAKERS:
        raise UsageError(f"--layout {layout} --speaker {speaker}: known are {', '.join(LAYOUTS)}; {', '.join(SPEAKERS)}")
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; name the folder that holds the audio and its text")
    if not is_utf8(str(folder.absolute())):
        raise KdError(f"{escaped(str(folder.absolute()))}: its path is not UTF-8; rename the folder, or name it by a link")
    if layout == "kaldi" or (layout == "auto" and is_kaldi(folder)):
        return kaldi_items(folder)
    files = Files(folder)
    if not files.audio and not files.texts and not files.transcripts and not files.odd:
        foreign = next((f"; {p.name} has to be converted first: {CONVERT}" for p in files.others if p.suffix.lower() in CONVERTED), "")
        raise KdError(f"{folder}: no audio ({' '.join(AUDIO)}) and no text ({' '.join(TEXT)}) in it; check the path{foreign}")
    if layout == "librispeech" or (layout == "auto" and files.transcripts):
        return _librispeech(folder, files)
    return _beside(folder, files, speaker)


def _by_name(items: Iterable[T], name_of: Callable[[T], str]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(name_of(item), []).append(item)
    return groups


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _more_audio(names: Collection[str], others: dict[str, list[Path]], audio: dict[str, list[Path]]) -> None:
    """Give texts without audio the files of their name that have another suffix but are audio, in place."""
    for name in names:
        for path in others.get(name, []) if name not in audio else []:
            if path.suffix.lower() in (*CONVERTED, *HEADERLESS) or (not file_fault(path) and is_audio(path)):
                audio.setdefault(name, []).append(path)


def _pair_spellings(sounds: dict[str, list[Path]], words: dict[str, list[Path]]) -> None:
    """Pair audio and text whose names differ only in how an accent is encoded (one or two characters), in place."""
    lone_sounds, lone_texts = (
        _by_name(sorted(names), lambda name: unicodedata.normalize("NFC", name)) for names in ({*sounds} - {*words}, {*words} - {*sounds})
    )
    for spelling, names in lone_sounds.items():
        if len(names) == len(texts := lone_texts.get(spelling, [])) == 1:
            words[names[0]] = words.pop(texts[0])


def _beside(folder: Path, files: Files, speaker: str) -> tuple[list[Item], list[Fault]]:
    items, faults = [], {}
    sounds, words, others = (_by_name(paths, lambda p: _name(folder, p)) for paths in (files.audio, files.texts, files.others))
    _more_audio(words, others, sounds)
    _pair_spellings(sounds, words)
    for name in sorted({*sounds, *words}):
        audio, texts = sounds.get(name, []), words.get(name, [])
        if len(audio) > 1 or len(texts) > 1:
            paths = ", ".join(p.name for p in (audio if len(audio) > 1 else texts))
            faults[name] = f"which of {paths} counts? keep one of them"
        elif not audio:
            place = folder / f"{name}{AUDIO[0]}"
            missing = f"{place.name} beside it is a folder" if place.is_dir() else "has no audio file beside it"
            faults[name] = f"{texts[0]} {missing}; add the audio or remove the text"
        elif not texts:
            faults[name] = f"{audio[0]} has no text beside it (.txt or .lab); add it or remove the audio"
        else:
            try:
                text = read_text(texts[0])
            except (KdError, OSError) as e:
                faults[name] = str(e) if isinstance(e, KdError) else f"{texts[0]}: {file_fault(texts[0]) or e.strerror}"
                continue
            who = name if speaker == "file" else str(Path(name).parent)
            items.append(Item(name, who, audio[0].absolute(), text))
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


def _librispeech(folder: Path, files: Files) -> tuple[list[Item], list[Fault]]:
    by_stem, others = (_by_name(paths, lambda p: p.stem) for paths in (files.audio, files.others))
    faults: dict[str, str] = {}
    texts: dict[str, tuple[str, str]] = {}
    for file in files.transcripts:
        for number, line in _transcript_lines(folder, file, faults):
            name, _, text = line.strip().partition(" ")
            where = f"{file}, line {number}"
            if name in texts:
                faults[name] = f"{where}: it has a transcript in {texts[name][0]} already; remove one of the two"
            elif name:
                texts[name] = where, text
                if fault := words_fault(text):
                    faults[name] = f"{where}: {fault}"
    _more_audio(texts, others, by_stem)
    items = []
    for name, (where, text) in texts.items():
        paths = by_stem.get(name, [])
        if len(paths) == 1 and name not in faults:
            items.append(Item(name, name.split("-")[0], paths[0].absolute(), text))
        elif len(paths) > 1:
            faults.setdefault(name, f"which of {', '.join(map(str, paths))} counts? keep one of them")
        else:
            faults.setdefault(name, f"{where} has a transcript for it, but there is no audio file {name}; add it or remove the line")
    for stem in by_stem.keys() - texts.keys():
        faults.setdefault(stem, f"{by_stem[stem][0]} has no line in a {TRANSCRIPTS} file; add it or remove the audio")
    return sorted(items, key=lambda i: i.name), _with_odd(folder, files, faults, items, stem=True)


def _transcript_lines(folder: Path, file: Path, faults: dict[str, str]) -> list[tuple[int, str]]:
    """(line number, line). A few lines in another encoding are faults of their utterances; an unreadable file is one fault."""
    try:
        return list(enumerate(utf8_lines(file), 1))
    except OSError as e:
        reason = f"{file}: {file_fault(file) or e.strerror}"
    except KdError as e:
        reason = str(e)
        if lines := list(enumerate(mostly_utf8_lines(file), 1)):
            for number, line in lines:
                if not is_utf8(line):
                    name = line.split()[0].encode(errors="surrogateescape").decode(errors="replace")
                    faults[name] = f"{file}, line {number}: not UTF-8; {reason.rpartition('; ')[2]}"
            return [(number, line) for number, line in lines if is_utf8(line)]
    faults[file.relative_to(folder).as_posix()] = reason
    return []


def read_text(path: Path) -> str:
    """A text file's words in one line, otherwise unchanged. Raises KdError: another encoding; subtitles, labels or markup instead of
    plain text; far too large."""
    if (size := path.stat().st_size) > LARGEST_TEXT:
        raise KdError(f"{path}: {size} bytes, more than {LARGEST_TEXT}, are not the text of one recording; is it another file?")
    text = read_utf8(path)
    if fault := plain_fault(path, text):
        raise KdError(fault)
    return re.sub(r"[ \t\r\n\f\v]+", " ", text).strip(" ")
