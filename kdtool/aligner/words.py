"""Text to words with pronunciations.  In: text as people write it, a lexicon.  Out: words as written, each with its lexicon key.

What is done to a text, and no more: it is split at spaces, dashes and hyphens (unless the lexicon has the hyphenated word);
punctuation around a word goes; the lexicon is asked for the upper-case word, then for it without accents. What has no
pronunciation (symbols, digits: they are read in too many ways to guess) is aligned as spoken noise and reported, never left out.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text
from kdtool.lang.lexicon import Pron, read_lexicon

APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u0060": "'", "\u00b4": "'"})
DASHES = re.compile("[-\u2010-\u2015\u2212]+")
NOISE = re.compile(r"\[[^\]\s]*\]|<[^>\s]*>|\([^)\s]*\)")  # [noise] <unk> (laughs): spoken noise, whatever is inside


@dataclass(frozen=True)
class Word:
    """`written`: as the text has it, without punctuation; `key`: its upper-case form for the lexicon."""

    written: str
    key: str


def split_words(text: str, lexicon: Collection[str]) -> list[Word]:
    """The words of a text; what is only punctuation says nothing and is left out."""
    words = []
    for token in text.translate(APOSTROPHES).split():
        if NOISE.fullmatch(token):
            words.append(Word(token, token.upper()))
            continue
        whole = _trim(token, lexicon)
        parts = [whole] if whole.upper() in lexicon else [_trim(p, lexicon) for p in DASHES.split(token)]
        words += [Word(p, _key(p, lexicon)) for p in parts if p]
    return words


def _trim(token: str, lexicon: Collection[str]) -> str:
    """Without punctuation at its ends; apostrophes stay where the lexicon wants them ('TIS, TEACHERS')."""
    start, end = 0, len(token)
    while start < end and _punctuation(token[start]):
        start += 1
    while end > start and _punctuation(token[end - 1]):
        end -= 1
    token = token[start:end]
    if token.upper() in lexicon:
        return token
    for shorter in (token.removesuffix("'"), token.removeprefix("'"), token.strip("'")):
        if shorter.upper() in lexicon:
            return shorter
    return token.strip("'")


def _punctuation(char: str) -> bool:
    return char != "'" and unicodedata.category(char).startswith("P") and char not in "%&@#*"


def _key(word: str, lexicon: Collection[str]) -> str:
    upper = word.upper()
    plain = "".join(c for c in unicodedata.normalize("NFKD", upper) if not unicodedata.combining(c))
    return plain if upper not in lexicon and plain else upper


@dataclass
class Guessed:
    """Words that no lexicon has: pronunciations by G2P, and (word, reason) of those that stay unknown."""

    prons: dict[str, Pron]
    unknown: dict[str, str]


def guess(missing: Collection[str], known: Mapping[str, list[Pron]], work: Path, *, g2p: bool, max_words: int, nj: int) -> Guessed:
    """Pronunciations for words that the lexicon lacks. `max_words`: how many known words G2P learns from, 0 for all."""
    from kdtool.lang.g2p import SPELLED, G2p

    noise = {w for w in missing if NOISE.fullmatch(w)}
    rest = sorted(set(missing) - noise)
    if not g2p or not any(SPELLED.fullmatch(w) for w in rest):
        reason = "not in the lexicon, and not spelled with A to Z" if g2p else "not in the lexicon, and G2P is off"
        return Guessed({}, dict.fromkeys(rest, reason))
    model = G2p(work, nj=nj)
    try:
        model.train({w: list(p) for w, p in known.items()}, max_words)
        found, failed = model.apply(rest)
    except KdError as e:
        print(f"note: unknown words are aligned as spoken noise, because G2P failed: {e}", file=sys.stderr)
        return Guessed({}, dict.fromkeys(rest, "not in the lexicon, and G2P failed"))
    finally:
        model.clean()
    return Guessed(found, dict(failed))


def read_own(path: Path, phones: Collection[str]) -> dict[str, list[Pron]]:
    """A user's lexicon; KdError when it uses phones that the model does not have."""
    prons = read_lexicon(path, "any").prons
    for word, variants in prons.items():
        strange = sorted({p for v in variants for p in v} - set(phones))
        if strange:
            raise KdError(f"{path}: {word} uses {strange[0]}, which is no phone of the model; write it with the phones of its phones.txt")
    return prons


def write_words(path: Path, counts: Counter[str], guessed: Guessed) -> None:
    """'word, how often, what was done' a line, for the words that no lexicon has."""
    with open_text(path, "w") as f:
        for word in sorted({*guessed.prons, *guessed.unknown}):
            pron = guessed.prons.get(word)
            said = f"guessed\t{' '.join(pron)}" if pron else f"spoken noise\t{guessed.unknown[word]}"
            f.write(f"{word}\t{counts[word]}\t{said}\n")
