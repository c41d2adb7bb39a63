"""One form for all text.  In: text as people and programs write it.  Out: the same words without invisible characters.

Transcripts, LM text, lexicons and the aligner all read text through this module, so each word is one string everywhere:
composed letters (NFC), words separated by ASCII blanks, nothing invisible. Changes are counted by kind.

ZERO WIDTH (NON-)JOINER is part of the spelling in Persian and Indic scripts: it stays between two letters of scripts that
join, and is removed everywhere else. Compatibility forms (full-width letters, ligatures) stay as written; a lookup in a lexicon may
fold them (see `spellings`).
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator

_SPACE, _CONTROL = "no-break or other Unicode space split on", "control character split on"
_ZERO_SPACE, _JOINER = "zero-width space split on", "zero-width joiner or non-joiner removed"
_COMPOSED = "line or utterance put into composed form (NFC)"
_BROKEN = "replacement character (U+FFFD) kept: an earlier conversion broke the text, convert the original again"
# Kind -> characters, in the syntax of a regular expression's character class.
_KINDS = {
    "byte order mark removed": "\ufeff",
    "soft hyphen removed": "\u00ad",
    "direction mark removed": "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069",
    "word joiner or other invisible character removed":
        "\u034f\u2060-\u2065\u206a-\u206f\ufe00-\ufe0f\ufff9-\ufffb\U0001bca0-\U0001bca3\U000e0000-\U000e01ef",
    _JOINER: "\u200c\u200d",
    _ZERO_SPACE: "\u200b",
    _SPACE: "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2800\u3000\u3164",
    _CONTROL: "\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff",
    _BROKEN: "\ufffd",
}  # fmt: skip
_SPLIT = (_ZERO_SPACE, _SPACE, _CONTROL)
_ODD = re.compile("|".join(f"([{characters}])" for characters in _KINDS.values()))
_GROUPS = dict(enumerate(_KINDS, 1))
# Scripts whose letters join: Arabic to Myanmar, Khmer, Mongolian, Indic ones beyond; without U+FEFF.
_JOINING = re.compile("[\u0600-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc\U00010a00-\U00011fff]")
JOINERS = "\u200c\u200d"
_JOINERS = re.compile(f"[{JOINERS}]+")
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc`\u00b4", "'"))
Counts = Counter[str]


def clean(text: str, counts: Counts | None = None) -> str:
    """The text in composed form, without invisible characters; Unicode's other spaces are blanks. Idempotent.

    ASCII blanks and line ends stay unchanged. counts: gets the number of changed characters by kind.
    """
    if text.isascii() and text.isprintable():
        return text
    counts = Counter() if counts is None else counts
    text = _ODD.sub(lambda m: _replacement(m, counts), text)
    text = _JOINERS.sub(lambda m: _joiner(m, counts), text)
    composed = unicodedata.normalize("NFC", text)
    counts[_COMPOSED] += composed != text
    return composed


def _replacement(found: re.Match[str], counts: Counts) -> str:
    kind = _GROUPS[found.lastindex or 0]
    if kind == _JOINER:
        return found[0]  # its neighbours are judged once the rest is gone
    counts[kind] += 1
    return " " if kind in _SPLIT else found[0] if kind == _BROKEN else ""


def _joiner(run: re.Match[str], counts: Counts) -> str:
    """The first joiner of a run between two joining letters, else nothing."""
    around = run.string[max(0, run.start() - 1) : run.start()], run.string[run.end() : run.end() + 1]
    kept = run[0][:1] if all(map(_JOINING.match, around)) else ""
    counts[_JOINER] += len(run[0]) - len(kept)
    return kept


def upper(text: str) -> str:
    """Upper case, composed: upper-casing may give two characters that compose to one."""
    return unicodedata.normalize("NFC", text.upper())


def without_accents(text: str) -> str:
    """Plain letters instead of accented, full-width and ligature ones."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def spellings(word: str) -> Iterator[str]:
    """The upper-case forms under which a lexicon may have a word, nearest first, computed lazily: unchanged, with plain
    apostrophes, without joiners, with compatibility forms folded (NFKC), without accents. None is empty."""
    form = upper(word)
    last = ""
    for change in (str, lambda w: w.translate(APOSTROPHES), without_joiners, lambda w: upper(unicodedata.normalize("NFKC", w)),
                   without_accents):  # fmt: skip
        form = change(form)
        if form not in ("", last):
            yield form
            last = form


def without_joiners(text: str) -> str:
    """Without ZERO WIDTH (NON-)JOINER."""
    return _JOINERS.sub("", text)


def punctuation(char: str) -> bool:
    """Whether a character is never spoken: punctuation, pictures, and word separators; the apostrophe is a letter here."""
    kind = unicodedata.category(char)
    if kind.startswith("P"):
        return char not in "'%&@#*"
    return char in "|~<>^" or (kind in ("So", "Sk") and char >= "\u2190")


def said(token: str) -> bool:
    """Whether a token contains anything that can be spoken."""
    return not all(punctuation(c) or c == "'" for c in token)


def tell(where: str, counts: Counts) -> None:
    """Print the changes on standard error, one line per kind; nothing if there are none."""
    for kind, count in sorted(counts.items()):
        if count:
            print(f"note: {where}: {count} x {kind}", file=sys.stderr)
