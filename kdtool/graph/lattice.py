"""Lattices as arrays: the result of a search, with separate cost parts.

In: arcs by frame with their acoustic score, log-prior, graph score and output. Out: the best path for many combinations
of scales at once, and n-best lists of distinct word sequences. Changing a scale needs no second search. Plain numpy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Columns of Lattice.parts, and of the weights that combine them.
ACOUSTIC, PRIOR, GRAPH, COUNT = range(4)
BLOCK = 1024  # arcs compared at a time: with many weights they stay in the processor's cache


@dataclass
class Lattice:
    """Arcs sorted by frame; states are numbered so that arcs lead to higher numbers, 0 is the start, the largest the end.

    ``src, dst`` int32 (A,); ``words`` int32 (A, M) outputs in order, padded with 0; ``parts`` float64 (A, 4):
    acoustic log-likelihood (or log-posterior), log-prior, graph score and number of words, unweighted; ``first``
    int64 (F + 1,): index of each frame's first arc (the frame after the last holds the final arcs); ``pdf`` int32 (A,):
    the pdf that scored an arc, -1 on final arcs.
    """

    src: np.ndarray
    dst: np.ndarray
    words: np.ndarray
    parts: np.ndarray
    first: np.ndarray
    pdf: np.ndarray

    @property
    def num_states(self) -> int:
        return int(self.dst.max(initial=-1)) + 1

    def to_k2(self, prior_scale: float, lm_scale: float) -> Any:
        """A k2 Fsa as k2's pruned intersection makes it: labels pdf + 1 (-1 on final arcs), ragged ``aux_labels`` (word ids).

        ``lm_scores`` are the graph's, nats; ``scores`` the same plus (acoustic - prior_scale * prior) / lm_scale.
        """
        from kdtool.graph.k2api import make_fsa, with_words

        order = np.argsort(self.src, kind="stable")
        parts = self.parts[order]
        score = parts @ scale_weights(prior_scale, lm_scale) / lm_scale
        label = np.where(self.pdf < 0, -1, self.pdf + 1)[order]
        return with_words(make_fsa(self.src[order], self.dst[order], label, score), self.words[order], parts[:, GRAPH])


@dataclass
class Path:
    """A path's outputs in order and the sums of its parts (4,)."""

    words: tuple[int, ...]
    parts: np.ndarray


def scale_weights(prior_scale: float, lm_scale: float, penalty: float = 0.0) -> np.ndarray:
    """Weights (4,) such that parts @ weights = acoustic - prior_scale * prior + lm_scale * graph + penalty * words."""
    return np.array([1.0, -prior_scale, lm_scale, penalty])


