"""Label interpolation on the main head: target (1 - lambda) onehot + lambda P_senone.

In: logits (N, V), hard labels, a row of ``Posteriors`` for frames with a teacher.  Out: losses (M,) in nats. Source: LST (Bai et al. 2019,
arXiv 1907.06017), Futami et al. 2020 (arXiv 2008.03822).  This is the cross-entropy with the mixed target, with one bucket for the
teacher's mass that was not kept; frames without a teacher (silence) have plain cross-entropy.
"""
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdtool.objectives.essence import Essence
from kdtool.objectives.soft import tempered
from kdtool.objectives.sparse import truncated_cross_entropy
from kdtool.objectives.targets import FrameTargets, Tempered, rows


class LabelInterpolation(Tempered):
    """(1 - weight) CE(label) + weight CE(P^T); ``weight`` is the papers' lambda; ``temperature`` applies to the teacher only;
    ``essence``: what is kept of a row (``Essence``)."""

    def __init__(
        self, weight: float = 0.1, temperature: float = 1.0, teacher_temperature: float = 1.0, essence: dict[str, Any] | None = None
    ) -> None:
        super().__init__(temperature, teacher_temperature)
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"weight {weight} is not in [0, 1]")
        self.weight, self.essence = weight, Essence.of(essence)

    def has_loss(self, targets: FrameTargets) -> Tensor:
        return targets.labels >= 0

    def __call__(self, logits: Tensor, targets: FrameTargets) -> Tensor:
        unit_row, posteriors = targets.teacher()
        posteriors = self.essence(posteriors)
        labelled = self.has_loss(targets)
        logits, unit_row = rows(logits, labelled), rows(unit_row, labelled)
        hard = F.cross_entropy(logits, rows(targets.labels, labelled), reduction="none")
        mass, rest, _ = tempered(posteriors, logits.shape[1], self.still_to_temper)
        soft = truncated_cross_entropy(logits, unit_row, posteriors.ids, mass, rest)
        taught = unit_row >= 0
        return hard + self.weight * hard.new_zeros(hard.shape).masked_scatter(taught, soft - rows(hard, taught))
