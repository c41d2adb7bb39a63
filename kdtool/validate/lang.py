"""A language folder: symbol tables, lexicons, topology, subwords.  All of it is small, so every level reads everything."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.findings import UNREADABLE, Class, Level, Report
from kdtool.core.tables import read_table
from kdtool.lang.lang import Lang, pron_lines
from kdtool.lang.vocab import RESERVED
from kdtool.validate.checks import SHOWN, reading

AGAIN = "prepare the lang again (steps/prepare_lang.sh)"
CLASSES = {
    UNREADABLE: Class("a table that is missing, malformed, or does not fit the others", AGAIN),
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
    with reading(report, folder):
        lang = Lang.load(folder)
    if lang is None:
        with suppress(KdError):  # it may be the broken table
            _check_lexicons(report, folder, read_table(folder / "phones.txt"))
        return
    used = _check_lexicons(report, folder, lang.phones)
    heads = lang.family
    families = {heads[n] for n in used if n in heads}  # not every position of a phone occurs in a word
    for name, number in sorted(lang.phones.items(), key=lambda item: item[1]):
        if number and not 0 < lang.num_states.get(number, 0) <= MAX_STATES:
            report.add("topology", name, folder / "topo.txt", lang.num_states.get(number, 0), f"1 to {MAX_STATES}")
        if number and heads.get(number) not in families | lang.silence_ids:
            report.add("unused-phone", name, folder / "phones.txt")
    for word in set(RESERVED) - set(lang.words):
        report.add("reserved", word, folder / "words.txt")
    for number in sorted(set(range(len(lang.words))) - set(lang.words.values()))[:SHOWN]:
        report.add("word-ids", number, folder / "words.txt", f"{len(lang.words)} words, ids to {max(lang.words.values(), default=0)}")
    for word in sorted(set(lang.words) - set(lang.prons) - set(RESERVED)):
        report.add("no-pronunciation", word, folder / "words.txt")
    with reading(report, folder, "probabilities"):
        report.summary = f"{len(lang.words)} words, {len(lang.phones) - 1} phones, {len(lang.subwords)} subwords"
        report.summary += ", with probabilities" if lang.probs else ""
    if level > Level.DOOR:
        with reading(report, folder / "bpe.model", "subwords"):
            _check_subwords(report, folder, lang)


def _check_lexicons(report: Report, folder: Path, phones: dict[str, int]) -> set[int]:
    """Check every line of both lexicons; returns the phones of the words."""
    used: set[int] = set()
    for name in ("lexicon.txt", "text_lexicon.txt"):
        path = folder / name
        seen: list[tuple[str, tuple[int, ...]]] = []
        with reading(report, path, "pronunciation"):
            for number, line, word, ids in pron_lines(path, phones):
                if ids is None:
                    report.add("pronunciation", f"line {number}", path, line[:80])
                else:
                    seen.append((word, ids))
        used.update(phone for _, ids in seen for phone in ids)
        for (word, _), count in Counter(seen).items():
            if count > 1:
                report.add("same-pronunciation", word, path, f"{count} times", "once")
        if name == "lexicon.txt":
            with suppress(KdError):  # Lang.load has reported it
                for word in sorted({word for word, _ in seen} - set(read_table(folder / "words.txt"))):
                    report.add("unknown-word", word, path)
    return used


def _check_subwords(report: Report, folder: Path, lang: Lang) -> None:
    pieces = {lang.bpe.id_to_piece(i): i for i in range(len(lang.bpe))}
    for piece in sorted({*pieces, *lang.subwords}):
        if pieces.get(piece) != lang.subwords.get(piece):
            found, expected = lang.subwords.get(piece, "none"), f"{pieces.get(piece, 'none')}, as in bpe.model"
            report.add("subwords", piece, folder / "subwords.txt", found, expected)
