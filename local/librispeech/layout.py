"""LibriSpeech's layout on disk.  In: a part's folder.  Out: its utterances, and faults (missing audio or transcript).

<part>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac beside <speaker>-<chapter>.trans.txt with lines 'id WORDS'.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kdtool.core.encoding import utf8_lines
from kdtool.core.errors import KdError
from kdtool.core.walk import files_below
from kdtool.corpus.utterance import Utterance
from kdtool.formats.rows import id_fault

ID = re.compile(r"\w+-\w+-\w+")
Fault = tuple[str, str]


def find_part(corpus: Path, part: str) -> Path:
    """The folder of a part, below the corpus folder or its LibriSpeech folder; absolute, links kept. KdError if neither exists."""
    if not corpus.is_dir():
        raise KdError(f"{corpus}: no such folder; give the folder that holds LibriSpeech's parts, such as {part}")
    for place in (corpus / part, corpus / "LibriSpeech" / part):
        if place.is_dir():
            return place.absolute()
    names = sorted(p.name for p in corpus.iterdir() if p.is_dir())[:10]
    raise KdError(f"{corpus}: no folder {part} nor LibriSpeech/{part} in it (it holds {', '.join(names) or 'no folders'}); "
                  "give LibriSpeech's folder, or name the parts by --train-part and --dev-part")  # fmt: skip


def scan_part(folder: Path) -> tuple[list[Utterance], list[Fault]]:
    """All utterances of a part, sorted by id, and (id or file name, reason) of unusable ones: audio or transcript
    missing or repeated, or a file name that is no id.

    KdError for an empty part, a transcript file that is not UTF-8 or holds a line without an id; OSError for an unreadable folder.
    """
    files = files_below(folder, hidden=False)  # macOS leaves ._NAME beside NAME on other disks
    wrong: dict[str, str] = {}
    audio = _audio_files([f for f in files if f.suffix == ".flac"], wrong)
    texts = _transcripts([f for f in files if f.name.endswith(".trans.txt")], wrong)
    if not audio and not texts and not wrong:
        raise KdError(f"{folder}: neither .flac nor .trans.txt files in it; unpack the archive again")
    utterances, faults = [], sorted(wrong.items())
    for utt in sorted({*audio, *texts} - wrong.keys()):
        if utt not in audio:
            faults.append((utt, f"{texts[utt][0]} has a transcript for it, but there is no {utt}.flac; fetch the audio or remove the line"))
        elif utt not in texts:
            faults.append((utt, f"{audio[utt]} has no line in a .trans.txt file; add its transcript or remove the audio"))
        else:
            utterances.append(Utterance(utt, utt.split("-")[0], audio[utt], texts[utt][1]))
    return utterances, faults


def _audio_files(files: Sequence[Path], wrong: dict[str, str]) -> dict[str, Path]:
    """id -> file; `wrong` gets the others, by name."""
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            wrong[path.stem] = f"it has two audio files, {found[path.stem]} and {path}; remove one"
        elif not ID.fullmatch(path.stem) or id_fault(path.stem):
            wrong[path.stem] = f"{path}: the name is not speaker-chapter-number.flac; rename or remove the file"
        else:
            found[path.stem] = path
    return found


def _transcripts(files: Sequence[Path], wrong: dict[str, str]) -> dict[str, tuple[str, str]]:
    """id -> (file and line, text); `wrong` gets the ids that have two."""
    found: dict[str, tuple[str, str]] = {}
    for path in files:
        for number, line in enumerate(utf8_lines(path), 1):
            if not line.strip():
                continue
            utt, _, text = line.strip().partition(" ")
            where = f"{path}, line {number}"
            if not ID.fullmatch(utt):
                raise KdError(f"{where}: {utt!r} is not an utterance id (speaker-chapter-number); fix the line")
            if utt in found:
                wrong[utt] = f"{where}: it has a transcript in {found[utt][0]} already; remove one of the two"
            found[utt] = (where, text.strip())
    return found
