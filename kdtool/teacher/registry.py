"""Kinds of teachers.  A new one is a file with a subclass of ``Teacher`` and a line here."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.core.errors import KdError, UsageError

if TYPE_CHECKING:
    from kdtool.teacher.base import Teacher

# Named, not imported: listing the kinds must not load torch.
KINDS = {
    "ngram": "kdtool.teacher.ngram:NgramTeacher",
    "tree": "kdtool.teacher.tree_senone:TreeSenoneTeacher",
    "masked_ngram": "kdtool.teacher.masked_ngram:MaskedNgramTeacher",
    "masked_tree": "kdtool.teacher.masked_tree:MaskedTreeTeacher",
    "lstm": "kdtool.teacher.lstm:LstmTeacher",
    "blstm": "kdtool.teacher.blstm:BlstmTeacher",
    "hf": "kdtool.teacher.hf:HfTeacher",
    "mix": "kdtool.teacher.mix:MixTeacher",
}
# Senones through a phone teacher and the tree.
THROUGH_TREE = ("tree", "masked_tree")
# Made from trained teachers over the same units.
OVER_TEACHERS = ("masked_ngram", "mix")


def teacher_class(kind: str) -> type[Teacher]:
    """The class of a kind; UsageError when there is none of that name."""
    if kind not in KINDS:
        raise UsageError(f"teacher kind {kind!r}: known are {', '.join(sorted(KINDS))}")
    module, name = KINDS[kind].split(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def load_teacher(folder: Path | str, device: str = "cpu") -> Teacher:
    """A trained teacher of any kind, its network (if it has one) on a device.

    Raises:
        KdError: not a teacher's folder, or its weights are not what was saved (both digests are named).
    """
    from kdtool.core.tensors import file_digest, load_tensors
    from kdtool.teacher.base import meta_digest, read_meta

    folder = Path(folder)
    meta = read_meta(folder)
    path = folder / "model.safetensors"
    if not path.exists():
        raise KdError(f"{path}: no such file; train this teacher again")
    found = file_digest(path)
    if found != meta["model_digest"]:
        raise KdError(f"{path}: digest is {found}, teacher.json says {meta['model_digest']}; train this teacher again")
    if meta["kind"] not in KINDS:
        raise KdError(f"{folder}: teacher kind {meta['kind']!r}: known are {', '.join(sorted(KINDS))}; train this teacher again")
    cls = teacher_class(meta["kind"])
    teacher = cls.from_tensors(meta["unit"], meta["num_units"], load_tensors(path), meta["info"])
    teacher.info = meta["info"]
    teacher.digest = meta_digest(meta)
    return teacher.to(device)
