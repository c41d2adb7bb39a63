"""Word-position-dependent phones: AH_B begins a word, AH_E ends one, AH_I is inside, AH_S is a whole word (as in Kaldi).

In: pronunciations in plain phones. Out: the same with marks, and ``word_boundary.txt`` (Kaldi's: one 'PHONE position' per line);
a language folder has such phones if this file exists. Silence and noise have no position.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tables import read_lines, write_lines
from kdtool.lang.lexicon import SIL, SPN, Lexicon, Pron

POSITIONS_FILE = "word_boundary.txt"
NONWORD = "nonword"
MARKS = {"begin": "_B", "end": "_E", "internal": "_I", "singleton": "_S"}
_PLAIN = (SIL, SPN)


def mark(pron: Pron) -> Pron:
    """A word's pronunciation with its phones' positions."""
    marks = ["begin", *["internal"] * (len(pron) - 2), "end"] if len(pron) > 1 else ["singleton"]
    return tuple(p if p in _PLAIN else p + MARKS[m] for p, m in zip(pron, marks, strict=True))


def mark_lexicon(lexicon: Lexicon) -> Lexicon:
    """All pronunciations with positions."""
    return {word: [mark(pron) for pron in prons] for word, prons in lexicon.items()}


def marked_phones(plain: Collection[str]) -> list[str]:
    """Every plain phone in every position, even if no word has it there: a new word may. Raises KdError: a phone that seems to have a
    position already."""
    if odd := [p for p in sorted(plain) if p.endswith(tuple(MARKS.values()))]:
        raise KdError(f"phone {odd[0]} of the lexicon ends like a position in the word; rename it, or give --word-position false")
    return [p + end for p in sorted(plain) for end in MARKS.values()]


def write_positions(folder: Path, phones: Collection[str], plain: Collection[str]) -> None:
    """Write word_boundary.txt. phones: in output order; plain: those without a position."""
    kinds = {end: kind for kind, end in MARKS.items()}
    write_lines(folder / POSITIONS_FILE, (f"{p} {NONWORD if p in plain else kinds[p[-2:]]}" for p in phones))


def read_positions(folder: Path, phones: Mapping[str, int]) -> dict[str, str]:
    """Position of each phone; empty when the folder's phones have none. Raises KdError: a malformed line, or other phones than
    phones.txt has."""
    path = folder / POSITIONS_FILE
    if not path.exists():
        return {}
    positions: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        name, _, kind = line.partition(" ")
        if kind != NONWORD and (kind not in MARKS or not name.endswith(MARKS[kind]) or len(name) < 3):
            raise KdError(f"{path}, line {number}: {line!r} is not 'PHONE {NONWORD}' or 'PHONE_B begin' (_E end, _I internal, "
                          "_S singleton); prepare the lang again")  # fmt: skip
        positions[name] = kind
    if odd := sorted({*phones} - {"<eps>"} ^ {*positions}):
        raise KdError(f"{path}: {odd[0]} is in one of {path.name} and phones.txt only; prepare the lang again")
    return positions


def plain_name(phone: str, positions: Mapping[str, str]) -> str:
    """The phone without its position."""
    return phone if positions.get(phone, NONWORD) == NONWORD else phone[:-2]
