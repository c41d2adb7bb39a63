"""Encoders of the student: one file per encoder, one registry line each.

In: features (B, D, T) of 10 ms frames.  Out: the hidden layers at one frame in ``subsampling``.
"""
from typing import TYPE_CHECKING, Any

from kdtool.core.errors import UsageError
from kdtool.core.registry import Registry

if TYPE_CHECKING:
    from kdtool.formats.system import System
    from kdtool.student.encoders.base import Encoder

ENCODERS: "Registry[type[Encoder]]" = Registry("encoder", {
    "tdnn": "kdtool.student.encoders.tdnn:Tdnn",
    "tdnnf": "kdtool.student.encoders.tdnnf:TdnnF",
    "blstm": "kdtool.student.encoders.blstm:Blstm",
    "conformer": "kdtool.student.encoders.conformer:Conformer",
})  # fmt: skip


def code_of(system: "System") -> tuple[str, ...]:
    """Code of a student for a step that uses it: its encoder's; all encoders' if the system does not name it."""
    return ENCODERS.code(*([system.encoder["name"]] if system.encoder else ENCODERS))


def make_encoder(name: str, input_dim: int, options: dict[str, Any]) -> "Encoder":
    """The encoder ``name`` for features of ``input_dim`` coefficients; UsageError on an unknown name or option."""
    kind = ENCODERS[name]
    try:
        return kind(input_dim, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"encoder '{name}', options {options}: {error}") from error
