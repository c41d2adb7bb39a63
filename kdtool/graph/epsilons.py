"""Removes arcs without input labels from a transducer, and adds self-loops; plain numpy.

In: FstArrays whose input labels are pdf + 1 or 0 (epsilon). Out: the same weighted relation without epsilons, whose output labels are
ids into a table of word sequences, and HMM self-loops on its states.
"""

import numpy as np

from kdtool.core.errors import KdError
from kdtool.graph.fst import FstArrays, connect

_MAX_DEPTH = 50


class Outputs:
    """Ids of word sequences: an id up to ``num_words`` is that word (0: none), a higher one a longer sequence."""

    def __init__(self, num_words: int) -> None:
        self.base = num_words
        self.sequences: list[tuple[int, ...]] = []
        self._ids: dict[tuple[int, ...], int] = {}

    def spell(self, number: int) -> tuple[int, ...]:
        """The word ids of an output id."""
        if number < self.base:
            return (number,) if number else ()
        return self.sequences[number - self.base]

    def join(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Ids of the sequences first[i] + second[i]; both int32 (N,)."""
        result = np.where(second == 0, first, second).astype(np.int32)
        both = np.flatnonzero((first > 0) & (second > 0))
        for i in both:
            key = self.spell(int(first[i])) + self.spell(int(second[i]))
            if key not in self._ids:
                self._ids[key] = self.base + len(self.sequences)
                self.sequences.append(key)
            result[i] = self._ids[key]
        return result


def _expand(states: np.ndarray, fst: FstArrays) -> tuple[np.ndarray, np.ndarray]:
    """Join rows with the arcs that leave their states: all pairs (row, arc)."""
    count = np.bincount(fst.src, minlength=fst.num_states)
    n = count[states]
    rows = np.repeat(np.arange(len(states)), n)
    return rows, (np.cumsum(count) - count)[states][rows] + np.arange(len(rows)) - np.repeat(np.cumsum(n) - n, n)


def _best(src: np.ndarray, dst: np.ndarray, aux: np.ndarray, weight: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """Indices of the cheapest row for each distinct (src, dst, aux, ...)."""
    order = np.lexsort((weight, aux, dst, *more, src))
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for column in (src, dst, aux, *more):
        new[1:] |= column[order][1:] != column[order][:-1]
    return order[new]


def _closure(eps: FstArrays, outputs: Outputs) -> FstArrays:
    """All (from, to, outputs, cost) that one or more epsilon arcs alone connect."""
    src, dst, aux, weight = eps.src, eps.dst, eps.olabel, eps.weight
    parts = [(src, dst, aux, weight)]
    for _ in range(_MAX_DEPTH):
        rows, arcs = _expand(dst, eps)
        if not len(rows):
            break
        src, dst = src[rows], eps.dst[arcs]
        aux, weight = outputs.join(aux[rows], eps.olabel[arcs]), weight[rows] + eps.weight[arcs]
        keep = _best(src, dst, aux, weight)
        src, dst, aux, weight = src[keep], dst[keep], aux[keep], weight[keep]
        parts.append((src, dst, aux, weight))
    else:
        raise KdError(f"the graph has a cycle without input (more than {_MAX_DEPTH} epsilon arcs in a row); fix lexicon or LM")
    src, dst, aux, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = _best(src, dst, aux, weight)
    zeros = np.zeros(len(keep), dtype=np.int32)
    return FstArrays.build(src[keep], dst[keep], zeros, aux[keep], weight[keep], eps.final, eps.start)


def remove_epsilons(fst: FstArrays, outputs: Outputs) -> FstArrays:
    """An equivalent transducer without input epsilons, connected.

    An arc into a state with epsilons is copied to the states after them. This direction is the small one: many
    arcs leave a back-off state, few enter one. The start state has no incoming arcs; it takes over outgoing arcs instead. A path
    without any input is dropped (there is no utterance without frames).
    """
    is_eps = fst.ilabel == 0
    real = fst.select(~is_eps)
    if not is_eps.any():
        return connect(real)
    behind = _closure(fst.select(is_eps), outputs)
    rows, arcs = _expand(real.dst, behind)
    aux, weight = outputs.join(real.olabel[rows], behind.olabel[arcs]), real.weight[rows] + behind.weight[arcs]
    full = _with_arcs(real, real.src[rows], behind.dst[arcs], real.ilabel[rows], aux, weight)
    first = behind.select(behind.src == full.start)
    rows, arcs = _expand(first.dst, full)
    aux, weight = outputs.join(first.olabel[rows], full.olabel[arcs]), first.weight[rows] + full.weight[arcs]
    full = _with_arcs(full, np.full(len(arcs), full.start), full.dst[arcs], full.ilabel[arcs], aux, weight)
    keep = _best(full.src, full.dst, full.olabel, full.weight, full.ilabel)
    return connect(full.select(np.sort(keep)))


def _with_arcs(fst: FstArrays, *more: np.ndarray) -> FstArrays:
    """The transducer with more arcs: their ``columns``."""
    src, dst, ilabel, olabel, weight = (np.concatenate(pair) for pair in zip(fst.columns(), more, strict=True))
    return FstArrays.build(src, dst, ilabel, olabel, weight, fst.final, fst.start)


def add_self_loops(fst: FstArrays, spelled: tuple[np.ndarray, np.ndarray] | None = None) -> FstArrays:
    """Let each state repeat the label of its incoming arcs, at no cost and without output.

    spelled: int32, by label: the label of its arcs in the result, and that of its self-loops; None: both are the label itself.

    A state that is entered by several labels becomes one state per label (of its loop), each with its loop. The start state gets
    number 0 and no loop, as no label has been read there. A connected transducer stays
    connected.
    """
    arc_label, loop_label = spelled or (np.arange(int(fst.ilabel.max(initial=0)) + 1, dtype=np.int32),) * 2
    span, loop = int(loop_label.max(initial=0)) + 1, loop_label[fst.ilabel]
    entered = np.concatenate([[np.int64(fst.start) * span], np.unique(fst.dst.astype(np.int64) * span + loop)])
    entered = np.unique(entered)  # pairs (state, label); label 0: the start, before any frame
    state, label = (entered // span).astype(np.int32), (entered % span).astype(np.int32)
    begin = int(np.searchsorted(entered, np.int64(fst.start) * span))
    number = np.arange(len(entered), dtype=np.int32)
    number[begin], number[:begin] = 0, number[:begin] + 1
    copies, arcs = _expand(state, fst)
    target = np.searchsorted(entered, fst.dst[arcs].astype(np.int64) * span + loop[arcs])
    loops = np.flatnonzero(label > 0)
    zeros = np.zeros(len(loops), dtype=np.int32)
    final = np.full(len(entered), np.inf, dtype=np.float32)
    final[number] = np.where(label > 0, fst.final[state], np.inf)
    return FstArrays.build(
        np.concatenate([number[copies], number[loops]]),
        np.concatenate([number[target], number[loops]]),
        np.concatenate([arc_label[fst.ilabel[arcs]], label[loops]]),
        np.concatenate([fst.olabel[arcs], zeros]),
        np.concatenate([fst.weight[arcs], zeros]),
        final, 0,
    )  # fmt: skip
