"""Text to words with pronunciations.  In: text as people write it, a lexicon.  Out: words as written, each with its lexicon key.

A token (text between blanks; see kdtool.text.clean for the characters) becomes words in this order:
1. tags: <noise>, [laughter], (laughs) are spoken noise, whatever is inside; <s> and </s> are dropped;
2. the whole token, without the punctuation around it, if the lexicon has it: in upper case, then without joiners and in compatibility
   forms, then without accents; apostrophes stay where the lexicon needs them;
3. abbreviations (U.S.A., e.g.): with the last dot; of three letters and more without dots (USA); its letters as words (U. or U);
   of two letters without dots, which often is another word (US, IT);
4. without brackets inside: (s)he, word(s), [t]he;
5. its parts between punctuation (and/or, word;word, one...two, (word)word, a_b), if the lexicon has all of them, or one with two
   letters or more, and no punctuation stands between digits (3,000);
6. its parts between dashes and hyphens, known or not.
Words without a pronunciation (symbols, digits: they can be read in too many ways to guess) are aligned as spoken noise and reported,
never left out; a token of punctuation only is left out.
"""

import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.sound import write_fault
from kdtool.core.tables import write_lines
from kdtool.lang.g2p import pronounce, tell_unknown
from kdtool.lang.lexicon import Lexicon, Pron, read_lexicon
from kdtool.text.clean import APOSTROPHES, JOINERS, clean, punctuation, spellings, upper, without_accents, without_joiners
from kdtool.text.marks import sentence_mark

DASHES = re.compile("[-\u2010-\u2015\u2212]+")
NOISE = re.compile(r"\[[^\]\s]*\]|<[^>\s]*>|\([^)\s]*\)")  # [noise] <unk> (laughs): spoken noise, whatever is inside
_TAG = re.compile(r"(<[^<>\s]*>|\[[^\[\]\s]{2,}\])")
_DOTTED = re.compile(r"[^\W\d_]{1,3}(?:\.[^\W\d_]{1,3})+")
_NUMBER = re.compile(r"\d[^\w\s]+\d")
_BRACKETS = str.maketrans("", "", "()[]{}")


@dataclass(frozen=True)
class Word:
    """`written`: as in the text, without punctuation; `key`: its upper-case form for the lexicon."""

    written: str
    key: str


def split_words(text: str, lexicon: Collection[str]) -> list[Word]:
    """The words of a text; tokens of punctuation only are left out."""
    words: list[Word] = []
    for token in clean(text).translate(APOSTROPHES).split():
        for piece in _tags_apart(token, lexicon):
            if NOISE.fullmatch(piece):
                words += [Word(piece, piece.upper())] * (not sentence_mark(piece))
            else:
                words += _words(piece, lexicon)
    return words


def _tags_apart(token: str, lexicon: Collection[str]) -> Iterator[str]:
    """The token, or its parts if a tag is glued to a word: '[laughter]yes'."""
    if NOISE.fullmatch(token) or not _TAG.search(token) or _known(_trim(token.translate(_BRACKETS), lexicon), lexicon):
        yield token
        return
    yield from (piece for piece in _TAG.split(token) if piece)


def _words(token: str, lexicon: Collection[str]) -> list[Word]:
    """A token's words, by rules 2 to 6 above."""
    whole = _trim(token, lexicon)
    if not whole:
        return []
    if found := _known(whole, lexicon) or _abbreviation(whole, lexicon) or _known(whole.translate(_BRACKETS), lexicon):
        return found
    if found := _parts(whole, lexicon):
        return found
    parts = [p for p in DASHES.split(whole) if p]
    if len(parts) < 2:
        whole = without_joiners(whole)
        return [Word(whole, without_accents(upper(whole)) or upper(whole))]
    return [w for part in parts for w in _words(part, lexicon)]


def _known(word: str, lexicon: Collection[str]) -> list[Word]:
    """The word if the lexicon has any of its spellings, else empty."""
    for form in spellings(word):
        if form in lexicon:
            return [Word(word if any(j in form for j in JOINERS) else without_joiners(word), form)]
    return []


