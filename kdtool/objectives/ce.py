"""Cross-entropy against hard labels.

In: logits (N, V), labels (N,) with -1 for 'no target'.  Out: losses (M,) in nats.
"""
import torch.nn.functional as F
from torch import Tensor

from kdtool.objectives.targets import FrameTargets, rows


class CrossEntropy:
    """-log q(label); with ``label_smoothing`` e the target is (1 - e) onehot + e uniform (Szegedy et al. 2016)."""

    uses_posteriors = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing {label_smoothing} is not in [0, 1)")
        self.label_smoothing = label_smoothing

    def has_loss(self, targets: FrameTargets) -> Tensor:
        return targets.labels >= 0

    def __call__(self, logits: Tensor, targets: FrameTargets) -> Tensor:
        mask = self.has_loss(targets)
        return F.cross_entropy(rows(logits, mask), rows(targets.labels, mask), reduction="none",
                               label_smoothing=self.label_smoothing)


class HardLabels(CrossEntropy):
    """Of an auxiliary head: cross-entropy against the alignment's unit, a control without a teacher's knowledge; frames without a unit
    (silence) do not count. With phones it is the 'monophone regularization' of pytorch-kaldi (Ravanelli et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
