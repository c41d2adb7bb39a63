"""What a head is trained to: one file an objective, one registry line each.

In: logits of a head and the frame targets of its unit.  Out: a loss in nats for each frame that has a target.
"""
from __future__ import annotations

from typing import Any

from kdtool.core.errors import UsageError
from kdtool.objectives.ce import CrossEntropy
from kdtool.objectives.decoupled import Decoupled
from kdtool.objectives.hard import HardLabels
from kdtool.objectives.interpolate import LabelInterpolation
from kdtool.objectives.soft import SoftLabels
from kdtool.objectives.targets import FrameTargets, Objective, Posteriors

__all__ = ["AUX_OBJECTIVES", "MAIN_OBJECTIVES", "FrameTargets", "Objective", "Posteriors", "make_objective"]

MAIN_OBJECTIVES: dict[str, type] = {
    "ce": CrossEntropy,
    "interpolate": LabelInterpolation,
}
AUX_OBJECTIVES: dict[str, type] = {
    "decoupled": Decoupled,
    "hard": HardLabels,
    "interpolate": LabelInterpolation,
    "soft": SoftLabels,
}


def make_objective(name: str, options: dict[str, Any], *, auxiliary: bool) -> Objective:
    """The objective ``name`` made with ``options`` (each objective's own keyword arguments).

    Raises UsageError when there is none of that name for such a head, or an option is unknown or out of range.
    """
    registry = AUX_OBJECTIVES if auxiliary else MAIN_OBJECTIVES
    role = "an auxiliary head" if auxiliary else "the main head"
    if name not in registry:
        raise UsageError(f"no objective '{name}' for {role}; there are: {', '.join(sorted(registry))}")
    try:
        objective: Objective = registry[name](**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"objective '{name}' of {role}, options {options}: {error}") from error
    return objective
