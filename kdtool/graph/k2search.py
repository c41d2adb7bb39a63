"""Batched searches by k2.  In: training graphs or a decoding graph, acoustic scores.  Out: best state paths, lattices.

The k2 engine of kdtool/graph/engine.py; what k2 is asked for goes through kdtool/graph/k2api.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.graph import k2api
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.engine import Search
from kdtool.graph.lattice import Lattice
from kdtool.graph.search import Beams, lattice_of, scaled_scores
from kdtool.graph.training import TrainingGraph

ARC, FRAME = "graph_arc", "frame"


def state_paths(graphs: Sequence[TrainingGraph], scores: Sequence[np.ndarray], device: str) -> list[tuple[np.ndarray, float] | None]:
    """HMM state of each frame and the path's score (nats, in double), per utterance; None without a path.

    Utterances come in falling order of length. scores: float32 (T, used pdfs); -inf forbids a pdf on a frame.
    """
    columns = [graph.columns() for graph in graphs]
    dense = k2api.make_dense([np.pad(np.maximum(one, np.float32(-1e30)), ((0, 0), (1, 0))) for one in scores], device)
    fsas = k2api.to_device(k2api.make_fsa_vec([graph.to_fsa() for graph in graphs]), device)
    lattice = k2api.intersect_dense(fsas, dense, output_beam=k2api.MIN_OUTPUT_BEAM)
    found = k2api.best_paths(lattice, dense, "hmm")
    paths: list[tuple[np.ndarray, float] | None] = []
    for graph, one, column, best in zip(graphs, scores, columns, found, strict=True):
        if best is None:
            paths.append(None)
            continue
        own = one[np.arange(len(one)), column[best.values]].astype(np.float64)
        total = float(own.sum()) + _graph_share(graph, best.values)
        paths.append((best.values, total) if np.isfinite(total) else None)
    return paths


def _graph_share(graph: TrainingGraph, path: np.ndarray) -> float:
    """What the graph's scores add to a path, nats: the best of parallel arcs, as in the search."""
    if graph.score is None:
        return 0.0
    states = np.concatenate([[0], path + 1, [graph.num_hmm_states + 1]]).astype(np.int64)
    size = graph.num_hmm_states + 2
    arcs = graph.src.astype(np.int64) * size + graph.dst
    order = np.lexsort((-graph.score, arcs))
    keys, first = np.unique(arcs[order], return_index=True)
    wanted = states[:-1] * size + states[1:]
    return float(graph.score[order][first[np.searchsorted(keys, wanted)]].astype(np.float64).sum())


class K2Search(Search):
    """A decoding graph as a k2 Fsa, searched for batches of utterances."""

    def __init__(self, graph: DecodingGraph, beams: Beams, device: str) -> None:
        self.graph, self.beams, self.device = graph, beams, device
        fsa = k2api.make_fsa(graph.src, graph.dst, graph.label, graph.score, attrs={ARC: np.arange(graph.num_arcs, dtype=np.int32)})
        self._graphs = k2api.to_device(k2api.make_fsa_vec([fsa]), device)

    def lattices(
        self, acoustic: Sequence[np.ndarray], log_prior: np.ndarray | None, *, prior_scale: float, lm_scale: float, silent: np.ndarray
    ) -> list[Lattice | None]:
        """As ``Searcher.lattice``, for several utterances at once; None where even four times the beam finds no way to the end."""
        result: list[Lattice | None] = [None] * len(acoustic)
        left = sorted(range(len(acoustic)), key=lambda i: (-len(acoustic[i]), i))
        for factor in (1, 2, 4):
            if not left:
                break
            scores = [scaled_scores(acoustic[i], log_prior, prior_scale, lm_scale, self.graph.num_pdfs) for i in left]
            for i, arcs in zip(left, self._search(scores, factor), strict=True):
                if arcs is not None:
                    result[i] = lattice_of(self.graph, arcs, acoustic[i], log_prior, silent)
            left = [i for i in left if result[i] is None]
        return result

    def _search(self, scores: Sequence[np.ndarray], factor: int) -> list[tuple[np.ndarray, ...] | None]:
        """(frame, source, target, arc of the graph) of each lattice's arcs, sorted by frame; None for an empty one."""
        dense = k2api.make_dense([np.pad(one, ((0, 0), (1, 0))) for one in scores], self.device)
        lattice = k2api.intersect_dense(
            self._graphs, dense, output_beam=self.beams.output, search_beam=factor * self.beams.search, frame_name=FRAME,
            min_active=self.beams.min_active, max_active=factor**2 * self.beams.max_active,
        )  # fmt: skip
        counts = k2api.num_arcs(lattice)
        arcs = lattice.arcs.values().cpu().numpy()
        frame, number = (getattr(lattice, name).cpu().numpy() for name in (FRAME, ARC))
        result: list[tuple[np.ndarray, ...] | None] = []
        for one, end, count in zip(scores, np.cumsum(counts), counts, strict=True):
            part = slice(end - count, end)
            result.append(_sorted(frame[part], arcs[part], number[part], len(one)) if count else None)
        return result


def _sorted(frame: np.ndarray, arcs: np.ndarray, number: np.ndarray, frames: int) -> tuple[np.ndarray, ...]:
    """Arcs in order of their frame; the states in k2's lattices are numbered so that arcs lead upwards."""
    if np.any(arcs[:, 1] <= arcs[:, 0]) or frame.min() != 0 or frame.max() != frames:
        raise KdError(f"k2's lattice of {frames} frames has frames {frame.min()} to {frame.max()}, or an arc that leads back; "
                      "this is a bug, please report it")  # fmt: skip
    order = np.argsort(frame, kind="stable")
    values: list[Any] = [frame[order], arcs[order, 0], arcs[order, 1], number[order]]
    return tuple(values)
