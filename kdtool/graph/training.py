"""Training graphs: all pronunciations of one transcript as HMM states.

In: words, the lexicon's pronunciations and their probabilities if given, the tree. Out: a ``TrainingGraph``. Pronunciation variants are
alternatives; silence is allowed between words and at both edges. Context is expanded on the phone graph, so each variant and each optional
silence gives its neighbours their right context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.tree import HMM, Tree
from kdtool.lang.probs import LexiconProbs, PronProbs

SILENCE_WORD = -1
# Scores of neighbouring frames are not independent: relative to a lexicon's probabilities, acoustic scores
# count ten times too much (Kaldi aligns at an acoustic scale of 0.1).
PROB_SCALE = 10.0


@dataclass
class TrainingGraph:
    """One transcript's HMM. H states; arcs sorted by source; arc states are 0 = start, 1 + h = HMM state h, H + 1 = final.

    All arcs into HMM state h carry its pdf, so an arc's target says everything about the frame it consumes:
    ``pdf``, ``state`` (0 is a phone's first), ``phone``, ``instance`` (which phone in context, rising along a path),
    ``word`` (index into the transcript, -1 for silence), int32 (H,) each; ``src``, ``dst`` int32 (A,).
    ``min_frames``: length of the shortest path. ``score`` float32 (A,): cost of pronunciation and silence on a path
    (nats, scaled); None if no probabilities are known.
    """

    pdf: np.ndarray
    state: np.ndarray
    phone: np.ndarray
    instance: np.ndarray
    word: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    min_frames: int
    score: np.ndarray | None = None

    @property
    def num_hmm_states(self) -> int:
        return len(self.pdf)

    def used_pdfs(self) -> np.ndarray:
        """The pdfs that occur, sorted: only these need scores."""
        return np.unique(self.pdf)

    def columns(self) -> np.ndarray:
        """Position of each HMM state's pdf in ``used_pdfs()``, int32 (H,)."""
        return np.searchsorted(self.used_pdfs(), self.pdf).astype(np.int32)

    def to_fsa(self, attrs: Mapping[str, np.ndarray] | None = None) -> Any:
        """k2 Fsa: labels 1 + position in ``used_pdfs()``, -1 on final arcs; attrs: values per arc, else ``hmm``, the target's state."""
        from kdtool.graph.k2api import make_fsa

        label = np.concatenate([[0], self.columns() + 1, [-1]]).astype(np.int32)
        return make_fsa(self.src, self.dst, label[self.dst], self.score, attrs or {"hmm": self.dst - 1})


class Words(NamedTuple):
    """The graph's view of a language: word -> pronunciations (phone ids), the silence phone, the word that replaces
    unknown ones, and probabilities or None."""

    prons: Mapping[str, Sequence[tuple[int, ...]]]
    sil: int
    oov: str
    probs: LexiconProbs | None = None


class GraphBuilder:
    """Makes training graphs for one lexicon and one tree. prob_scale: weight of the lexicon's probabilities."""

    def __init__(self, words: Words, tree: Tree, prob_scale: float = PROB_SCALE) -> None:
        self.prons, self.sil, self.oov, self.probs = prons, sil, oov, _ = words
        self.tree, self.prob_scale = tree, prob_scale
        if oov not in prons:
            raise KdError(f"the lexicon has no pronunciation of {oov}, which stands for unknown words; add one")
        if tree.topology != HMM:
            raise KdError(f"a tree of topology {tree.topology} has no HMMs to align with; take the folder of a GMM")
        highest = max(max(p) for ps in prons.values() for p in ps)
        if max(highest, sil) >= tree.pdf_map.shape[0] or min(tree.num_states[1:]) < 1:
            raise KdError(f"the lexicon uses phone {highest}, the tree covers {tree.pdf_map.shape[0] - 1} phones: "
                          "they were made from different phone sets; train the model again with this lexicon")  # fmt: skip
        self._left, self._right = _context_classes(tree)

    def known_words(self, text: str) -> tuple[list[str], int]:
        """The transcript's words, unknown ones replaced by the unknown word, and how many were unknown."""
        words = text.split()
        unknown = sum(w not in self.prons for w in words)
        return [w if w in self.prons else self.oov for w in words], unknown

    def build(self, words: Sequence[str]) -> TrainingGraph:
        """Graph of known words (an empty transcript is one silence)."""
        nodes = _phone_graph([self.prons[w] for w in words], self.sil)
        graph, src, dst = self._expand(nodes)
        if self.probs:
            ways = [self.probs.of(w, tuple(pron)) for w in words for pron in self.prons[w]]
            enter, leave = nodes.scores(ways, self.probs)
            silent = np.array([*(w == SILENCE_WORD for w in nodes.word), False]).astype(np.int64)
            between = src != dst
            score = np.where(between, leave[src, silent[dst]] + enter[dst, silent[src]], 0.0)
            graph.score = (self.prob_scale * score).astype(np.float32)
        return graph

    def _expand(self, nodes: "_PhoneGraph") -> tuple[TrainingGraph, np.ndarray, np.ndarray]:
        """Phones to phones in context to HMM states. Also returns each arc's source and target node (-1: start, end)."""
        left, right, phone = self._left, self._right, nodes.phone
        instances: list[tuple[int, int, int]] = []  # node, a left and a right neighbour that represent their classes
        by_left: list[dict[int, list[int]]] = []  # node -> left class -> instances
        for n, c in enumerate(phone):
            lefts = sorted({int(left[c, phone[p] if p >= 0 else 0]) for p in nodes.preds[n]})
            rights = sorted({int(right[c, phone[s] if s >= 0 else 0]) for s in nodes.succs[n]})
            groups: dict[int, list[int]] = {x: [] for x in lefts}
            for x in lefts:
                for y in rights:
                    groups[x].append(len(instances))
                    instances.append((n, x, y))
            by_left.append(groups)
        links = []
        for i, (n, _, y) in enumerate(instances):
            c = phone[n]
            for s in nodes.succs[n]:
                if right[c, phone[s] if s >= 0 else 0] != y:
                    continue
                if s < 0:
                    links.append((i, -1))
                else:
                    links.extend((i, j) for j in by_left[s][int(left[phone[s], c])])
        starts = [i for n in nodes.starts for i in by_left[n][int(left[phone[n], 0])]]
        return self._states(nodes, np.array(instances, np.int64), np.array(links, np.int64), np.array(starts, np.int64))

    def _states(
        self, nodes: "_PhoneGraph", inst: np.ndarray, links: np.ndarray, starts: np.ndarray
    ) -> tuple[TrainingGraph, np.ndarray, np.ndarray]:
        """HMM states of each phone in context: self-loop, next state, next phone."""
        phone = np.array(nodes.phone, np.int64)[inst[:, 0]]
        counts = self.tree.num_states[phone].astype(np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])
        total = int(first[-1])
        owner = np.repeat(np.arange(len(inst)), counts)
        state = np.arange(total) - first[owner]
        pdf = self.tree.pdf_map[inst[owner, 1], phone[owner], inst[owner, 2], state]
        inner = np.flatnonzero(state < counts[owner] - 1)
        target = np.where(links[:, 1] < 0, total, first[links[:, 1]])
        src = np.concatenate([np.full(len(starts), -1), np.arange(total), inner, first[links[:, 0] + 1] - 1])
        dst = np.concatenate([first[starts], np.arange(total), inner + 1, target])
        order = np.lexsort((dst, src))
        node = np.append(inst[owner, 0], -1)  # after the last state: the end; before the first: the start
        graph = TrainingGraph(
            pdf=pdf.astype(np.int32),
            state=state.astype(np.int32),
            phone=phone[owner].astype(np.int32),
            instance=owner.astype(np.int32),
            word=np.array(nodes.word, np.int32)[inst[owner, 0]],
            src=(src[order] + 1).astype(np.int32),
            dst=(dst[order] + 1).astype(np.int32),
            min_frames=self._min_frames(nodes),
        )
        return graph, node[src[order]], node[dst[order]]

    def _min_frames(self, nodes: "_PhoneGraph") -> int:
        best: list[int] = []
        for n, c in enumerate(nodes.phone):
            before = min(0 if p < 0 else best[p] for p in nodes.preds[n])
            best.append(before + int(self.tree.num_states[c]))
        return min(best[n] for n, succs in enumerate(nodes.succs) if -1 in succs)


