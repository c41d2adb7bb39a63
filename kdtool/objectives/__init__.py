"""Losses of a head: one file per loss, one registry line each.

In: logits of a head and the frame targets of its unit.  Out: a loss in nats for each frame that has a target.
"""

from typing import TYPE_CHECKING, Any

from kdtool.core.errors import UsageError
from kdtool.core.registry import Registry

if TYPE_CHECKING:
    from kdtool.objectives.targets import Objective

MAIN_OBJECTIVES: "Registry[type[Objective]]" = Registry("objective for the main head", {
    "ce": "kdtool.objectives.ce:CrossEntropy",
    "interpolate": "kdtool.objectives.interpolate:LabelInterpolation",
})  # fmt: skip
AUX_OBJECTIVES: "Registry[type[Objective]]" = Registry("objective for an auxiliary head", {
    "decoupled": "kdtool.objectives.decoupled:Decoupled",
    "hard": "kdtool.objectives.ce:HardLabels",
    "interpolate": "kdtool.objectives.interpolate:LabelInterpolation",
    "soft": "kdtool.objectives.soft:SoftLabels",
})  # fmt: skip


def make_objective(name: str, options: dict[str, Any], *, auxiliary: bool) -> "Objective":
    """The loss ``name`` made with ``options`` (its keyword arguments).

    Raises UsageError when such a head has no loss of that name, or an option is unknown or out of range.
    """
    kind = (AUX_OBJECTIVES if auxiliary else MAIN_OBJECTIVES)[name]
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        role = "an auxiliary head" if auxiliary else "the main head"
        raise UsageError(f"objective '{name}' of {role}, options {options}: {error}") from error
