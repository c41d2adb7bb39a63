"""Lexicon -> transducer L from phones to words, with optional silence and disambiguation symbols.

In: pronunciations by word id, the silence phone. Out: L and the ids of its disambiguation symbols. Phone ids are those of
the language folder; disambiguation symbols get the ids above the last phone, #0 (the LM's back-off) first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdtool.core.errors import KdError
from kdtool.graph.fst import FstArrays

Pron = tuple[int, ...]


@dataclass
class LexiconFst:
    """``fst``: L; ``disambig``: ids of #0, #1, .. on its input side, rising, directly above the phones."""

    fst: FstArrays
    disambig: list[int]


def disambiguate(entries: Sequence[tuple[int, Pron]]) -> list[tuple[int, Pron, int]]:
    """Give every pronunciation a mark (0 = none) so that no (phones, mark) string is another's, or the start of one.

    Homophones get marks 1, 2, ..; a pronunciation that begins a longer one gets a mark as well.
    """
    count = Counter(pron for _, pron in entries)
    prefixes = {pron[:n] for _, pron in entries for n in range(1, len(pron))}
    used: Counter[Pron] = Counter()
    marked = []
    for word, pron in entries:
        mark = 0
        if count[pron] > 1 or pron in prefixes:
            used[pron] += 1
            mark = used[pron]
        marked.append((word, pron, mark))
    return marked


def lexicon_fst(
    prons: Mapping[int, Sequence[Pron]], *, num_phones: int, back_off_word: int, sil: int | None, sil_prob: float = 0.5
) -> LexiconFst:
    """Build L.

    Args:
        prons: word id -> pronunciations (phone ids), each variant at no cost.
        num_phones: the largest phone id; marks are numbered from there on.
        back_off_word: the word id of #0, which passes through L on a self-loop.
        sil: silence phone that may stand at the start and after each word; None for no optional silence.
        sil_prob: its probability at each of these places (both outcomes are paid for, as in Kaldi).

    Raises:
        KdError: a word with an empty pronunciation or no word at all.
    """
    entries = sorted({(word, tuple(pron)) for word, variants in prons.items() for pron in variants})
    if not entries or any(not pron for _, pron in entries):
        raise KdError("the lexicon is empty or holds an empty pronunciation; mend lexicon.txt")
    marked = disambiguate(entries)
    highest = max(mark for _, _, mark in marked) + (sil is not None)
    zero = num_phones + 1
    no_sil, with_sil = (-math.log(1 - sil_prob), -math.log(sil_prob)) if sil is not None else (0.0, 0.0)
    arcs: list[tuple[int, int, int, int, float]] = []  # from, to, phone, word, cost
    start, loop, silence, after = 0, 1, 2, 3
    states = 2 if sil is None else 4
    if sil is None:
        start = loop = 0
        states = 1
    else:
        arcs += [(start, loop, 0, 0, no_sil), (start, silence, 0, 0, with_sil)]
        # A mark behind silence: with and without silence must stay apart until determinization is done.
        arcs += [(silence, after, sil, 0, 0.0), (after, loop, zero + highest, 0, 0.0)]
    arcs.append((loop, loop, zero, back_off_word, 0.0))
    for word, pron, mark in marked:
        symbols = [*pron, zero + mark] if mark else list(pron)
        here = loop
        for n, symbol in enumerate(symbols[:-1]):
            arcs.append((here, states, symbol, word if n == 0 else 0, 0.0))
            here, states = states, states + 1
        last = word if len(symbols) == 1 else 0
        arcs.append((here, loop, symbols[-1], last, no_sil))
        if sil is not None:
            arcs.append((here, silence, symbols[-1], last, with_sil))
    src, dst, phone, output, cost = zip(*arcs, strict=True)
    fst = FstArrays.build(src, dst, phone, output, cost, {loop: 0.0}, start, states)
    return LexiconFst(fst, list(range(zero, zero + highest + 1)))
