"""AN4's layout on disk (CMU census corpus).  In: the corpus folder.  Out: a part's utterances, and faults (missing audio or transcript).

etc/an4_<part>.fileids: one 'an4_clstk/fash/an251-fash-b' per line; etc/an4_<part>.transcription: one '<s> YES </s> (an251-fash-b)' per
line; wav/<file id>.sph, .wav or .flac. Utterance ids begin with the speaker, 'fash-an251-b', so that they sort by speaker.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from kdtool.core.encoding import utf8_lines
from kdtool.core.errors import KdError
from kdtool.corpus.utterance import Utterance

PARTS = ("train", "test")
SUFFIXES = (".sph", ".wav", ".flac")  # in order of preference: the distribution's first
NAME = re.compile(r"(?P<recording>\w+)-(?P<speaker>\w+)-(?P<letter>\w+)")
LINE = re.compile(r"(?P<words>.*?)\s*\((?P<id>[^()\s]+)\)")
MARKS = re.compile(r"</?s>|<sil>|\+\+\w+\+\+")  # sentence ends, silence and noises are no words
WORDS = re.compile(r"[A-Z']+( [A-Z']+)*")
Fault = tuple[str, str]


def find_corpus(corpus: Path) -> Path:
    """The folder that holds etc and wav: the given one or an4 in it; absolute, links kept. KdError if neither does."""
    if not corpus.is_dir():
        raise KdError(f"{corpus}: no such folder; give AN4's folder, the one that holds etc and wav")
    for place in (corpus, corpus / "an4"):
        if (place / "etc").is_dir() and (place / "wav").is_dir():
            return place.absolute()
    names = sorted(p.name for p in corpus.iterdir())[:10]
    raise KdError(f"{corpus}: no folders etc and wav in it (it holds {', '.join(names) or 'nothing'}); give AN4's folder, as its archive "
                  "an4_sphere.tar.gz unpacks to")  # fmt: skip


def scan_part(corpus: Path, part: str) -> tuple[list[Utterance], list[Fault]]:
    """All utterances of 'train' or 'test', sorted by id, and (id, reason) of those without audio or transcript.

    KdError for a list that is missing, empty or not UTF-8, a malformed line, a repeated utterance.
    """
    ids_file, text_file = (corpus / "etc" / f"an4_{part}.{kind}" for kind in ("fileids", "transcription"))
    places, texts = _file_ids(ids_file), _transcripts(text_file)
    utterances, faults = [], []
    for name in sorted({*places, *texts}):
        utt, speaker = utterance_id(name), utterance_id(name).split("-")[0]
        files = [corpus / "wav" / f"{places[name]}{suffix}" for suffix in SUFFIXES] if name in places else []
        audio = next((f for f in files if f.is_file()), None)
        if name not in places:
            faults.append((utt, f"{text_file} has a transcript of {name}, but {ids_file} does not list it; remove the line or list it"))
        elif name not in texts:
            faults.append((utt, f"{ids_file} lists {name}, but {text_file} has no transcript of it; add it or remove the line"))
        elif audio is None:
            faults.append((utt, f"no audio wav/{places[name]} with {', '.join(SUFFIXES)} in {corpus}; unpack the archive again"))
        else:
            utterances.append(Utterance(utt, speaker, audio, texts[name]))
    return sorted(utterances, key=lambda u: u.id), sorted(faults)


def utterance_id(name: str) -> str:
    """'an251-fash-b' -> 'fash-an251-b'."""
    found = NAME.fullmatch(name)
    assert found is not None  # the readers below accept no other name
    return f"{found['speaker']}-{found['recording']}-{found['letter']}"


def plain_words(text: str) -> str:
    """The words of a transcript, upper-case, single spaces; '' for none. ValueError for other characters than letters or apostrophes."""
    words = " ".join(MARKS.sub(" ", text).upper().split())
    if words and not WORDS.fullmatch(words):
        raise ValueError(f"{words!r} holds other characters than letters and apostrophes")
    return words


def _file_ids(path: Path) -> dict[str, str]:
    """Name of the utterance -> its path below wav."""
    found: dict[str, str] = {}
    for where, line in _lines(path):
        name = line.rsplit("/", 1)[-1]
        if not NAME.fullmatch(name) or line.startswith("/") or ".." in line.split("/"):
            raise KdError(f"{where}: {line!r} is not a file id (folder/speaker/recording-speaker-letter); fix the line")
        if name in found:
            raise KdError(f"{where}: {name} is listed already, as {found[name]}; remove one of the two")
        found[name] = line
    return found


def _transcripts(path: Path) -> dict[str, str]:
    """Name of the utterance -> its words."""
    found: dict[str, str] = {}
    for where, line in _lines(path):
        match = LINE.fullmatch(line)
        if match is None or not NAME.fullmatch(match["id"]):
            raise KdError(f"{where}: {line[:60]!r} is not 'WORDS (recording-speaker-letter)'; fix the line")
        if match["id"] in found:
            raise KdError(f"{where}: {match['id']} has a transcript already; remove one of the two")
        try:
            found[match["id"]] = plain_words(match["words"])
        except ValueError as e:
            raise KdError(f"{where}: {e}; write the words as they are spoken") from e
    return found


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(file and line number, line) of the non-blank lines; KdError when there is none."""
    try:
        lines = utf8_lines(path)
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; AN4's archive holds it, unpack it again") from e
    if not any(map(str.strip, lines)):
        raise KdError(f"{path}: empty; unpack AN4's archive again")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()
