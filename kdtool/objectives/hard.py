"""Hard-label auxiliary head: plain multi-task learning, the control that separates a teacher's knowledge from it.

In: logits (N, V), the unit of each frame (N,) with -1 for 'no target'.  Out: losses (M,) in nats.
Source: the 'monophone regularization' of pytorch-kaldi (Ravanelli et al. 2019) is this with phones.
"""
from __future__ import annotations

from kdtool.objectives.ce import CrossEntropy


class HardLabels(CrossEntropy):
    """Cross-entropy against the unit that the alignment gives; frames without a unit (silence) do not count."""

    def __init__(self) -> None:
        super().__init__()
