"""The first alignment: equal time for each HMM state of the first pronunciations.

In: a training graph, a number of frames. Out: an HMM state for each frame.
"""

from collections import defaultdict

import numpy as np

from kdtool.graph.training import TrainingGraph


def equal_path(graph: TrainingGraph, num_frames: int) -> np.ndarray:
    """HMM state of each frame, int32 (T,), on a plain path through `graph` with equal time in each state.

    The path has silence at both ends if there is time for it, and first pronunciations without silence between words.
    """
    final, arcs = graph.num_hmm_states + 1, _arcs(graph)
    path, state = [], min(arcs[0])  # silence has the smallest number
    while state != final:
        path.append(state - 1)
        spoken = [s for s in arcs[state] if s != final and graph.word[s - 1] >= 0]
        state = min(spoken or arcs[state])
    if len(path) > num_frames:
        path = shortest_states(graph)
    return np.array(path, np.int32)[np.arange(num_frames) * len(path) // num_frames]


def shortest_states(graph: TrainingGraph) -> list[int]:
    """HMM states of a path with the fewest frames."""
    arcs, before, queue = _arcs(graph), {0: 0}, [0]
    for state in queue:  # grows
        for following in arcs[state]:
            if following not in before:
                before[following] = state
                queue.append(following)
    path, state = [], before[graph.num_hmm_states + 1]
    while state > 0:
        path.append(state - 1)
        state = before[state]
    return path[::-1]


def _arcs(graph: TrainingGraph) -> dict[int, list[int]]:
    """The other states that each state leads to."""
    arcs: dict[int, list[int]] = defaultdict(list)
    for source, target in zip(graph.src.tolist(), graph.dst.tolist(), strict=True):
        if source != target:
            arcs[source].append(target)
    return arcs