@dataclass
class _PhoneGraph:
    """Phones as nodes in topological order; -1 among predecessors is the start, among successors the end.

    ``edges``: first and last node of each word's pronunciations, in their order.
    """

    phone: list[int]
    word: list[int]
    preds: list[list[int]]
    succs: list[list[int]]
    starts: list[int]
    edges: list[tuple[int, int]] = field(default_factory=list)

    def scores(self, ways: Sequence[PronProbs], probs: LexiconProbs) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities of entering each node (from speech, from silence) and of leaving it (to either), (N + 1, 2).

        ways: pronunciation for each of ``edges``. The last row is leaving the start and entering the end.
        """
        enter, leave = np.zeros((len(self.phone) + 1, 2)), np.zeros((len(self.phone) + 1, 2))
        for (first, last), way in zip(self.edges, ways, strict=True):
            enter[first] = way.enter(False), way.enter(True)
            leave[last] = way.leave(False), way.leave(True)
        enter[-1] = probs.end.enter(False), probs.end.enter(True)
        leave[-1] = probs.begin.leave(False), probs.begin.leave(True)
        return enter, leave


def _phone_graph(prons: Sequence[Sequence[tuple[int, ...]]], sil: int) -> _PhoneGraph:
    graph = _PhoneGraph([], [], [], [], [])

    def add(phone: int, word: int, preds: list[int]) -> int:
        node = len(graph.phone)
        graph.phone.append(phone)
        graph.word.append(word)
        graph.preds.append(list(preds))
        graph.succs.append([])
        for p in preds:
            (graph.succs[p] if p >= 0 else graph.starts).append(node)
        return node

    frontier = [-1]
    frontier = [-1, add(sil, SILENCE_WORD, frontier)] if prons else [add(sil, SILENCE_WORD, frontier)]
    for index, variants in enumerate(prons):
        ends = []
        for variant in variants:
            preds, first = frontier, len(graph.phone)
            for phone in variant:
                preds = [add(phone, index, preds)]
            graph.edges.append((first, preds[0]))
            ends.extend(preds)
        frontier = [*ends, add(sil, SILENCE_WORD, ends)]
    for node in frontier:
        graph.succs[node].append(-1)
    return graph


def _context_classes(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Left and right class, int64 (P, P), of [centre, neighbour]: the smallest neighbour that leads to the same pdfs.

    They keep graphs small: a monophone tree needs one copy of a phone, whatever its neighbours.
    """
    size = tree.pdf_map.shape[0]
    left, right = np.zeros((size, size), np.int64), np.zeros((size, size), np.int64)
    for centre in range(1, size):
        table = tree.pdf_map[:, centre]
        for out, rows in ((left, table.reshape(size, -1)), (right, table.transpose(1, 0, 2).reshape(size, -1))):
            _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
            out[centre] = first[inverse.reshape(-1)]
    return left, right