def _abbreviation(word: str, lexicon: Collection[str]) -> list[Word]:
    """A word with dots inside, given without its last dot."""
    if not _DOTTED.fullmatch(word):
        return _known(word + ".", lexicon)
    plain = word.replace(".", "")
    letters = [_known(p + ".", lexicon) or _known(p, lexicon) for p in word.split(".")]
    spelled = [Word(p, found[0].key) for p, found in zip(word.split("."), letters, strict=True) if found]
    spelled = spelled if len(spelled) == len(letters) and len(plain) == len(letters) else []
    short = [Word(word, w.key) for w in _known(plain, lexicon)]
    return [Word(word, w.key) for w in _known(word + ".", lexicon)] or (short if len(plain) > 2 else []) or spelled or short


def _parts(word: str, lexicon: Collection[str]) -> list[Word]:
    """The words between punctuation by rule 5; empty if the rule does not apply."""
    parts = "".join(" " if punctuation(c) and not DASHES.match(c) else c for c in word).split()
    if len(parts) < 2:
        return []
    words = [w for p in parts for w in _words(p, lexicon)]
    known = [w.key in lexicon for w in words]
    some = any(k and len(w.key) > 1 for w, k in zip(words, known, strict=True)) and not _NUMBER.search(word)
    return words if some or all(known) else []


def _trim(token: str, lexicon: Collection[str]) -> str:
    """The word without punctuation at its ends; apostrophes stay where the lexicon needs them ('TIS, TEACHERS')."""
    start, end = 0, len(token)
    while start < end and punctuation(token[start]):
        start += 1
    while end > start and punctuation(token[end - 1]):
        end -= 1
    token = token[start:end]
    if upper(token) in lexicon:
        return token
    for shorter in (token.removesuffix("'"), token.removeprefix("'"), token.strip("'")):
        if upper(shorter) in lexicon:
            return shorter
    return token.strip("'")


def guess(
    missing: Collection[str], known: Lexicon, work: Path, *, g2p: bool, max_words: int, nj: int
) -> tuple[dict[str, Pron], dict[str, str]]:
    """Pronunciations of words that the lexicon lacks, and why others have none. `max_words`: for training G2P, 0 for all."""
    words = [w for w in missing if not NOISE.fullmatch(w)]
    try:
        prons, unknown = pronounce(words, known, work, g2p=g2p, max_words=max_words, nj=nj)
    except KdError as e:
        if fault := write_fault(work / "g2p.corpus"):  # ask for disk space rather than give worse pronunciations
            raise fault from e
        print(f"note: unknown words are aligned as spoken noise, because G2P failed: {e}", file=sys.stderr)
        return {}, dict.fromkeys(words, "not in the lexicon, and G2P failed")
    return prons, dict(unknown)


def read_own(path: Path, phones: Collection[str]) -> Lexicon:
    """A user's lexicon; KdError when it uses phones that the model does not have."""
    lexicon = read_lexicon(path, "any")
    if lexicon.columns:
        print(f"note: {path}: its numbers are not used here: all pronunciations of a word are tried alike", file=sys.stderr)
    for word, variants in lexicon.prons.items():
        if strange := sorted({p for v in variants for p in v} - set(phones)):
            raise KdError(f"{path}: {word} uses {strange[0]}, which is no phone of the model; write it with the phones of its phones.txt")
    return lexicon.prons


def write_words(path: Path, counts: Counter[str], guessed: dict[str, Pron], unknown: dict[str, str], listed: str) -> None:
    """One line 'word, count, action' per word that no lexicon has; and their number on standard error. listed: the file's final path."""
    tell_unknown("align", counts, guessed, "are in no lexicon; G2P guesses their pronunciations", listed)
    tell_unknown("align", counts, unknown, "are without a pronunciation and become spoken noise", listed)
    actions = {w: f"guessed\t{' '.join(p)}" for w, p in guessed.items()} | {w: f"spoken noise\t{why}" for w, why in unknown.items()}
    write_lines(path, (f"{word}\t{counts[word]}\t{actions[word]}" for word in sorted(actions)))
