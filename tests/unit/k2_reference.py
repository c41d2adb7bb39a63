"""Best paths with k2's exact intersection: the reference of the search in C++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdtool.graph import k2api
from kdtool.graph.k2api import BestPath


def k2_paths(graphs: Sequence[Any], scores: Sequence[np.ndarray], attr: str) -> list[BestPath | None]:
    """Best path of each utterance through its own Fsa; float32 (T, C) scores as for `make_dense`, in any order of lengths."""
    order = sorted(range(len(scores)), key=lambda i: (-len(scores[i]), i))
    dense = k2api.make_dense([scores[i] for i in order])
    lattice = k2api.intersect_dense(k2api.make_fsa_vec([graphs[i] for i in order]), dense, output_beam=1.0)
    found = dict(zip(order, k2api.best_paths(lattice, dense, attr), strict=True))
    return [found[i] for i in range(len(order))]


def k2_totals(graphs: Sequence[Any], scores: Sequence[np.ndarray], *, log_semiring: bool) -> np.ndarray:
    """Score of all paths together (log_semiring) or of the best one through each Fsa, nats; nothing is pruned."""
    order = sorted(range(len(scores)), key=lambda i: (-len(scores[i]), i))
    dense = k2api.make_dense([scores[i] for i in order])
    lattice = k2api.intersect_dense(k2api.make_fsa_vec([graphs[i] for i in order]), dense, output_beam=1e10)
    totals = np.empty(len(order))
    totals[order] = lattice.get_tot_scores(use_double_scores=True, log_semiring=log_semiring).numpy() + dense.offset
    return totals
