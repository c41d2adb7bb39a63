"""Converts a Viterbi path to an alignment.

In: a training graph, the HMM state of each frame, the transcript. Out: an ``Alignment``.
"""

from collections.abc import Sequence

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.alignment import Alignment
from kdtool.graph.training import TrainingGraph


def to_alignment(utterance: str, graph: TrainingGraph, states: np.ndarray, words: Sequence[str]) -> Alignment:
    """states: HMM state of each frame (T,); words: the transcript as written (unknown words keep their spelling).

    Raises:
        KdError: the path does not hold each word once, in order.
    """
    instance, word = graph.instance[states], graph.word[states]
    phone_start = np.flatnonzero(np.concatenate([[True], instance[1:] != instance[:-1]])).astype(np.int32)
    starts = np.flatnonzero(np.concatenate([[True], word[1:] != word[:-1]]))
    lengths = np.diff(starts, append=len(word))
    spans = [(int(word[s]), int(s), int(n)) for s, n in zip(starts, lengths, strict=True) if word[s] >= 0]
    if [index for index, _, _ in spans] != list(range(len(words))):
        raise KdError(f"{utterance}: the alignment speaks words {[i for i, _, _ in spans][:5]}.. of {len(words)}; graph and path differ")
    return Alignment(
        id=utterance,
        pdf=graph.pdf[states].astype(np.int32),
        state=graph.state[states].astype(np.int16),
        phone=graph.phone[states].astype(np.int16),
        phone_start=phone_start,
        words=[(words[index], start, length) for index, start, length in spans],
    )
