"""Beam search of a decoding graph with k2.

In: a DecodingGraph and an utterance's acoustic scores. Out: a Lattice with acoustic and graph scores apart. The search
adds acoustic / lm_scale + graph score, so beams are in units of the graph's scores (nats of the LM) and the same beam
suits all models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.graph import k2api
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.lattice import Lattice


@dataclass(frozen=True)
class Beams:
    """Width of a search: beams in nats of the graph's scores, states active on a frame."""

    search: float = 15.0
    output: float = 5.0
    max_active: int = 3000
    min_active: int = 30


class Searcher:
    """A decoding graph loaded into k2, to be searched once an utterance."""

    def __init__(self, graph: DecodingGraph, beams: Beams) -> None:
        self.graph, self.beams = graph, beams
        number = np.arange(graph.num_arcs, dtype=np.int32)
        fsa = k2api.make_fsa(graph.src, graph.dst, graph.label, graph.score, {"arc": number})
        self._fsa = k2api.make_fsa_vec([fsa])

    def lattice(
        self, acoustic: np.ndarray, log_prior: np.ndarray | None, *, prior_scale: float, lm_scale: float, silent: np.ndarray
    ) -> Lattice | None:
        """Search one utterance; None when even a beam four times as wide finds no way to the end of the graph.

        Args:
            acoustic: float32 (T, num_pdfs), log-likelihoods or log-posteriors.
            log_prior: float32 (num_pdfs,) or None; ``prior_scale`` times it is subtracted in the search.
            lm_scale: weight of the graph against the acoustic scores.
            silent: bool (words,): words that do not count for a word penalty (silence in a phone graph).
        """
        if acoustic.ndim != 2 or acoustic.shape[1] != self.graph.num_pdfs or not len(acoustic):
            raise KdError(f"scores of shape {acoustic.shape} for a graph with {self.graph.num_pdfs} pdfs; model and graph "
                          "belong to different trees, or the utterance has no frames")  # fmt: skip
        scores = np.empty((len(acoustic), 1 + acoustic.shape[1]), dtype=np.float32)
        scores[:, 0] = 0.0  # epsilon's column, overwritten by make_dense
        scaled = acoustic if log_prior is None else acoustic - prior_scale * log_prior
        np.divide(scaled, lm_scale, out=scores[:, 1:])
        dense = k2api.make_dense([scores])
        for factor in (1, 2, 4):
            found = k2api.intersect_dense(
                self._fsa, dense, output_beam=self.beams.output, search_beam=factor * self.beams.search,
                min_active=self.beams.min_active, max_active=factor**2 * self.beams.max_active, frame_name="frame",
            )  # fmt: skip
            if sum(k2api.num_arcs(found)):
                return self._arrays(found, acoustic, log_prior, silent)
        return None

    def _arrays(self, found: Any, acoustic: np.ndarray, log_prior: np.ndarray | None, silent: np.ndarray) -> Lattice:
        arcs = found.arcs.values().numpy()
        frame, number = found.frame.numpy(), found.arc.numpy()
        order = np.argsort(frame, kind="stable")
        frame, number = frame[order], number[order]
        label = self.graph.label[number]
        within = np.flatnonzero(label > 0)
        parts = np.zeros((len(order), 4))
        parts[within, 0] = acoustic[frame[within], label[within] - 1]
        if log_prior is not None:
            parts[within, 1] = log_prior[label[within] - 1]
        parts[:, 2] = self.graph.score[number]
        words = self.graph.spelling[self.graph.aux[number]]
        parts[:, 3] = ((words > 0) & ~silent[words]).sum(axis=1)
        first = np.searchsorted(frame, np.arange(len(acoustic) + 2))
        return Lattice(arcs[order, 0], arcs[order, 1], words, parts, first, np.where(label > 0, label - 1, -1))
