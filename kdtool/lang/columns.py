"""Numbers between a lexicon's words and phones.  In: a file's entries.  Out: the phones, and the numbers of each pronunciation.

Lexicons have 0 numeric columns (CMUdict, Sphinx, Kaldi's lexicon.txt), 1 (Kaldi's lexiconp.txt, HTK, MFA: probability of the
pronunciation), 2 (also of the silence after it) or 4 (Kaldi's lexiconp_silprob.txt, MFA: also two factors of the silence before
it). The number is decided on the whole file: all lines have the same, or the file is refused with two lines that differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.errors import KdError

COLUMNS = {
    0: "", 1: "pronunciation probability", 2: "pronunciation probability, silence after",
    4: "pronunciation probability, silence after, factors of silence and of speech before",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
_ODD = re.compile(r"[+-]?\d+([.,/]\d+)?%?")  # 0,5, 50% and digits of other scripts are not read as numbers, but are no phones either
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Entry:
    """A line of a lexicon: its line number, the word, the fields after it (numbers, then phones)."""

    line: int
    word: str
    fields: tuple[str, ...]

    @property
    def numeric(self) -> int:
        """Number of leading fields that are numbers."""
        return next((i for i, f in enumerate(self.fields) if not is_number(f)), len(self.fields))

    def __str__(self) -> str:
        return f"'{self.word} {' '.join(self.fields)}'"


def is_number(text: str) -> bool:
    """Whether a field of a lexicon is a number."""
    return text[-1:] in "0123456789.fFnN" and _NUMBER.fullmatch(text) is not None


def count_columns(path: Path, entries: Sequence[Entry]) -> int:
    """The number of numeric columns of a lexicon.

    Raises:
        KdError: lines differ, a line has only numbers, there are 3 or more than 4, or a phone is a number.
    """
    first = next(iter(entries), None)
    if first is None:
        return 0
    count = first.numeric
    for entry in entries:
        number = entry.numeric
        if number == len(entry.fields):
            raise KdError(f"{path}, line {entry.line}: {entry}: numbers, but no phones; fix or remove the line")
        if number != count:
            raise KdError(
                f"{path}: line {first.line} has {_columns(count)} ({first}), line {entry.line} has {number} ({entry}); give all "
                "lines the same, and rename phones that are numbers"
            )
        if odd := next((f for f in entry.fields[count:] if is_number(f) or _ODD.fullmatch(f)), ""):
            raise KdError(f"{path}, line {entry.line}: {entry}: the phone {odd} is a number; phones need names: rename it "
                          "(9 to oe, say), or take the number out")  # fmt: skip
    if count not in COLUMNS:
        raise KdError(f"{path}, line {first.line}: {first}: {_columns(count)} behind the word; known are 1 (probability), 2 (and silence "
                      "after) and 4 (and two factors of the silence before)")  # fmt: skip
    return count


def _columns(count: int) -> str:
    return f"{count} numeric column{'s' * (count != 1)}"