def pdf_posteriors(lattice: Lattice, weights: np.ndarray, prune: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, pdf and posterior of each pdf in each frame, over all paths: int64, int32, float64, (N,) each, sorted by frame.

    A path's probability is exp(sum of parts @ weights), normalised over the lattice: the weights make the scores nats. Posteriors
    below ``prune`` are dropped, and the rest of the frame is scaled to sum to 1.
    """
    score = lattice.parts @ weights
    forward = np.full(lattice.num_states, -np.inf)
    backward = np.full(lattice.num_states, -np.inf)
    forward[0] = backward[-1] = 0.0
    spans = [(a, b) for a, b in zip(lattice.first[:-1], lattice.first[1:], strict=True) if a < b]
    for a, b in spans:
        np.logaddexp.at(forward, lattice.dst[a:b], forward[lattice.src[a:b]] + score[a:b])
    for a, b in reversed(spans):
        np.logaddexp.at(backward, lattice.src[a:b], score[a:b] + backward[lattice.dst[a:b]])
    post = np.exp(forward[lattice.src] + score + backward[lattice.dst] - forward[-1])
    frame = np.repeat(np.arange(len(lattice.first) - 1), np.diff(lattice.first))
    spoken = np.flatnonzero(lattice.pdf >= 0)
    pairs, where = np.unique(np.stack([frame[spoken], lattice.pdf[spoken]]), axis=1, return_inverse=True)
    mass = np.bincount(where.reshape(-1), weights=post[spoken])
    keep = mass >= prune
    frames, pdfs, mass = pairs[0][keep], pairs[1][keep], mass[keep]
    total = np.bincount(frames, weights=mass)
    return frames, pdfs, mass / total[frames]


def best_paths(lattice: Lattice, weights: np.ndarray) -> list[Path]:
    """The best path under each row of ``weights`` (G, 4)."""
    return [_path(lattice, arcs) for arcs in best_arcs(lattice, weights)]


def best_arcs(lattice: Lattice, weights: np.ndarray) -> list[list[int]]:
    """The arcs of the best path under each row of ``weights`` (G, 4), one per frame and a final one: one Viterbi pass for all rows."""
    rows = len(weights)
    best = np.full((lattice.num_states, rows), -np.inf)
    best[0] = 0.0
    frame = np.repeat(np.arange(len(lattice.first) - 1), np.diff(lattice.first))
    order = np.lexsort((lattice.dst, frame))
    src, dst = lattice.src[order], lattice.dst[order]
    total = lattice.parts[order] @ weights.T  # (A, G): an arc's score, then that of the best path through it
    heads = np.flatnonzero((np.diff(dst, prepend=-1) != 0) | (np.diff(frame, prepend=-1) != 0))  # first arc into each state
    ends = np.searchsorted(heads, lattice.first)
    # Keep the loop small: it runs for every frame of every utterance.
    for a, b, i, j in zip(lattice.first[:-1].tolist(), lattice.first[1:].tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if a < b:
            total[a:b] += best[src[a:b]]
            best[dst[heads[i:j]]] = np.maximum.reduceat(total[a:b], heads[i:j] - a, axis=0)
    back = np.zeros((lattice.num_states, rows), dtype=np.int64)
    # Last arc that reaches the maximum, by writing arcs in order: ties are broken the same way each time.
    for a in range(0, len(dst), BLOCK):
        row, column = np.nonzero(total[a : a + BLOCK] == best[dst[a : a + BLOCK]])
        back[dst[a + row], column] = order[a + row]
    return [_trace(lattice, back[:, g]) for g in range(rows)]


def _trace(lattice: Lattice, back: np.ndarray) -> list[int]:
    arcs: list[int] = []
    state = lattice.num_states - 1
    while state:
        arcs.append(int(back[state]))
        state = int(lattice.src[arcs[-1]])
    arcs.reverse()
    return arcs


def _path(lattice: Lattice, arcs: list[int]) -> Path:
    words = lattice.words[arcs].reshape(-1)
    return Path(tuple(words[words > 0].tolist()), lattice.parts[arcs].sum(axis=0))


def _completions(lattice: Lattice, score: np.ndarray) -> np.ndarray:
    """Score of the best path from each state to the end, float64 (S,)."""
    rest = np.full(lattice.num_states, -np.inf)
    rest[-1] = 0.0
    for a, b in zip(lattice.first[-2::-1], lattice.first[:0:-1], strict=True):
        if a < b:
            np.maximum.at(rest, lattice.src[a:b], score[a:b] + rest[lattice.dst[a:b]])
    return rest


def nbest(lattice: Lattice, weights: np.ndarray, *, count: int, max_tokens: int = 200) -> list[Path]:
    """Up to ``count`` best distinct output sequences under ``weights`` (4,), each with its best alignment.

    Token passing over frames; a token is (state, outputs so far) and only the best alignment of each is kept. Tokens
    are ranked by the score of their best full path, which is known exactly from a backward pass, so the list is exact
    as long as no frame has more than ``max_tokens`` relevant tokens.
    """
    score = lattice.parts @ weights
    rest = _completions(lattice, score)
    order = np.argsort(lattice.src, kind="stable")
    leaving = np.bincount(lattice.src, minlength=lattice.num_states)
    first = np.cumsum(leaving) - leaving
    state = np.zeros(1, dtype=np.int64)
    history = np.zeros(1, dtype=np.int64)
    parts = np.zeros((1, 4))
    histories = _Histories(int(lattice.words.max(initial=0)) + 1)
    for _ in range(len(lattice.first) - 1):
        size = leaving[state]
        token = np.repeat(np.arange(len(state)), size)
        arc = order[np.arange(len(token)) - np.repeat(np.cumsum(size) - size, size) + first[state][token]]
        history = histories.extend(history[token], lattice.words[arc])
        parts = parts[token] + lattice.parts[arc]
        state = lattice.dst[arc].astype(np.int64)
        value = parts @ weights + rest[state]
        ranked = np.lexsort((-value, history, state))
        new = np.ones(len(ranked), dtype=bool)
        new[1:] = (np.diff(state[ranked]) != 0) | (np.diff(history[ranked]) != 0)
        keep = ranked[new]
        keep = keep[np.argsort(-value[keep], kind="stable")[:max_tokens]]
        state, history, parts = state[keep], history[keep], parts[keep]
    return [Path(histories.spell(int(h)), p) for h, p in zip(history[:count], parts[:count], strict=True)]


class _Histories:
    """Output sequences as numbers: 0 is the empty one, every other one a shorter sequence plus an output."""

    def __init__(self, span: int) -> None:
        self.span = span
        self.pairs = [0]
        self.numbers: dict[int, int] = {}

    def extend(self, history: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Numbers of the sequences history[i] + words[i]; words is (N, M), zeros add nothing."""
        grown = history.copy()
        for column in words.T:
            some = np.flatnonzero(column)
            if not len(some):
                continue
            pairs, inverse = np.unique(grown[some] * self.span + column[some], return_inverse=True)
            grown[some] = np.array([self._number(p) for p in pairs.tolist()])[inverse.reshape(-1)]
        return grown

    def _number(self, pair: int) -> int:
        if pair not in self.numbers:
            self.numbers[pair] = len(self.pairs)
            self.pairs.append(pair)
        return self.numbers[pair]

    def spell(self, number: int) -> tuple[int, ...]:
        """The sequence of a number."""
        words = []
        while number:
            number, word = divmod(self.pairs[number], self.span)
            words.append(word)
        return tuple(reversed(words))
