"""Pronunciation and silence probabilities of a language folder, in Kaldi's two tables.

In: ``lexiconp_silprob.txt`` ("WORD pron_prob sil_after sil_before nonsil_before PHONES") and ``silprob.txt``, as
``kdtool.ali.lang_probs`` estimates them. Out: ``LexiconProbs``: log-probabilities of a word's pronunciations, of the
silence after a word, and how the silence before it changes them (Chen, Xu, Wang, Povey, Khudanpur, Interspeech 2015).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text, read_lines, write_lines

LEXICON_PROBS, SILENCE_PROBS = "lexiconp_silprob.txt", "silprob.txt"
_EDGES = ("<s>", "</s>_s", "</s>_n", "overall")
Pron = tuple[int, ...]


@dataclass(frozen=True)
class PronProbs:
    """One pronunciation: ``pron`` (1 for the word's best one), ``sil`` that silence follows, and the factors by which the
    word is likelier after silence (``after_sil``) and after speech (``after_speech``) than the previous word predicts."""

    pron: float
    sil: float
    after_sil: float = 1.0
    after_speech: float = 1.0

    def enter(self, after_sil: bool) -> float:
        """Log-probability of entering the word."""
        return math.log(self.pron) + math.log(self.after_sil if after_sil else self.after_speech)

    def leave(self, to_sil: bool) -> float:
        """Log-probability of leaving it."""
        return math.log(self.sil if to_sil else 1 - self.sil)


@dataclass(frozen=True)
class LexiconProbs:
    """All of a language folder's probabilities.

    ``prons``: (word, pronunciation) -> its probabilities, for words seen or not; ``start``: silence at the utterance's
    start; ``end``: factors of its end (after silence, after speech); ``overall``: silence after any word.
    """

    prons: Mapping[tuple[str, Pron], PronProbs]
    start: float
    end: PronProbs
    overall: float

    @classmethod
    def flat(cls, sil: float) -> "LexiconProbs":
        """Without estimates: each pronunciation at no cost, silence equally likely everywhere."""
        return cls({}, sil, PronProbs(1.0, sil), sil)

    def of(self, word: str, pron: Pron) -> PronProbs:
        """Probabilities of one pronunciation; words beyond the vocabulary get the average of all words."""
        return self.prons.get((word, pron)) or PronProbs(1.0, self.overall)

    def part(self, words: Iterable[str]) -> "LexiconProbs":
        """The same for some words only, to be handed to other processes."""
        chosen = set(words)
        return LexiconProbs({e: p for e, p in self.prons.items() if e[0] in chosen}, self.start, self.end, self.overall)

    @property
    def begin(self) -> PronProbs:
        """Probabilities before the first word."""
        return PronProbs(1.0, self.start)

    @property
    def corrected(self) -> bool:
        """Whether the silence before a word counts, not only the one after it."""
        return any((p.after_sil, p.after_speech) != (1.0, 1.0) for p in (*self.prons.values(), self.end))

    def save(self, folder: Path, names: Sequence[str]) -> None:
        """Write both tables. names: phone by id."""
        with open_text(folder / LEXICON_PROBS, "w") as f:
            for (word, pron), p in self.prons.items():
                numbers = " ".join(f"{x:.6g}" for x in (p.pron, p.sil, p.after_sil, p.after_speech))
                f.write(f"{word} {numbers} {' '.join(names[n] for n in pron)}\n")
        values = (self.start, self.end.after_sil, self.end.after_speech, self.overall)
        write_lines(folder / SILENCE_PROBS, (f"{name} {value:.6g}" for name, value in zip(_EDGES, values, strict=True)))

    @classmethod
    def load(cls, folder: Path, phones: Mapping[str, int], prons: Mapping[str, Sequence[Pron]]) -> "LexiconProbs | None":
        """Read both tables; None when the folder has neither. Raises KdError: a malformed line, a number that is no probability, or
        other pronunciations than lexicon.txt has."""
        path, edges = folder / LEXICON_PROBS, folder / SILENCE_PROBS
        if not path.exists() and not edges.exists():
            return None
        table = {}
        for number, line in enumerate(read_lines(path), 1):
            word, *fields = line.split() or [""]
            try:
                p = PronProbs(*(float(x) for x in fields[:4]))
                if not (0 < p.pron <= 1 and 0 < p.sil < 1 and p.after_sil > 0 and p.after_speech > 0):
                    raise ValueError("out of range")
                table[word, tuple(phones[p] for p in fields[4:])] = p
            except (KeyError, ValueError, TypeError) as e:
                raise KdError(f"{path}, line {number}: {line!r} is not 'WORD pron_prob sil_after sil_before nonsil_before PHONES' with "
                              "probabilities above 0; estimate them again (steps/estimate_lang_probs.sh)") from e  # fmt: skip
        expected = {(word, pron) for word, variants in prons.items() for pron in variants}
        if odd := sorted(table.keys() ^ expected):
            raise KdError(f"{path} and lexicon.txt have different pronunciations of {odd[0][0]} ({len(table)} and {len(expected)} in all); "
                          "estimate them again (steps/estimate_lang_probs.sh)")  # fmt: skip
        start, sil, speech, overall = _read_edges(edges)
        return cls(table, start, PronProbs(1.0, 0.5, sil, speech), overall)


def _read_edges(path: Path) -> list[float]:
    try:
        values = {name: float(value) for name, value in (line.split() for line in read_lines(path) if line.strip())}
        numbers = [values[name] for name in _EDGES]
    except (KeyError, ValueError) as e:
        raise KdError(f"{path}: lines '{' / '.join(_EDGES)} NUMBER' expected; estimate them again (steps/estimate_lang_probs.sh)") from e
    if not (0 < numbers[0] < 1 and 0 < numbers[3] < 1 and min(numbers) > 0):
        raise KdError(f"{path}: {numbers} are no probabilities; estimate them again (steps/estimate_lang_probs.sh)")
    return numbers
