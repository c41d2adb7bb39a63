"""Word (or phone) graph + lexicon + tree -> decoding graph over pdfs, in the manner of Kaldi's HCLG.

In: a grammar G, a lexicon L (None when G is over phones already), a Tree. Out: a DecodingGraph without epsilons, in which every frame
consumes one arc labelled pdf + 1. All transition probabilities are the same constant, so the graph carries LM and silence costs only.

Route (Mohri, Pereira & Riley 2002): LG composed, determinized and minimized with disambiguation symbols in place; triphone context; each
phone in context spelled as its pdfs; determinized and minimized again; marks and epsilons removed; self-loops added last, when they cost
no determinization time. With a chain tree (LF-MMI) a phone in context has one label until the last step.

Why OpenFst (through kaldifst) and numpy, and k2 only for the search: with 20,000 words and 0.3 million n-grams OpenFst determinizes LG in
2 CPU seconds, k2 in 88, and k2 has no minimization; that of HCLG takes OpenFst 13 to 18, `kdtool.graph.minimize` 1.5. In all 31 s, 0.65 GB.
"""

import ctypes
import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import write_json
from kdtool.formats.tree import CHAIN, CHAIN_SUBSAMPLING, Tree
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.fst import FstArrays, from_kaldifst, to_kaldifst
from kdtool.graph.lexicon_fst import LexiconFst
from kdtool.graph.minimize import minimize


class Clock:
    """Prints how long each part took, the size of its result, and the process's peak memory so far; ``cost`` keeps it."""

    def __init__(self, label: str) -> None:
        self.label, self.last, self.cpu = label, time.monotonic(), time.process_time()
        self.cost: dict[str, dict[str, float]] = {}

    def __call__(self, part: str, states: int, arcs: int) -> None:
        now, cpu = time.monotonic(), time.process_time()
        size = f"{states} states, {arcs} arcs" if arcs >= 0 else f"{states} states"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        self.cost[part] = {"seconds": round(now - self.last, 2), "cpu_seconds": round(cpu - self.cpu, 2), "peak_mb": round(peak)}
        print(f"{self.label}: {part}: {size}, {now - self.last:.1f} s, peak {peak:.0f} MB", file=sys.stderr, flush=True)
        self.last, self.cpu = now, cpu
        _return_memory()

    def write(self, work: Path) -> None:
        """Write time and memory into the log folder: they vary between runs and are no part of the output."""
        (work / "log").mkdir(exist_ok=True)
        write_json(work / "log" / "cost.json", self.cost)


