"""Kinds of teachers.  A new one is a file with a subclass of ``Teacher`` and a line here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.errors import KdError
from kdtool.core.registry import Registry

if TYPE_CHECKING:
    from kdtool.teacher.base import Teacher

KINDS: "Registry[type[Teacher]]" = Registry("teacher kind", {
    "ngram": "kdtool.teacher.ngram:NgramTeacher",
    "tree": "kdtool.teacher.tree_senone:TreeSenoneTeacher",
    "masked_ngram": "kdtool.teacher.masked_ngram:MaskedNgramTeacher",
    "masked_tree": "kdtool.teacher.masked_tree:MaskedTreeTeacher",
    "lstm": "kdtool.teacher.lstm:LstmTeacher",
    "blstm": "kdtool.teacher.blstm:BlstmTeacher",
    "hf": "kdtool.teacher.hf:HfTeacher",
    "mix": "kdtool.teacher.mix:MixTeacher",
}, through_tree=("tree", "masked_tree"), over_teachers=("masked_ngram", "mix"), over_kinds=("mix",))  # fmt: skip
# through_tree: senones through a phone teacher and the tree. over_teachers: derived from trained teachers over the same units.
# over_kinds: trains teachers of other kinds internally (Teacher.trains).


def kinds_of(kind: str, info: dict[str, Any]) -> set[str]:
    """A trained teacher's kind and those of the teachers inside it; ``info`` as in teacher.json."""
    inside = [(name.split(".")[0], part) for name, part in info.get("parts", {}).items()]
    inside += [(info["phone_kind"], info["phone"])] if "phone_kind" in info else []
    return {kind}.union(*(kinds_of(*one) for one in inside))


def code_of(folder: Path) -> tuple[str, ...]:
    """Code of a trained teacher for a step that uses it: its kind and those inside it; empty without a folder, KdError if damaged."""
    from kdtool.teacher.base import TEACHER_FILE, read_meta

    if not (Path(folder) / TEACHER_FILE).is_file():
        return ()
    return KINDS.code(*known_kinds(Path(folder), read_meta(folder)))


def known_kinds(folder: Path, meta: dict[str, Any]) -> list[str]:
    """The kinds of a trained teacher and those inside it; KdError when its teacher.json names one that there is not."""
    try:
        kinds = sorted(map(str, kinds_of(meta["kind"], meta["info"])))
    except (KeyError, TypeError, AttributeError) as e:
        raise KdError(f"{folder}/teacher.json: field {e} is missing or of another type; train this teacher again") from e
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise KdError(f"{folder}: teacher kind {unknown[0]!r}: known are {', '.join(sorted(KINDS))}; train this teacher again")
    return kinds


def load_teacher(folder: Path | str, device: str = "cpu") -> "Teacher":
    """A trained teacher of any kind, its network (if it has one) on a device. Raises KdError: not a teacher's folder, or altered weights
    (names both digests)."""
    from kdtool.core.tensors import file_digest, load_tensors
    from kdtool.teacher.base import meta_digest, read_meta

    folder = Path(folder)
    meta = read_meta(folder)
    path = folder / "model.safetensors"
    if not path.exists():
        raise KdError(f"{path}: no such file; train this teacher again")
    if (digest := file_digest(path)) != meta["model_digest"]:
        raise KdError(f"{path}: digest is {digest}, teacher.json says {meta['model_digest']}; train this teacher again")
    known_kinds(folder, meta)
    teacher = KINDS[meta["kind"]].from_tensors(meta["unit"], meta["num_units"], load_tensors(path), meta["info"])
    teacher.info = meta["info"]
    teacher.digest = meta_digest(meta)
    return teacher.to(device)
