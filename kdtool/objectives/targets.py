"""Targets of a batch of frames, the input of the losses.

In: hard labels per frame, and teacher distributions per unit (truncated: kept entries and one bucket for the rest).
Out: ``FrameTargets``, where every frame refers to its unit's row instead of carrying a copy of the distribution.
"""
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Posteriors:
    """Truncated distributions of U units: ``ids`` (U, K) int64, ``logp`` (U, K) and ``rest_logp`` (U,) in nats.

    A slot whose ``logp`` is -inf is empty (its id is ignored).  ``rest_logp`` is the log mass of all that was not kept (-inf: nothing).
    """

    ids: Tensor
    logp: Tensor
    rest_logp: Tensor


@dataclass(frozen=True)
class FrameTargets:
    """Targets of N frames.

    labels: (N,) int64, hard label of each frame, -1 for none.
    unit_row: (N,) int64, row of the frame's unit in ``posteriors``, -1 for none; None without a teacher.
    """

    labels: Tensor
    unit_row: Tensor | None = None
    posteriors: Posteriors | None = None

    def teacher(self) -> tuple[Tensor, Posteriors]:
        """(unit_row, posteriors); ValueError when these targets carry no teacher."""
        if self.unit_row is None or self.posteriors is None:
            raise ValueError("this objective needs teacher posteriors, the targets carry hard labels only")
        return self.unit_row, self.posteriors


class Tempered:
    """A loss that reads a teacher's distributions, sharpened or flattened by ``temperature``.

    ``teacher_temperature``: the temperature already applied to the posteriors (a dump may be made with one).
    """

    uses_posteriors = True

    def __init__(self, temperature: float, teacher_temperature: float) -> None:
        if temperature <= 0.0 or teacher_temperature <= 0.0:
            raise ValueError(f"temperature {temperature}, teacher's {teacher_temperature}: both must be above 0")
        self.temperature, self.still_to_temper = temperature, temperature / teacher_temperature


class Objective(Protocol):
    """Maps logits (N, V) and the targets of the N frames to losses (M,) in nats, one for each frame with a target.

    ``uses_posteriors`` says whether the targets must carry a teacher's distributions.  M = 0 is allowed.
    ``has_loss``: bool (N,), frames with a loss; known without logits, so that parts of a batch can be normalised by the whole.
    """

    uses_posteriors: bool

    def has_loss(self, targets: FrameTargets) -> Tensor: ...

    def __call__(self, logits: Tensor, targets: FrameTargets) -> Tensor: ...


def rows(values: Tensor, mask: Tensor) -> Tensor:
    """``values[mask]``, without the copy if every row is selected (the usual case for hard labels)."""
    return values if bool(mask.all()) else values[mask]
