"""Lexicon -> transducer L from phones to words, with optional silence and disambiguation symbols.

In: pronunciations by word id, the silence phone, their probabilities. Out: L and the ids of its disambiguation symbols.
Phone ids are those of the language folder; disambiguation symbols get the ids above the last phone, #0 (the LM's back-off)
first. With estimated probabilities L is Kaldi's: words start from one state after speech and from another after silence.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdtool.core.errors import KdError
from kdtool.graph.fst import FstArrays
from kdtool.lang.probs import LexiconProbs

Pron = tuple[int, ...]


@dataclass
class LexiconFst:
    """``fst``: L; ``disambig``: ids of #0, #1, .. on its input side, rising, directly above the phones."""

    fst: FstArrays
    disambig: list[int]


def disambiguate(entries: Sequence[tuple[int, Pron]]) -> list[tuple[int, Pron, int]]:
    """Give every pronunciation a mark (0 = none) so that no (phones, mark) string equals or begins another.

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
    prons: Mapping[int, Sequence[Pron]], *, num_phones: int, back_off_word: int, sil: int | None, probs: LexiconProbs, words: Sequence[str]
) -> LexiconFst:
    """Build L; KdError on a word with an empty pronunciation, or without any word.

    prons: word id -> pronunciations (phone ids); num_phones: the largest phone id, marks are numbered from there on; back_off_word: id of
    #0, which passes through L on a self-loop; sil: silence phone allowed at the start and after each word, if any; probs: costs of
    pronunciations and silences (silence and no silence both cost, as in Kaldi); words: word by id.
    """
    entries = sorted({(word, tuple(pron)) for word, variants in prons.items() for pron in variants})
    if not entries or any(not pron for _, pron in entries):
        raise KdError("the lexicon is empty or holds an empty pronunciation; fix lexicon.txt")
    marked = disambiguate(entries)
    highest = max(mark for _, _, mark in marked) + (sil is not None)
    zero = num_phones + 1
    arcs: list[tuple[int, int, int, int, float]] = []  # from, to, phone, word, cost
    if sil is None:
        start = loop = 0
        loops, states = [(loop, False)], 1
    else:
        start, loop, silence, after, states = 0, 1, 2, 3, 4
        loops = [(loop, False)]
        if probs.corrected:  # the sound before a word counts: words after silence start from a second state
            loops, states = [(loop, False), (4, True)], 5
        arcs += [(start, loop, 0, 0, -probs.begin.leave(False)), (start, silence, 0, 0, -probs.begin.leave(True))]
        # A mark after silence: paths with and without silence must stay separate until determinization is done.
        arcs += [(silence, after, sil, 0, 0.0), (after, loops[-1][0], zero + highest, 0, 0.0)]
    arcs += [(here, here, zero, back_off_word, 0.0) for here, _ in loops]
    for word, pron, mark in marked:
        costs = probs.of(words[word], pron)
        ends = [(loop, -costs.leave(False)), (silence, -costs.leave(True))] if sil is not None else [(loop, 0.0)]
        symbols = [*pron, zero + mark] if mark else list(pron)
        heads = [(here, word, 0.0 - costs.enter(silent)) for here, silent in loops]
        for symbol in symbols[:-1]:
            arcs += [(here, states, symbol, output, cost) for here, output, cost in heads]
            heads, states = [(states, 0, 0.0)], states + 1
        arcs += [(here, end, symbols[-1], output, cost + more) for here, output, cost in heads for end, more in ends]
    src, dst, phone, output, cost = zip(*arcs, strict=True)
    final = {here: 0.0 - probs.end.enter(silent) for here, silent in loops}
    fst = FstArrays.build(src, dst, phone, output, cost, final, start, states)
    return LexiconFst(fst, list(range(zero, zero + highest + 1)))
