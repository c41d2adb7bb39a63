"""Pronunciation lexicons.  In: a file in CMUdict's, Sphinx's, Kaldi's, MFA's or HTK's format.  Out: words and their phones, numbers.

All are 'WORD P1 P2 ..' lines. CMUdict and Sphinx mark variants as WORD(2), CMUdict comments with ' #' or ';;;'; Kaldi and MFA
repeat the word; HTK may add an output symbol in brackets: 'WORD [OUT] 1.0 P1'. Words become upper-case and composed (NFC), stress
digits are removed, equal pronunciations of a word count once.
Between word and phones may stand 1 number (Kaldi's lexiconp.txt, HTK, MFA: probability of the pronunciation), 2 (also of the silence
after it) or 4 (Kaldi's lexiconp_silprob.txt, MFA: also two factors of the silence before it). Their count is decided on the whole file:
all lines have the same, or the file is refused with two lines that differ.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.encoding import other_encoding
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import first_lines, open_text, write_lines
from kdtool.text.clean import Counts, clean, tell, upper
from kdtool.text.marks import UNKNOWN_WORD

Pron = tuple[str, ...]
Numbers = tuple[float, ...]
Lexicon = dict[str, list[Pron]]

_ARPABET = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
ARPABET = frozenset(_ARPABET.split())
PHONE_SETS = ("arpabet", "any")
SIL, SPN, UNK = "SIL", "SPN", UNKNOWN_WORD
MAX_BAD_SHARE = 0.01
COLUMNS = {
    0: "", 1: "pronunciation probability", 2: "pronunciation probability, silence after",
    4: "pronunciation probability, silence after, factors of silence and of speech before",
}  # fmt: skip
_VARIANT = re.compile(r"\(\d+\)$")
_PRINTED = re.compile(r"\[.*\]")  # HTK's output symbol
_STRESS = re.compile(r"[0-2]$")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
_ODD = re.compile(r"[+-]?\d+([.,/]\d+)?%?")  # 0,5, 50% and digits of other scripts are not read as numbers, but are no phones either


@dataclass(frozen=True)
class Entry:
    """A line of a lexicon: its line number, the word, the fields after it (numbers, then phones)."""

    line: int
    word: str
    fields: tuple[str, ...]

    @property
    def numeric(self) -> int:
        """Number of leading fields that are numbers."""
        return next((i for i, f in enumerate(self.fields) if not _is_number(f)), len(self.fields))

    def __str__(self) -> str:
        return f"'{self.word} {' '.join(self.fields)}'"


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


def _is_number(text: str) -> bool:
    return text[-1:] in "0123456789.fFnN" and _NUMBER.fullmatch(text) is not None


def _parse_line(number: int, line: str) -> Entry | None:
    """One line -> its word and the fields after it, None for comments and empty lines. Raises ValueError: a word without phones."""
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


def read_lexicon(path: Path, phone_set: str = "arpabet") -> LexiconFile:
    """Read a lexicon (plain or .gz). Raises KdError: a malformed line (its number is named), no entry, or more than 1% of the lines with
    unknown phones. phone_set: "arpabet": pronunciations with other phones are reported in `unknown` only; "any": all are kept."""
    if phone_set not in PHONE_SETS:
        raise UsageError(f"--phone-set {phone_set}: known are {', '.join(PHONE_SETS)}")
    changed = Counts()
    entries = _entries(path, changed)
    lexicon = LexiconFile(lines=len(entries), columns=_count_columns(path, entries))
    for entry in entries:
        word, phones = entry.word, entry.fields[lexicon.columns :]
        phones = tuple(p.upper() for p in phones) if phone_set == "arpabet" else phones
        # Stress is that of ARPAbet's vowels: in other phone sets a digit may be a tone.
        pron = tuple(plain if (plain := _STRESS.sub("", p)) in ARPABET else p for p in phones)
        strange = [p for p in pron if p not in ARPABET] if phone_set == "arpabet" else []
        if strange:
            lexicon.unknown.append((entry.line, word, strange))
            continue
        variants = lexicon.prons.setdefault(word, [])
        numbers = tuple(float(x) for x in entry.fields[: lexicon.columns])
        if pron not in variants:
            variants.append(pron)
        lexicon.numbers[word, pron] = max(lexicon.numbers.get((word, pron), numbers), numbers)
    _check(path, lexicon)
    tell(str(path), changed)
    if lexicon.columns:
        print(f"note: {path}: {_columns(lexicon.columns)} behind each word ({COLUMNS[lexicon.columns]})", file=sys.stderr)
    return lexicon


def _entries(path: Path, changed: Counts) -> list[Entry]:
    """The lines that are words with phones; `changed` counts changed characters by kind."""
    entries = []
    if path.is_file() and (fault := other_encoding(path, first_lines(path, 1 << 16))):
        raise KdError(fault)
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = _parse_line(number, clean(line.rstrip("\r\n"), changed))
            except ValueError as e:
                raise KdError(f"{path}, line {number}: {line.rstrip()!r}: {e}; fix or remove the line") from e
            # <UNK>, !SIL and the like are defined by us, and a noise word ([NOISE] SPN) is what <UNK> means.
            if entry and not entry.word.startswith(("<", "!")):
                phones = {p.upper() for p in entry.fields[entry.numeric :]}
                entries += [entry] * (not phones or not phones <= {SIL, SPN})
    return entries


def _count_columns(path: Path, entries: Sequence[Entry]) -> int:
    """The number of numeric columns of a lexicon. Raises KdError: lines differ, a line has only numbers, there are 3 or more than 4,
    or a phone is a number."""
    if not entries:
        return 0
    first, count = entries[0], entries[0].numeric
    for entry in entries:
        number = entry.numeric
        if number == len(entry.fields):
            raise KdError(f"{path}, line {entry.line}: {entry}: numbers, but no phones; fix or remove the line")
        if number != count:
            raise KdError(f"{path}: line {first.line} has {_columns(count)} ({first}), line {entry.line} has {number} ({entry}); give all "
                          "lines the same, and rename phones that are numbers")  # fmt: skip
        if odd := next((f for f in entry.fields[count:] if _is_number(f) or _ODD.fullmatch(f)), ""):
            raise KdError(f"{path}, line {entry.line}: {entry}: the phone {odd} is a number; phones need names: rename it "
                          "(9 to oe, say), or take the number out")  # fmt: skip
    if count not in COLUMNS:
        raise KdError(f"{path}, line {first.line}: {first}: {_columns(count)} behind the word; known are 1 (probability), 2 (and silence "
                      "after) and 4 (and two factors of the silence before)")  # fmt: skip
    return count


def _columns(count: int) -> str:
    return f"{count} numeric column{'s' * (count != 1)}"


def _check(path: Path, lexicon: LexiconFile) -> None:
    if not lexicon.lines:
        raise KdError(f"{path}: no pronunciations in it; name a lexicon such as cmudict.dict or librispeech-lexicon.txt")
    if len(lexicon.unknown) > MAX_BAD_SHARE * lexicon.lines:
        number, word, strange = lexicon.unknown[0]
        raise KdError(f"{path}: {len(lexicon.unknown)} of {lexicon.lines} lines hold phones outside ARPAbet, the first is line "
                      f"{number} ({word}: {' '.join(strange)}); if this is the lexicon's own phone set, give --phone-set any")  # fmt: skip
    for pron in (p for prons in lexicon.prons.values() for p in prons):
        if SIL in pron or SPN in pron:
            raise KdError(f"{path}: phone {SIL} or {SPN} inside a word ({' '.join(pron)}); these names are for silence and noise")


def write_lexicon(path: Path, prons: Mapping[str, Sequence[Pron]]) -> None:
    """One 'WORD P1 P2 ..' line per pronunciation, words sorted, variants in their order."""
    write_lines(path, (f"{word} {' '.join(pron)}" for word in sorted(prons) for pron in prons[word]))
