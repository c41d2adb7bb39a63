"""Loads a student with its auxiliary heads, for analysis (decoding does not use them).

In: a student's folder with ``heads.safetensors``.  Out: the list of heads, and models with one or all of them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import Tensor

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_tensors
from kdtool.formats.system import read_system
from kdtool.student.config import HeadSpec
from kdtool.student.encoders.base import Encoder
from kdtool.student.model import CE_HEAD, HEADS_FILE, AuxShape, Student, load_state


class LowerPart(Encoder):
    """An encoder up to one of its layers."""

    def __init__(self, whole: Encoder, layer: int) -> None:
        super().__init__()
        self.whole, self.layer = whole, layer
        self.subsampling, self.left, self.right, self.dims = whole.subsampling, whole.left, whole.right, whole.dims

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> list[Tensor]:
        """The layers up to and including that one."""
        return [self.whole(feats, pad)[self.layer]]

    def input_frames(self, outputs: int) -> int:
        """As the whole encoder."""
        return self.whole.input_frames(outputs)


def head_specs(folder: Path) -> list[HeadSpec]:
    """The auxiliary heads that a student was trained with; none if they were not kept."""
    if not (Path(folder) / HEADS_FILE).is_file():
        return []
    heads = read_system(folder).heads
    return [HeadSpec.make({"kind": h["loss"], **{n: v for n, v in h.items() if n not in ("loss", "temperature")}}) for h in heads]


def load_head(folder: Path, name: str) -> Student:
    """A student, in evaluation mode, whose main head is the auxiliary head of that name (HeadSpec.name) on its own layer.

    Raises:
        KdError: it has no such head, or its files contradict each other.
    """
    model = load_with_heads(folder)
    if name not in model.aux_shapes:
        raise KdError(f"{Path(folder) / HEADS_FILE} has no head {name}; the student has {', '.join(model.aux_shapes) or 'none'}")
    shape = model.aux_shapes[name]
    model.shape = dataclasses.replace(model.shape, num_pdfs=shape.num_units)
    model.main, model.encoder = model.aux[name], LowerPart(model.encoder, shape.layer)  # type: ignore[assignment]
    return model.eval()


def load_with_heads(folder: Path) -> Student:
    """A student with all the auxiliary heads that it was trained with, in evaluation mode.

    Raises:
        KdError: a head that the student was trained with is not in heads.safetensors, or its files contradict each other.
    """
    folder = Path(folder)
    specs, tensors = head_specs(folder), load_tensors(folder / HEADS_FILE)
    if lacking := [s.name for s in specs if f"aux.{s.name}.output.weight" not in tensors]:
        raise KdError(f"{folder / HEADS_FILE} has no head {lacking[0]}; the student was trained with {', '.join(s.name for s in specs)}")
    aux = [AuxShape(s.name, s.layer, s.hidden, len(tensors[f"aux.{s.name}.output.weight"]), s.stride) for s in specs]
    shape = Student.load(folder).shape
    if f"aux.{CE_HEAD}.output.weight" in tensors:
        aux.insert(0, AuxShape(CE_HEAD, -1, shape.hidden, shape.num_pdfs))
    model = Student(shape, aux)
    load_state(model, tensors, str(folder / HEADS_FILE))
    return model.eval()
