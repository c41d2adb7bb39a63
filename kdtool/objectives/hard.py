"""Hard-label auxiliary head: plain multi-task learning, the control without a teacher's knowledge.

In: logits (N, V), the unit of each frame (N,) with -1 for 'no target'.  Out: losses (M,) in nats.
Source: the 'monophone regularization' of pytorch-kaldi (Ravanelli et al. 2019) is this with phones.
"""
from __future__ import annotations

from kdtool.objectives.ce import CrossEntropy


class HardLabels(CrossEntropy):
    """Cross-entropy against the alignment's unit; frames without a unit (silence) do not count."""

    def __init__(self) -> None:
        super().__init__()
