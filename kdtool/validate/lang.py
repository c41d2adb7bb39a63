"""A language folder: symbol tables, lexicons, topology, subwords.  All of it is small, so every level reads everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.findings import Class, Level, Report
from kdtool.lang.lang import Lang, pron_lines
from kdtool.lang.vocab import RESERVED

AGAIN = "prepare the lang again (steps/prepare_lang.sh)"
CLASSES = {
    "unreadable": Class("a table that is missing, malformed, or does not fit the others", AGAIN),
    "pronunciation": Class("a line of a lexicon that is not a word and phones of phones.txt", "fix the lexicon, then " + AGAIN),
    "unknown-word": Class("a word of lexicon.txt that is not in words.txt", AGAIN),
    "probabilities": Class("silence or pronunciation probabilities that are none", "estimate them again (steps/estimate_lang_probs.sh)"),
    "topology": Class("a phone without HMM states, or with more than 20", AGAIN),
    "reserved": Class("a symbol that graphs need and words.txt lacks", AGAIN),
    "word-ids": Class("an id of words.txt that is left out", AGAIN),
    "subwords": Class("sentencepiece model and subwords.txt that differ, or a model that cannot be read", AGAIN),
    "same-pronunciation": Class("a pronunciation that a word has twice", "remove one in the lexicon, then " + AGAIN, warning=True),
    "no-pronunciation": Class("a word that cannot be recognised, for want of a pronunciation", "add it to the lexicon", warning=True),
    "unused-phone": Class("a phone that no word has", AGAIN, warning=True),
}
OTHERS: dict[str, str] = {}
MAX_STATES = 20


def check(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    """Check a language folder."""
    lang = None
    try:
        lang = Lang.load(folder)
    except KdError as e:
        report.add("unreadable", folder.name, folder, str(e))
    phones = lang.phones if lang else _phones(folder)
    used = _check_lexicons(report, folder, phones)
    if lang is None:
        return
    try:
        heads = lang.family
    except KdError as e:
        report.add("unreadable", folder.name, folder, str(e))
        return
    families = {heads[n] for n in used if n in heads}  # not every position of a phone occurs in a word
    for name, number in sorted(lang.phones.items(), key=lambda item: item[1]):
        if number and not 0 < lang.num_states.get(number, 0) <= MAX_STATES:
            report.add("topology", name, folder / "topo.txt", lang.num_states.get(number, 0), f"1 to {MAX_STATES}")
        if number and heads.get(number) not in families | lang.silence_ids:
            report.add("unused-phone", name, folder / "phones.txt")
    for word in set(RESERVED) - set(lang.words):
        report.add("reserved", word, folder / "words.txt")
    for number in sorted(set(range(len(lang.words))) - set(lang.words.values()))[:1000]:
        report.add("word-ids", number, folder / "words.txt", f"{len(lang.words)} words, ids to {max(lang.words.values(), default=0)}")
    for word in sorted(set(lang.words) - set(lang.prons) - set(RESERVED)):
        report.add("no-pronunciation", word, folder / "words.txt")
    try:
        report.summary = f"{len(lang.words)} words, {len(lang.phones) - 1} phones, {len(lang.subwords)} subwords"
        report.summary += ", with probabilities" if lang.probs else ""
    except KdError as e:
        report.add("probabilities", folder.name, folder, str(e))
    if level > Level.DOOR:
        _check_subwords(report, folder, lang)


def _phones(folder: Path) -> dict[str, int]:
    """phones.txt of a folder with possibly broken other tables."""
    from kdtool.core.tables import read_table

    try:
        return read_table(folder / "phones.txt")
    except KdError:
        return {}


def _check_lexicons(report: Report, folder: Path, phones: dict[str, int]) -> set[int]:
    """Check every line of both lexicons; returns the phones of the words."""
    used: set[int] = set()
    if not phones:
        return used
    for name in ("lexicon.txt", "text_lexicon.txt"):
        path = folder / name
        seen: Counter[tuple[str, tuple[int, ...]]] = Counter()
        try:
            for number, line, word, ids in pron_lines(path, phones):
                if ids is None:
                    report.add("pronunciation", f"line {number}", path, line[:80])
                    continue
                seen[word, ids] += 1
                used |= {*ids}
        except KdError as e:
            report.add("pronunciation", name, path, str(e))
        for (word, _), count in seen.items():
            if count > 1:
                report.add("same-pronunciation", word, path, f"{count} times", "once")
        if name == "lexicon.txt":
            _check_words(report, path, {word for word, _ in seen})
    return used


def _check_words(report: Report, path: Path, words: set[str]) -> None:
    from kdtool.core.tables import read_table

    try:
        table = read_table(path.with_name("words.txt"))
    except KdError:
        return  # already reported by Lang.load
    for word in sorted(words - set(table)):
        report.add("unknown-word", word, path)


def _check_subwords(report: Report, folder: Path, lang: Lang) -> None:
    path = folder / "bpe.model"
    try:
        pieces = {lang.bpe.id_to_piece(i): i for i in range(len(lang.bpe))}
    except KdError as e:
        report.add("subwords", path.name, path, str(e))
        return
    for piece in sorted({*pieces, *lang.subwords}):
        if pieces.get(piece) != lang.subwords.get(piece):
            found, wanted = lang.subwords.get(piece, "none"), f"{pieces.get(piece, 'none')}, as in {path.name}"
            report.add("subwords", piece, folder / "subwords.txt", found, wanted)
