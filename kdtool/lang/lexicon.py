"""Pronunciation lexicons.  In: a file in CMUdict's, Sphinx's, Kaldi's, MFA's or HTK's format.  Out: words and their phones.

All are 'WORD P1 P2 ..' lines. CMUdict and Sphinx mark variants as WORD(2), CMUdict comments with ' #' or ';;;'; Kaldi and MFA
repeat the word and may put 1, 2 or 4 numbers after it (see kdtool.lang.columns); HTK may add an output symbol in
brackets: 'WORD [OUT] 1.0 P1'. Words become upper-case and composed (NFC), stress digits are removed, equal pronunciations of a word
count once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.encoding import other_encoding
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import first_lines, open_text
from kdtool.lang.columns import COLUMNS, Entry, Numbers, count_columns
from kdtool.text.clean import Counts, clean, tell, upper
from kdtool.text.marks import UNKNOWN_WORD

Pron = tuple[str, ...]
Lexicon = dict[str, list[Pron]]

_ARPABET = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
ARPABET = frozenset(_ARPABET.split())
PHONE_SETS = ("arpabet", "any")
SIL, SPN, UNK = "SIL", "SPN", UNKNOWN_WORD
MAX_BAD_SHARE = 0.01
_VARIANT = re.compile(r"\(\d+\)$")
_PRINTED = re.compile(r"\[.*\]")  # HTK's output symbol
_STRESS = re.compile(r"[0-2]$")


@dataclass
class LexiconFile:
    """The lexicon as read: pronunciations in file order; unknown: (line number, word, phones outside the phone set).

    columns: number of numeric columns; numbers: those of each pronunciation (empty if there are none).
    """

    prons: Lexicon = field(default_factory=dict)
    unknown: list[tuple[int, str, list[str]]] = field(default_factory=list)
    lines: int = 0
    columns: int = 0
    numbers: dict[tuple[str, Pron], Numbers] = field(default_factory=dict)


def parse_line(number: int, line: str) -> Entry | None:
    """One line -> its word and the fields after it, None for comments and empty lines.

    Raises:
        ValueError: a word without phones.
    """
    if line.startswith((";;;", "##", "# ", "#\t")) or not line.strip():
        return None
    fields = re.split(r"\s#", line, maxsplit=1)[0].split()
    if len(fields) > 2 and _PRINTED.fullmatch(fields[1]):
        del fields[1]
    if len(fields) < 2:
        raise ValueError("'WORD PHONE PHONE ..' expected")
    word = upper(_VARIANT.sub("", fields[0]))
    if word.startswith(("\\'", '\\"')):  # as HTK writes a quote that begins a word
        word = word[1:]
    elif word[:1] == word[-1:] == '"' and word.strip('"'):  # HTK and Julius may quote a word
        word = word[1:-1]
    if not word:
        raise ValueError("no word before the variant number")
    return Entry(number, word, tuple(fields[1:]))


def plain_phone(phone: str) -> str:
    """The phone without stress digit, for ARPAbet's vowels only: in other phone sets a digit may be a tone."""
    plain = _STRESS.sub("", phone)
    return plain if plain in ARPABET else phone


def read_lexicon(path: Path, phone_set: str = "arpabet") -> LexiconFile:
    """Read a lexicon (plain or .gz).

    Args:
        phone_set: "arpabet": pronunciations with other phones are dropped and reported in `unknown`; "any": all are kept.

    Raises:
        KdError: a malformed line (its number is named), no entry, or more than 1% of the lines with unknown phones.
    """
    if phone_set not in PHONE_SETS:
        raise UsageError(f"--phone-set {phone_set}: known are {', '.join(PHONE_SETS)}")
    changed = Counts()
    entries = _entries(path, changed)
    found = LexiconFile(lines=len(entries), columns=count_columns(path, entries))
    for entry in entries:
        word, spoken = entry.word, entry.fields[found.columns :]
        pron = tuple(plain_phone(p.upper() if phone_set == "arpabet" else p) for p in spoken)
        strange = [p for p in pron if p not in ARPABET] if phone_set == "arpabet" else []
        if strange:
            found.unknown.append((entry.line, word, strange))
            continue
        variants = found.prons.setdefault(word, [])
        numbers = tuple(float(x) for x in entry.fields[: found.columns])
        if pron not in variants:
            variants.append(pron)
            found.numbers[word, pron] = numbers
        elif numbers > found.numbers[word, pron]:
            found.numbers[word, pron] = numbers
    _check(path, found)
    tell(str(path), changed)
    if found.columns:
        print(f"note: {path}: {found.columns} numeric column{'s' * (found.columns > 1)} behind each word ({COLUMNS[found.columns]})",
              file=sys.stderr)  # fmt: skip
    return found


def _entries(path: Path, changed: Counts) -> list[Entry]:
    """The lines that are words with phones; `changed` counts changed characters by kind."""
    entries = []
    if path.is_file() and (fault := other_encoding(path, first_lines(path, 1 << 16))):
        raise KdError(fault)
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = parse_line(number, clean(line.rstrip("\r\n"), changed))
            except ValueError as e:
                raise KdError(f"{path}, line {number}: {line.rstrip()!r}: {e}; fix or remove the line") from e
            # <UNK>, !SIL and the like are defined by us, and a noise word ([NOISE] SPN) is what <UNK> means.
            if entry and not entry.word.startswith(("<", "!")) and not _noise(entry):
                entries.append(entry)
    return entries


def _noise(entry: Entry) -> bool:
    phones = entry.fields[entry.numeric :]
    return bool(phones) and {p.upper() for p in phones} <= {SIL, SPN}


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
    """One 'WORD P1 P2 ..' line per pronunciation, words sorted, variants in their order."""
    with open_text(path, "w") as f:
        for word in sorted(prons):
            for pron in prons[word]:
                f.write(f"{word} {' '.join(pron)}\n")
