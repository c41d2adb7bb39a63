"""One utterance's alignment with confidence.  In: its graph, its scores.  Out: words and phones with frames and confidence.

The confidence of a word is the mean, over its frames, of the posterior probability that the frame belongs to
this word; of a phone: to this phone of this word. Posteriors come from all paths of the graph (forward-backward on the
exact k2 lattice within `OUTPUT_BEAM` of its best path). All scores are first multiplied by `scale`: neighbouring frames
are correlated, so unscaled posteriors are nearly 0 or 1. The best path does not depend on the scale.
"""

from collections.abc import Sequence
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
class BestPath:
    """Words, and phones that cover all frames; log-likelihood of the best path in nats (unscaled, all frames)."""

    words: list[Piece]
    phones: list[Piece]
    loglike: float


def align_scores(graph: TrainingGraph, fsa: Any, scores: np.ndarray, scale: float) -> BestPath | None:
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
            own = scores[np.arange(len(scores)), np.searchsorted(graph.used_pdfs(), graph.pdf[best.values]) + 1]
            return BestPath(*_pieces(graph, best.values, own, occupancy(lattice, "hmm", "frame")), best.score / scale)
    return None


def _pieces(graph: TrainingGraph, path: np.ndarray, own: np.ndarray, seen: Sequence[np.ndarray]) -> tuple[list[Piece], list[Piece]]:
    """The words and phones of the best path; path: HMM state per frame (T,); own: its log-likelihood; seen: as of ``occupancy``."""
    frame, hmm, posterior = seen
    word, phone = graph.word[path], graph.phone[path]
    in_word = graph.word[hmm] == word[frame]
    in_phone = in_word & (graph.phone[hmm] == phone[frame])
    word_prob, phone_prob = (np.minimum(np.bincount(frame[i], posterior[i], len(path)), 1.0) for i in (in_word, in_phone))

    def piece(number: int, a: int, b: int, prob: np.ndarray, states: Sequence[int] = ()) -> Piece:
        return Piece(number, a, b - a, float(prob[a:b].mean()), float(own[a:b].mean()), int(word[a]), tuple(int(n) for n in states))

    words = [piece(int(word[a]), a, b, word_prob) for a, b in _runs(word) if word[a] != SILENCE_WORD]
    return words, [piece(int(phone[a]), a, b, phone_prob, np.bincount(graph.state[path[a:b]])) for a, b in _runs(graph.instance[path])]


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """(first, after last) of each run of equal values."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))
