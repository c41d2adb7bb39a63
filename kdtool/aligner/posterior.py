"""One utterance's alignment with confidence.  In: its graph, its scores.  Out: words and phones with frames and confidence.

The confidence of a word is the mean, over its frames, of the posterior probability that the frame belongs to
this word; of a phone: to this phone of this word. Posteriors come from all paths of the graph (forward-backward on the
exact k2 lattice within `OUTPUT_BEAM` of its best path). All scores are first multiplied by `scale`: neighbouring frames
are correlated, so unscaled posteriors are nearly 0 or 1. The best path does not depend on the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kdtool.graph.training import SILENCE_WORD, TrainingGraph

OUTPUT_BEAM = 15.0  # scaled nats: paths beyond have a probability below 1e-6
# Beams tried in turn, unscaled nats, when the exact lattice does not fit into memory: minutes of speech in one file.
LONG_BEAMS = (300.0, 1000.0, 4000.0)


@dataclass
class Piece:
    """A word or a phone: index or phone id, first frame, frames, confidence, mean log-likelihood per frame (nats).

    `word`: the transcript's word that a phone belongs to, -1 for silence; `states`: frames in each of its HMM states.
    """

    id: int
    start: int
    length: int
    confidence: float
    loglike: float
    word: int = SILENCE_WORD
    states: tuple[int, ...] = ()


@dataclass
class Found:
    """Words, and phones that cover all frames; log-likelihood of the best path in nats (unscaled, all frames)."""

    words: list[Piece]
    phones: list[Piece]
    loglike: float


def align_scores(graph: TrainingGraph, fsa: Any, scores: np.ndarray, scale: float) -> Found | None:
    """Best path and posteriors; None if there is no path.

    fsa: `graph.to_fsa()`; scores: float32 (T, 1 + used pdfs), log-likelihoods in the columns of the graph's labels.
    """
    from kdtool.graph.k2api import EXACT_LIMIT, best_paths, intersect_dense, make_dense, make_fsa_vec, num_arcs, occupancy

    fsa = fsa.clone()
    fsa.scores = fsa.scores * scale
    vec, dense = make_fsa_vec([fsa]), make_dense([scores * np.float32(scale)])
    exact = num_arcs(vec)[0] * len(scores) <= EXACT_LIMIT
    for beam in (None,) if exact else LONG_BEAMS:
        lattice = intersect_dense(
            vec, dense, output_beam=OUTPUT_BEAM, search_beam=None if beam is None else beam * scale, frame_name="frame"
        )
        best = best_paths(lattice, dense, "hmm")[0]
        if best is not None:
            seen = occupancy(lattice, "hmm", "frame")
            own = scores[np.arange(len(scores)), np.searchsorted(graph.used_pdfs(), graph.pdf[best.values]) + 1]
            return pieces(graph, best.values, seen.frame, seen.value, seen.probability, own, best.score / scale)
    return None


def pieces(
    graph: TrainingGraph, path: np.ndarray, frame: np.ndarray, hmm: np.ndarray, prob: np.ndarray, own: np.ndarray, loglike: float
) -> Found:
    """Cut the best path into words and phones.

    path: HMM state of each frame (T,); frame, hmm, prob: occupancies, parallel; own: the path's log-likelihood per frame.
    """
    size = len(path)
    word, phone, instance = graph.word[path], graph.phone[path], graph.instance[path]
    in_word = graph.word[hmm] == word[frame]
    in_phone = in_word & (graph.phone[hmm] == phone[frame])
    word_prob = np.minimum(np.bincount(frame[in_word], prob[in_word], size), 1.0)
    phone_prob = np.minimum(np.bincount(frame[in_phone], prob[in_phone], size), 1.0)
    phones = []
    for a, b in _runs(instance):
        lengths = np.bincount(graph.state[path[a:b]])
        phones.append(Piece(int(phone[a]), a, b - a, float(phone_prob[a:b].mean()), float(own[a:b].mean()), int(word[a]),
                            tuple(int(n) for n in lengths)))  # fmt: skip
    words = [
        Piece(int(word[a]), a, b - a, float(word_prob[a:b].mean()), float(own[a:b].mean()), int(word[a]))
        for a, b in _runs(word)
        if word[a] != SILENCE_WORD
    ]
    return Found(words, phones, loglike)


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """(first, after last) of each run of equal values."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))
