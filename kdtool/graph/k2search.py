"""Batched searches by k2.  In: training graphs or a decoding graph, acoustic scores.  Out: best state paths, lattices.

The k2 engine of kdtool/graph/engine.py; all k2 calls go through kdtool/graph/k2api.py.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.graph import k2api
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.search import Beams, Search
from kdtool.graph.training import TrainingGraph

ARC, FRAME = "graph_arc", "frame"
# Arcs of a batch's lattices before the output beam prunes them, 250 bytes each: two gigabytes.
LATTICE_ARCS = 8_000_000


def state_paths(graphs: Sequence[TrainingGraph], scores: Sequence[np.ndarray], device: str) -> list[tuple[np.ndarray, float] | None]:
    """HMM state of each frame and the path's score (nats, in double), per utterance; None without a path.

    k2's lattice holds all paths within one nat of the best one; among those the best in double is taken, with the native search's
    tie-breaking: states that share a pdf make many paths equally good. Utterances are sorted by descending length.
    scores: float32 (T, used pdfs); -inf forbids a pdf on a frame.
    """
    dense = k2api.make_dense([np.pad(np.maximum(one, np.float32(-1e30)), ((0, 0), (1, 0))) for one in scores], device)
    batch = k2api.to_device(k2api.make_fsa_vec([graph.to_fsa({ARC: np.arange(len(graph.src))}) for graph in graphs]), device)
    lattice = k2api.intersect_dense(batch, dense, output_beam=k2api.MIN_OUTPUT_BEAM, frame_name=FRAME)
    paths: list[tuple[np.ndarray, float] | None] = []
    for graph, one, arcs in zip(graphs, scores, lattice_arcs(lattice, k2api.MIN_OUTPUT_BEAM), strict=True):
        paths.append(_best_states(graph, one, arcs) if arcs is not None else None)
    return paths


def _best_states(graph: TrainingGraph, scores: np.ndarray, arcs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, float] | None:
    """The best path of a lattice in float64; ties: the smallest source state in the graph."""
    frame, src, dst, number = arcs
    state = graph.dst[number].astype(np.int64)  # target state in the graph
    order = np.lexsort((graph.src[number], dst, frame))
    frame, src, dst, number, state = (a[order] for a in (frame, src, dst, number, state))
    gain = np.zeros(len(frame)) if graph.score is None else graph.score[number].astype(np.float64)
    acoustic = np.zeros(len(frame))
    inner = np.flatnonzero(frame < len(scores))
    acoustic[inner] = scores[frame[inner], graph.columns()[state[inner] - 1]]
    best = np.full(int(dst.max()) + 1, -np.inf)
    best[0], back = 0.0, np.zeros(len(best), np.int64)
    heads = np.flatnonzero(np.diff(dst, prepend=-1) != 0)  # a state of the lattice belongs to one frame
    first = np.searchsorted(frame, np.arange(len(scores) + 2))
    blocks = np.searchsorted(heads, first)
    for a, b, i, j in zip(first[:-1].tolist(), first[1:].tolist(), blocks[:-1].tolist(), blocks[1:].tolist(), strict=True):
        ways = best[src[a:b]] + gain[a:b]
        into = heads[i:j] - a
        top = np.maximum.reduceat(ways, into)
        winner = np.flatnonzero(ways == np.repeat(top, np.diff([*into, b - a])))[::-1]
        back[dst[a:b][winner]] = winner + a  # written last, so the first one wins
        best[dst[heads[i:j]]] = top + acoustic[heads[i:j]]
    path, at = np.empty(len(scores), np.int32), int(dst[-1])
    if best[at] == -np.inf:
        return None
    total = float(best[at])
    for t in range(len(scores), -1, -1):
        arc = back[at]
        if t < len(scores):
            path[t] = state[arc] - 1
        at = int(src[arc])
    return path, total


def lattice_arcs(lattice: Any, beam: float) -> list[tuple[np.ndarray, ...] | None]:
    """(frame, source, target, arc of the graph) of the arcs within a beam of each utterance's best path, sorted by frame.

    None for an empty lattice.
    """
    counts = k2api.num_arcs(lattice)
    if not any(counts):
        return [None] * len(counts)
    arcs, kept = lattice.arcs.values().cpu().numpy(), k2api.within_beam(lattice, beam)
    frame, number = (getattr(lattice, name).cpu().numpy() for name in (FRAME, ARC))
    result: list[tuple[np.ndarray, ...] | None] = []
    for end, count in zip(np.cumsum(counts), counts, strict=True):
        part = np.flatnonzero(kept[end - count : end]) + end - count
        result.append(_sorted(frame[part], arcs[part], number[part]) if len(part) else None)
    return result


class K2Search(Search):
    """A decoding graph as a k2 Fsa, searched for batches of utterances."""

    def __init__(self, graph: DecodingGraph, beams: Beams, device: str) -> None:
        super().__init__(graph, beams)
        self.device = device
        fsa = k2api.make_fsa(graph.src, graph.dst, graph.label, graph.score, attrs={ARC: np.arange(graph.num_arcs)})
        self._graphs = k2api.to_device(k2api.make_fsa_vec([fsa]), device)
        self._density: dict[int, float] = {}  # factor of the beam -> most arcs per frame of a lattice so far

    def arcs(self, scores: Sequence[np.ndarray], factor: int) -> Iterable[tuple[np.ndarray, ...] | None]:
        """In batches of as many utterances as have LATTICE_ARCS arcs by those searched before, the first one alone."""
        result: list[tuple[np.ndarray, ...] | None] = [None] * len(scores)
        left = sorted(range(len(scores)), key=lambda i: (-len(scores[i]), i))
        while left:
            arcs = np.cumsum([len(scores[i]) for i in left]) * self._density.get(factor, np.inf)
            count = max(1, int(np.searchsorted(arcs, LATTICE_ARCS, side="right")))
            part, left = left[:count], left[count:]
            for i, found in zip(part, self._batch([scores[i] for i in part], factor), strict=True):
                result[i] = found
        return result

    def _batch(self, scores: Sequence[np.ndarray], factor: int) -> list[tuple[np.ndarray, ...] | None]:
        dense = k2api.make_dense([np.pad(one, ((0, 0), (1, 0))) for one in scores], self.device)
        lattice = k2api.intersect_dense(
            self._graphs, dense, output_beam=self.beams.output, search_beam=factor * self.beams.search, frame_name=FRAME,
            min_active=self.beams.min_active, max_active=min(factor**2 * self.beams.max_active, k2api.MOST_STATES),
        )  # fmt: skip
        densest = max(arcs / len(one) for arcs, one in zip(k2api.num_arcs(lattice), scores, strict=True))
        self._density[factor] = max(densest, self._density.get(factor, 0.0))
        return lattice_arcs(lattice, self.beams.output)


def _sorted(frame: np.ndarray, arcs: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, ...]:
    """Arcs in order of their frame, states without gaps; k2 numbers them so that arcs lead upwards."""
    if np.any(arcs[:, 1] <= arcs[:, 0]) or frame.min() != 0:
        raise KdError(f"a lattice of k2 begins at frame {frame.min()}, or an arc of it leads back; this is a bug, please report it")
    order = np.argsort(frame, kind="stable")
    states = np.unique(arcs[:, :2])
    src, dst = (np.searchsorted(states, arcs[order, column]).astype(np.int32) for column in (0, 1))
    return frame[order], src, dst, number[order]
