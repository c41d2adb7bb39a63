"""Best path of an utterance through its training graph: exact Viterbi in C++ (``viterbi.cc``).

In: a TrainingGraph, log-likelihoods of the pdfs that occur in it. Out: an HMM state for each frame, the path's score.
"""

import ctypes

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.native import NO_MEMORY, load
from kdtool.graph.training import TrainingGraph

NO_PATH = -1


def viterbi(graph: TrainingGraph, scores: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Best HMM state of each frame, int32 (T,), and the score of that path (nats, `graph.score` included, summed in double).

    Nothing is pruned. Ties, also at the end: the source state with the smallest number wins. None without a path: fewer frames than the
    graph needs, or all paths forbidden. scores: float32 (T, used pdfs), columns as `graph.used_pdfs()`; -inf forbids a pdf on a frame.

    Raises:
        KdError: scores of another type or shape, NaN or +inf in them; arrays that are no graph; too little memory.
    """
    states = graph.num_hmm_states
    weights = np.zeros(len(graph.src), np.float32) if graph.score is None else graph.score
    if not (len(graph.src) == len(graph.dst) == len(weights) > 0) or np.any(np.diff(graph.src) < 0) or not np.all(np.isfinite(weights)):
        raise KdError(f"graph: {len(graph.src)} sources, {len(graph.dst)} targets, {len(weights)} scores; need as many of each, "
                      "sorted sources, finite scores")  # fmt: skip
    if graph.src[0] < 0 or graph.src[-1] > states or graph.dst.min() < 1 or graph.dst.max() > states + 1:
        raise KdError(f"graph: arcs from {graph.src[0]}..{graph.src[-1]} to {graph.dst.min()}..{graph.dst.max()}; there are "
                      f"{states} states between start and end")  # fmt: skip
    columns = graph.columns()
    if scores.dtype != np.float32 or scores.ndim != 2 or scores.shape[1] != columns.max() + 1:
        raise KdError(f"scores of {scores.dtype} {scores.shape}; float32 (frames, {columns.max() + 1}) is needed")
    arrays = [np.ascontiguousarray(a, t) for a, t in ((graph.src, np.int32), (graph.dst, np.int32), (weights, np.float32))]
    path, total = np.empty(len(scores), np.int32), ctypes.c_double()
    result = load().kd_viterbi(
        len(weights), *arrays, states, columns, np.ascontiguousarray(scores), *scores.shape, path, ctypes.byref(total)
    )
    if result == NO_MEMORY:
        raise KdError(f"too little memory to align {len(scores)} frames with {states} states; cut the recording, or run fewer jobs at once")
    if result == NO_PATH:
        return None
    if result < 0:
        raise KdError(f"frame {-2 - result} of the scores holds NaN or +inf; check the model")
    return path, total.value
