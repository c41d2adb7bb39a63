"""Beam search of a decoding graph: what the engines share, and the one in C++ (``search.cc``), pruned like Kaldi's FasterDecoder.

In: a DecodingGraph and utterances' acoustic scores. Out: Lattices with separate acoustic and graph scores. The search adds acoustic /
lm_scale + graph score, so beams are in units of the graph's scores (nats of the LM) and the same beam fits all models.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.native import NativeSearch
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.lattice import Lattice


@dataclass(frozen=True)
class Beams:
    """Width of a search: beams in nats of the graph's scores, active states per frame."""

    search: float = 15.0
    output: float = 5.0
    max_active: int = 3000
    min_active: int = 30


class Search(ABC):
    """A decoding graph prepared for an engine."""

    def __init__(self, graph: DecodingGraph, beams: Beams) -> None:
        self.graph, self.beams = graph, beams

    def lattices(
        self, acoustic: Sequence[np.ndarray], log_prior: np.ndarray | None, *, prior_scale: float, lm_scale: float, silent: np.ndarray
    ) -> list[Lattice | None]:
        """A lattice per utterance; None if even a beam four times as wide reaches no final state.

        Args:
            acoustic: float32 (T, num_pdfs) each, log-likelihoods or log-posteriors.
            log_prior: float32 (num_pdfs,) or None; ``prior_scale`` times it is subtracted in the search.
            lm_scale: weight of the graph against the acoustic scores.
            silent: bool (words,): words that do not count for a word penalty (silence in a phone graph).
        """
        result: list[Lattice | None] = [None] * len(acoustic)
        for factor in (1, 2, 4):
            left = [i for i, one in enumerate(result) if one is None]
            scores = [scaled_scores(acoustic[i], log_prior, prior_scale, lm_scale, self.graph.num_pdfs) for i in left]
            for i, arcs in zip(left, self.arcs(scores, factor), strict=True):
                if arcs is not None:
                    result[i] = lattice_of(self.graph, arcs, acoustic[i], log_prior, silent)
        return result

    @abstractmethod
    def arcs(self, scores: Sequence[np.ndarray], factor: int) -> Iterable[tuple[np.ndarray, ...] | None]:
        """(frame, source, target, arc of the graph) of each lattice's arcs, sorted by frame; None without a path.

        factor: of the search beam; the limit on active states is widened by its square.
        """


class Searcher(Search):
    """The C++ beam search, one utterance at a time."""

    def __init__(self, graph: DecodingGraph, beams: Beams) -> None:
        super().__init__(graph, beams)
        self._search = NativeSearch(graph.src, graph.dst, graph.label, graph.score, num_pdfs=graph.num_pdfs)

    def arcs(self, scores: Sequence[np.ndarray], factor: int) -> Iterable[tuple[np.ndarray, ...] | None]:
        beams = self.beams
        limits = {"max_active": factor**2 * beams.max_active, "min_active": beams.min_active}
        return (self._search.lattice(one, search_beam=factor * beams.search, output_beam=beams.output, **limits) for one in scores)


def scaled_scores(acoustic: np.ndarray, log_prior: np.ndarray | None, prior_scale: float, lm_scale: float, num_pdfs: int) -> np.ndarray:
    """(acoustic - prior_scale * prior) / lm_scale, float32 (T, num_pdfs); KdError if the shape does not match the graph."""
    if acoustic.ndim != 2 or acoustic.shape[1] != num_pdfs or not len(acoustic):
        raise KdError(f"scores of shape {acoustic.shape} for a graph with {num_pdfs} pdfs; model and graph "
                      "belong to different trees, or the utterance has no frames")  # fmt: skip
    scores = np.empty(acoustic.shape, dtype=np.float32)
    np.divide(acoustic if log_prior is None else acoustic - prior_scale * log_prior, lm_scale, out=scores, casting="same_kind")
    return scores


def lattice_of(
    graph: DecodingGraph, found: tuple[np.ndarray, ...], acoustic: np.ndarray, log_prior: np.ndarray | None, silent: np.ndarray
) -> Lattice:
    """A Lattice with its parts. found: frame, source, target and arc of the graph for each arc, sorted by frame."""
    frame, src, dst, number = found
    label = graph.label[number]
    within = np.flatnonzero(label > 0)
    parts = np.zeros((len(frame), 4))
    parts[within, 0] = acoustic[frame[within], label[within] - 1]
    if log_prior is not None:
        parts[within, 1] = log_prior[label[within] - 1]
    parts[:, 2] = graph.score[number]
    words = graph.spelling[graph.aux[number]]
    parts[:, 3] = ((words > 0) & ~silent[words]).sum(axis=1)
    first = np.searchsorted(frame, np.arange(len(acoustic) + 2))
    return Lattice(src, dst, words, parts, first, np.where(label > 0, label - 1, -1))
