"""Probabilities in a lexicon.  In: its numbers, the vocabulary's pronunciations.  Out: LexiconProbs, or None and why.

A lexicon's 1, 2 or 4 numbers (kdtool.lang.columns) are the first columns of Kaldi's lexiconp_silprob.txt; missing ones are
flat. steps/estimate_lang_probs.sh replaces them by those of an alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdtool.lang.columns import Numbers
from kdtool.lang.lexicon import SPN, UNK, Lexicon, LexiconFile, Pron
from kdtool.lang.positions import mark
from kdtool.lang.probs import LexiconProbs, PronProbs

FLAT_SILENCE = 0.5
_LEAST = 1e-5  # a pronunciation of probability 0 stays possible, as an alignment may need it


def not_probabilities(source: LexiconFile) -> str:
    """The first entry whose numbers are no probabilities, '' if there is none."""
    for (word, _), numbers in source.numbers.items():
        if not all(0 <= x <= 1 for x in numbers[:2]) or not all(0 <= x < float("inf") for x in numbers[2:]):
            return f"{word} {' '.join(f'{x:g}' for x in numbers)}"
    return ""


def given_probs(source: LexiconFile, lexicon: Lexicon, phones: Sequence[str], word_position: bool) -> LexiconProbs | None:
    """The probabilities of `lexicon` (the vocabulary's words, plain phones); None when the numbers carry no information.

    phones: the folder's phones by id, with positions if `word_position`.
    """
    silences = [n[1] for n in source.numbers.values() if len(n) > 1]
    if not silences and all(numbers in ((), (1.0,)) for numbers in source.numbers.values()):
        return None
    overall = min(0.999, max(0.001, sum(silences) / len(silences))) if silences else FLAT_SILENCE
    ids = {phone: i for i, phone in enumerate(phones)}
    everything: Lexicon = {**lexicon, UNK: [(SPN,)]}
    table: dict[tuple[str, tuple[int, ...]], PronProbs] = {}
    for word, prons in everything.items():
        numbers = [_numbers(source.numbers, word, pron) for pron in prons]
        best = max(n[0] for n in numbers)
        for pron, (first, *rest) in zip(prons, numbers, strict=True):
            said = tuple(ids[p] for p in (mark(pron) if word_position else pron))
            sil = min(0.999, max(0.001, rest[0])) if rest else overall
            table[word, said] = PronProbs(max(_LEAST, first / best), sil, *(max(0.01, x) for x in rest[1:]))
    return LexiconProbs(table, FLAT_SILENCE, PronProbs(1.0, overall), overall)


def _numbers(given: Mapping[tuple[str, Pron], Numbers], word: str, pron: Pron) -> Numbers:
    """An entry's numbers, the first one above 0; flat for words that the lexicon lacks."""
    numbers = given.get((word, pron)) or (1.0,)
    return max(_LEAST, numbers[0]), *numbers[1:]
