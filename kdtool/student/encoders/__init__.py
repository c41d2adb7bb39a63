"""Encoders of the student: one file per encoder, one registry line each.

In: features (B, D, T) of 10 ms frames.  Out: the hidden layers at one frame in ``subsampling``.
"""
from __future__ import annotations

from typing import Any

from kdtool.core.errors import UsageError
from kdtool.student.encoders.base import Encoder
from kdtool.student.encoders.blstm import Blstm
from kdtool.student.encoders.conformer import Conformer
from kdtool.student.encoders.tdnn import Tdnn
from kdtool.student.encoders.tdnnf import TdnnF

__all__ = ["ENCODERS", "Encoder", "make_encoder"]

ENCODERS: dict[str, type] = {
    "tdnn": Tdnn,
    "tdnnf": TdnnF,
    "blstm": Blstm,
    "conformer": Conformer,
}


def make_encoder(name: str, input_dim: int, options: dict[str, Any]) -> Encoder:
    """The encoder ``name`` for features of ``input_dim`` coefficients; UsageError on an unknown name or option."""
    if name not in ENCODERS:
        raise UsageError(f"no encoder '{name}'; there are: {', '.join(sorted(ENCODERS))}")
    try:
        encoder: Encoder = ENCODERS[name](input_dim, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"encoder '{name}', options {options}: {error}") from error
    return encoder