def _return_memory() -> None:
    """Hand freed memory back to the system: glibc keeps the memory of millions of small states, 150 MB of a graph's peak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # other C libraries do it themselves
        trim(0)


def build_graph(
    grammar: FstArrays, lexicon: LexiconFst | None, tree: Tree, words: Sequence[str], clock: Clock | None = None
) -> DecodingGraph:
    """Compile a decoding graph; KdError if nothing is left after composition, or the tree lacks a phone that the lexicon uses.

    grammar: G over word ids (over phone ids when ``lexicon`` is None), not changed; lexicon: L and its disambiguation symbols; tree: pdfs
    by phone context; words: output symbols, index = id, which the graph keeps to spell hypotheses.
    """
    clock = clock or Clock("graph")
    disambig = lexicon.disambig if lexicon else []
    # Intermediate results get no name, so that their memory is freed: a graph may have millions of arcs.
    labels, pdfs, chain = distinct_pdfs(tree)
    spelled = to_kaldifst(spell(*_tied(*_with_context(_compose_lexicon(grammar, lexicon, clock), labels, disambig), labels), labels))
    clock("context, states", spelled.num_states, -1)
    arrays = _determinize(spelled, "HCLG")
    del spelled
    clock("determinize", arrays.num_states, arrays.num_arcs)
    arrays = minimize(arrays)
    clock("minimize", arrays.num_states, arrays.num_arcs)
    arrays.ilabel = np.concatenate([[0], pdfs + 1, np.zeros(len(disambig) + 1)]).astype(np.int32)[arrays.ilabel]
    result = DecodingGraph.from_fst(arrays, tree.num_pdfs, words, chain)
    if chain:
        result.meta["subsampling"] = CHAIN_SUBSAMPLING
    clock("epsilons, self-loops", result.num_states, result.num_arcs)
    return result


def _compose_lexicon(grammar: FstArrays, lexicon: LexiconFst | None, clock: Clock) -> FstArrays:
    """LG: phones in, words out; determinized and minimized."""
    import kaldifst

    clock("G", grammar.num_states, grammar.num_arcs)
    if lexicon is None:
        return grammar
    left, right = to_kaldifst(lexicon.fst), to_kaldifst(grammar)
    kaldifst.arcsort(left, sort_type="olabel")
    kaldifst.arcsort(right, sort_type="ilabel")
    composed = kaldifst.StdVectorFst(kaldifst.compose(left, right))
    if composed.num_states == 0:
        raise KdError("lexicon and LM share no word (LG is empty); make both from the same language folder")
    del left, right
    clock("LG", composed.num_states, -1)
    arrays = minimize(_determinize(composed, "LG"))
    clock("LG determinized", arrays.num_states, arrays.num_arcs)
    return arrays


def _determinize(fst: object, what: str) -> FstArrays:
    """The arrays of a kaldifst transducer after determinization (which changes it)."""
    import kaldifst

    # Marks make every input string unambiguous; without them determinization would run until memory is full.
    if kaldifst.determinize_star(fst, max_states=50_000_000):
        raise KdError(f"{what} has more than 50 million states when determinized; prune the LM or its vocabulary")
    _return_memory()
    return from_kaldifst(fst)


def distinct_pdfs(tree: Tree) -> tuple[Tree, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """A tree in which no two phones share a pdf (for most trees the tree itself), and for each of its pdfs the one of `tree`, int64.
    If phones of different positions in the word share pdfs, "A B" and "AB" may be the same pdf string, and such a transducer
    has no deterministic form. For a chain tree: a tree of one state, whose pdfs are pairs of a phone's first pdf and its loop's, and the
    final labels of these pairs, see ``add_self_loops``.
    """
    chain = tree.topology == CHAIN
    if not (chain or tree.shared):
        return tree, np.arange(tree.num_pdfs), None
    pdfs = tree.pdf_map[..., None, :] if chain else tree.pdf_map[..., None]  # (P, P, P, states, pdfs of a state)
    used = pdfs[..., 0] >= 0
    centre = np.broadcast_to(np.arange(len(pdfs))[:, None, None], used.shape)
    kinds, label = np.unique(np.column_stack([centre[used], pdfs[used]]), axis=0, return_inverse=True)
    table = np.full(used.shape, -1, dtype=np.int32)
    table[used] = label.reshape(-1)
    if not chain:
        return Tree(table), kinds[:, 1], None
    first, loop = (np.concatenate([[0], kinds[:, n] + 1]).astype(np.int32) for n in (1, 2))
    return Tree(table), np.arange(len(kinds)), (first, loop)


def _with_context(fst: FstArrays, tree: Tree, disambig: Sequence[int]) -> tuple[FstArrays, np.ndarray, np.ndarray]:
    """Phones to (left, centre, right) windows.

    Returns the transducer; windows int32 (N, 3) by input label (0: utterance edge); marks int32 (N,): by input label, the rank
    of its disambiguation symbol from 1 on, else 0.
    """
    import kaldifst

    if (tree.pdf_map == tree.pdf_map[:1, :, :1]).all():  # no pdf depends on the neighbouring phones
        size = max(int(fst.ilabel.max()), tree.pdf_map.shape[0] - 1) + 1
        windows = np.zeros((size, 3), dtype=np.int32)
        windows[:, 1] = np.arange(size)
        windows[list(disambig)] = 0
        marks = np.zeros(size, dtype=np.int32)
        marks[list(disambig)] = np.arange(1, len(disambig) + 1)
        return fst, windows, marks
    composed, labels = kaldifst.compose_context(list(disambig), 3, 1, to_kaldifst(fst))
    windows = np.zeros((len(labels), 3), dtype=np.int32)
    marks = np.zeros(len(labels), dtype=np.int32)
    rank = {symbol: n + 1 for n, symbol in enumerate(disambig)}
    for number, window in enumerate(labels):
        if len(window) == 3:
            windows[number] = window
        elif len(window) == 1 and -window[0] in rank:
            marks[number] = rank[-window[0]]
    return from_kaldifst(composed), windows, marks


def _tied(fst: FstArrays, windows: np.ndarray, marks: np.ndarray, tree: Tree) -> tuple[FstArrays, np.ndarray, np.ndarray]:
    """The same with one label for all windows that have the same pdfs; states that become equal are merged."""
    if windows.max() >= tree.pdf_map.shape[0]:
        return fst, windows, marks  # `spell` reports the error
    pdfs = tree.pdf_map[windows[:, 0], windows[:, 1], windows[:, 2]]
    kinds = np.concatenate([pdfs, marks[:, None], windows[:, 1:2]], axis=1)
    _, first, inverse = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    labels = first[inverse.reshape(-1)].astype(np.int32)
    return minimize(dataclasses.replace(fst, ilabel=labels[fst.ilabel])), windows, marks


def spell(fst: FstArrays, windows: np.ndarray, marks: np.ndarray, tree: Tree) -> FstArrays:
    """Replace each context-dependent phone by the chain of its pdf labels (pdf + 1); marks become num_pdfs + rank."""
    window = windows[fst.ilabel]
    is_phone = (window[:, 1] > 0) & (marks[fst.ilabel] == 0)
    if window[is_phone].max(initial=0) >= tree.pdf_map.shape[0]:
        raise KdError(f"phone {window.max()} is not in the tree of {tree.pdf_map.shape[0] - 1} phones; train the GMM on this folder")
    pdfs = tree.pdf_map[window[:, 0], window[:, 1], window[:, 2]]  # (A, S), -1 after a phone's last state
    length = np.where(is_phone, (pdfs >= 0).sum(axis=1), 1)
    if length.min(initial=1) < 1:
        raise KdError(f"phone {window[length < 1][0, 1]} has no pdf in the tree; train the GMM on this language folder")
    head = np.where(is_phone, pdfs[:, 0] + 1, np.where(marks[fst.ilabel] > 0, tree.num_pdfs + marks[fst.ilabel], 0))
    inner = np.cumsum(length - 1) - (length - 1) + fst.num_states  # first inner state of each arc
    src, dst = [fst.src], [np.where(length > 1, inner, fst.dst)]
    label, output, weight = [head], [fst.olabel], [fst.weight]
    for n in range(1, pdfs.shape[1]):
        some = np.flatnonzero(is_phone & (length > n))
        last = length[some] == n + 1
        src.append(inner[some] + n - 1)
        dst.append(np.where(last, fst.dst[some], inner[some] + n))
        label.append(pdfs[some, n] + 1)
        output.append(np.zeros(len(some), dtype=np.int32))
        weight.append(np.zeros(len(some), dtype=np.float32))
    a, b, i, o, w = (np.concatenate(parts) for parts in (src, dst, label, output, weight))
    final = np.concatenate([fst.final, np.full(int((length - 1).sum()), np.inf, dtype=np.float32)])
    return FstArrays.build(a, b, i, o, w, final, fst.start)
