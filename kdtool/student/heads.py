"""Loads a student with its auxiliary heads, for analysis (decoding does not use them).

In: a student's folder with ``heads.safetensors``.  Out: the list of heads, and the model with all of them.
"""

from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_tensors
from kdtool.formats.system import read_system
from kdtool.student.config import HeadSpec
from kdtool.student.model import CE_HEAD, HEADS_FILE, AuxShape, Student, load_state


def head_specs(folder: Path) -> list[HeadSpec]:
    """The auxiliary heads that a student was trained with; none if they were not kept."""
    if not (Path(folder) / HEADS_FILE).is_file():
        return []
    heads = read_system(folder).heads
    return [HeadSpec.make({"kind": h["loss"], **{n: v for n, v in h.items() if n not in ("loss", "temperature")}}) for h in heads]


def load_with_heads(folder: Path) -> Student:
    """A student with all the auxiliary heads that it was trained with, in evaluation mode. Raises KdError: a head that the student was
    trained with is not in heads.safetensors, or its files contradict each other."""
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
