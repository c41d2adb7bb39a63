"""Soft auxiliary head: KL(P^T || Q^T) * T^2 from a teacher's truncated distribution (Hinton et al. 2015).

In: logits (N, V), a row of ``Posteriors`` for each frame.  Out: losses (M,) in nats.

Only the K kept entries of a unit are known individually; the others are one bucket.  The divergence is taken between the K + 1 masses:
never above the dense one, and equal to it at K = V.  With T != 1 the bucket's mass under P^T depends on how the rest is spread: evenly
over the V - K entries (maximum entropy). The student is always tempered over all V outputs.
"""
import math
from typing import Any

import torch
from torch import Tensor

from kdtool.objectives.essence import Essence
from kdtool.objectives.sparse import truncated_cross_entropy
from kdtool.objectives.targets import FrameTargets, Posteriors, Tempered, rows


def tempered(posteriors: Posteriors, num_units: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Masses of the teacher's P^(1 / temperature): kept (U, K), rest (U,), and the entropy (U,) of the K + 1 in nats.

    Each row sums to one.  If every unit is kept, the bucket is empty and the kept entries are normalised.
    """
    left = (posteriors.logp == -torch.inf).sum(1) + (num_units - posteriors.logp.shape[1])  # units that were not kept
    rest = posteriors.rest_logp
    if temperature != 1.0:
        spread = left.to(rest.dtype).clamp_(min=1.0).log_()
        rest = spread + (rest - spread) / temperature
    rest = rest.masked_fill(left == 0, -torch.inf)
    kept = posteriors.logp if temperature == 1.0 else posteriors.logp / temperature
    masses = torch.softmax(torch.cat([kept, rest[:, None]], dim=1), dim=1)
    return masses[:, :-1], masses[:, -1], torch.special.entr(masses).sum(1)


class SoftLabels(Tempered):
    """KL from the teacher's to the head's distribution at ``temperature``, scaled by its square, which keeps the gradient's size.

    ``entropy_scale`` 0 < s <= 1 weights a frame by 1 - s * H / log V: uncertain posteriors count less (0, the default: equal weights).
    ``confidence`` c > 0 weights a frame by P(unit) ** c, where P is the teacher's posterior (untempered, or as dumped) and the unit
    is the alignment's: a teacher that is wrong about the unit counts less.
    ``essence``: what is kept of a row (``Essence``).
    """

    def __init__(
        self, temperature: float = 1.0, entropy_scale: float = 0.0, confidence: float = 0.0, teacher_temperature: float = 1.0,
        essence: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(temperature, teacher_temperature)
        if not 0.0 <= entropy_scale <= 1.0:
            raise ValueError(f"entropy_scale {entropy_scale} is not in [0, 1]")
        if confidence < 0.0:
            raise ValueError(f"confidence {confidence} is negative")
        self.entropy_scale, self.confidence, self.essence = entropy_scale, confidence, Essence.of(essence)

    def has_loss(self, targets: FrameTargets) -> Tensor:
        return targets.teacher()[0] >= 0

    def __call__(self, logits: Tensor, targets: FrameTargets) -> Tensor:
        return self._losses(logits, targets, overwrite=False)

    def consume(self, logits: Tensor, targets: FrameTargets) -> Tensor:
        """The same, with the logits as working memory: contiguous, not shared, and not to be read afterwards."""
        return self._losses(logits, targets, overwrite=True)

    def _losses(self, logits: Tensor, targets: FrameTargets, *, overwrite: bool) -> Tensor:
        unit_row, posteriors = targets.teacher()
        posteriors = self.essence(posteriors)
        mass, rest, entropy = tempered(posteriors, logits.shape[1], self.still_to_temper)
        cross = truncated_cross_entropy(logits, unit_row, posteriors.ids, mass, rest, scale=1.0 / self.temperature, overwrite=overwrite)
        taught = self.has_loss(targets)
        row = rows(unit_row, taught)
        loss = cross - entropy[row]
        if self.temperature != 1.0:
            loss = loss * self.temperature ** 2
        if self.entropy_scale:
            loss = loss * (1.0 - self.entropy_scale * entropy[row] / math.log(max(2, logits.shape[1])))
        if self.confidence:
            loss = loss * label_mass(posteriors, row, rows(targets.labels, taught), logits.shape[1]) ** self.confidence
        return loss


def label_mass(posteriors: Posteriors, row: Tensor, labels: Tensor, num_units: int) -> Tensor:
    """P(label) of each frame (N,): the kept entry's, or an even share of the rest for a label that was not kept."""
    kept = posteriors.logp > -torch.inf
    left = (num_units - kept.sum(1)).clamp(min=1)
    is_label = kept[row] & (posteriors.ids[row] == labels[:, None])
    mass = (posteriors.logp[row].exp() * is_label).sum(1)
    return torch.where(is_label.any(1), mass, (posteriors.rest_logp.exp() / left)[row])
