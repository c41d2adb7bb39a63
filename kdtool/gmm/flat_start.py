"""The first alignment: equal time for each HMM state of the first pronunciations.

In: a training graph, a number of frames. Out: an HMM state for each frame.
"""

import numpy as np

from kdtool.graph.training import TrainingGraph


def equal_path(graph: TrainingGraph, num_frames: int) -> np.ndarray:
    """HMM state of each frame, int32 (T,), on a plain path through `graph` with equal time in each state.

    The path has silence at both ends if there is time for it, and first pronunciations without silence between words.
    """
    final = graph.num_hmm_states + 1
    nexts: dict[int, list[int]] = {}
    for s, d in zip(graph.src.tolist(), graph.dst.tolist(), strict=True):
        if s != d:
            nexts.setdefault(s, []).append(d)

    def word(state: int) -> int:
        return -1 if state in (0, final) else int(graph.word[state - 1])

    path, state = [], 0
    while state != final:
        options = nexts[state]
        if state == 0:
            state = min(options)  # silence has the smallest number
        else:
            spoken = [o for o in options if o != final and word(o) >= 0]
            state = min(spoken) if spoken else min(o for o in options if o != state)
            if state == final:
                break
        path.append(state - 1)
    if len(path) > num_frames:
        path = shortest_states(graph)
    index = (np.arange(num_frames) * len(path)) // num_frames
    return np.array(path, np.int32)[index]


def shortest_states(graph: TrainingGraph) -> list[int]:
    """HMM states of a path with the fewest frames."""
    final = graph.num_hmm_states + 1
    before: dict[int, int] = {0: -1}
    layer = [0]
    arcs: dict[int, list[int]] = {}
    for s, d in zip(graph.src.tolist(), graph.dst.tolist(), strict=True):
        arcs.setdefault(s, []).append(d)
    while final not in before:
        following = []
        for s in layer:
            for d in arcs.get(s, []):
                if d not in before:
                    before[d] = s
                    following.append(d)
        layer = following
    path, state = [], before[final]
    while state > 0:
        path.append(state - 1)
        state = before[state]
    return path[::-1]
