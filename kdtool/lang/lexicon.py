"""Pronunciation lexicons.  In: a file in CMUdict's, Sphinx's or Kaldi's (LibriSpeech's) format.  Out: words and their phones.

All are 'WORD P1 P2 ..' lines. CMUdict and Sphinx mark variants as WORD(2), CMUdict comments with ' #' or ';;;'; Kaldi repeats
the word, and may put a probability after it, which is not used. Words become upper-case, stress digits go, equal
pronunciations of a word count once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import open_text

Pron = tuple[str, ...]
Lexicon = dict[str, list[Pron]]

_ARPABET = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
ARPABET = frozenset(_ARPABET.split())
PHONE_SETS = ("arpabet", "any")
SIL, SPN, UNK = "SIL", "SPN", "<UNK>"
MAX_BAD_SHARE = 0.01
_VARIANT = re.compile(r"\(\d+\)$")
_PROBABILITY = re.compile(r"\d*\.\d+(e-?\d+)?")
_STRESS = re.compile(r"[0-2]$")


@dataclass
class LexiconFile:
    """What was read: pronunciations in file order; unknown: (line number, word, phones outside the phone set)."""

    prons: Lexicon = field(default_factory=dict)
    unknown: list[tuple[int, str, list[str]]] = field(default_factory=list)
    lines: int = 0


def parse_line(line: str, phone_set: str = "arpabet") -> tuple[str, Pron] | None:
    """One line -> (word, phones), None for comments and empty lines; other phone sets than ARPAbet keep their phones' case.

    Raises:
        ValueError: a word without phones.
    """
    if line.startswith((";;;", "##")) or not line.strip():
        return None
    fields = re.split(r"\s#", line, maxsplit=1)[0].split()
    if len(fields) < 2:
        raise ValueError("'WORD PHONE PHONE ..' wanted")
    if len(fields) > 2 and _PROBABILITY.fullmatch(fields[1]):
        del fields[1]
    word = _VARIANT.sub("", fields[0]).upper()
    if not word:
        raise ValueError("no word before the variant number")
    return word, tuple(plain_phone(p.upper() if phone_set == "arpabet" else p) for p in fields[1:])


def plain_phone(phone: str) -> str:
    """Without the stress digit, which only ARPAbet's vowels carry: in other phone sets a digit may be a tone."""
    plain = _STRESS.sub("", phone)
    return plain if plain in ARPABET else phone


def read_lexicon(path: Path, phone_set: str = "arpabet") -> LexiconFile:
    """Read a lexicon (plain or .gz).

    Args:
        phone_set: "arpabet": pronunciations with other phones are left out and reported in `unknown`; "any": all count.

    Raises:
        KdError: a malformed line (its number is named), no entry, or more than 1% of the lines with unknown phones.
    """
    if phone_set not in PHONE_SETS:
        raise UsageError(f"--phone-set {phone_set}: known are {', '.join(PHONE_SETS)}")
    found = LexiconFile()
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = parse_line(line, phone_set)
            except ValueError as e:
                raise KdError(f"{path}, line {number}: {line.rstrip()!r}: {e}; mend or remove the line") from e
            # <UNK>, !SIL and their like are ours to define, and a noise word ([NOISE] SPN) is what <UNK> is.
            if entry is None or entry[0].startswith(("<", "!")) or {*entry[1]} <= {SIL, SPN}:
                continue
            found.lines += 1
            word, pron = entry
            strange = [p for p in pron if p not in ARPABET] if phone_set == "arpabet" else []
            if strange:
                found.unknown.append((number, word, strange))
                continue
            variants = found.prons.setdefault(word, [])
            if pron not in variants:
                variants.append(pron)
    _check(path, found)
    return found


def _check(path: Path, found: LexiconFile) -> None:
    if not found.lines:
        raise KdError(f"{path}: no pronunciations in it; name a lexicon such as cmudict.dict or librispeech-lexicon.txt")
    if len(found.unknown) > MAX_BAD_SHARE * found.lines:
        number, word, strange = found.unknown[0]
        raise KdError(f"{path}: {len(found.unknown)} of {found.lines} lines hold phones outside ARPAbet, the first is line "
                      f"{number} ({word}: {' '.join(strange)}); if this is the lexicon's own phone set, give --phone-set any")  # fmt: skip
    for pron in (p for prons in found.prons.values() for p in prons):
        if SIL in pron or SPN in pron:
            raise KdError(f"{path}: phone {SIL} or {SPN} inside a word ({' '.join(pron)}); these names are for silence and noise")


def write_lexicon(path: Path, prons: Mapping[str, Sequence[Pron]]) -> None:
    """One 'WORD P1 P2 ..' line a pronunciation, words sorted, variants in their order."""
    with open_text(path, "w") as f:
        for word in sorted(prons):
            for pron in prons[word]:
                f.write(f"{word} {' '.join(pron)}\n")
