"""The interface of a teacher.  In: unit sequences.  Out: at each unit, the distribution over units given those before it (a causal
teacher) or given all the others (a masked one).

On disk a teacher is a folder: ``teacher.json`` (kind, unit, digests, options) and the kind's tensor files, each listed
there with its digest.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kdtool.core.device import choose_device
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, write_json
from kdtool.units.text import Sequences

TEACHER_FILE = "teacher.json"
FORMAT = "kdtool teacher 1"
# Measure of causal and masked teachers: its name in files and in words.
KEYS = {"causal": "ppl", "masked": "pseudo_ppl"}
NAMES = {"causal": "perplexity", "masked": "pseudo-perplexity"}


@dataclass
class TrainingText:
    """Training data of a teacher.

    ``blocks()`` streams the training sequences, identical on each call; ``held_out`` are sentences of the LM text that
    ``blocks`` leaves out, for choices such as an interpolation weight (dev is only measured on). ``extras`` holds inputs
    of single kinds: the decision tree, the folder of another teacher. ``device``: for training neural kinds.
    """

    unit: str
    num_units: int
    blocks: Callable[[], Iterator[Sequences]]
    held_out: Sequences
    extras: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"


class Teacher(ABC):
    """A language model over one kind of unit. Subclasses set ``kind`` and are listed in the registry.

    ``context`` is what a row may depend on: "causal", the units before, or "masked", all other units.
    """

    kind: ClassVar[str] = ""
    context: str = "causal"

    def __init__(self, unit: str, num_units: int) -> None:
        self.unit, self.num_units = unit, num_units
        self.info: dict[str, Any] = {}
        self.digest = ""

    @classmethod
    @abstractmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> "Teacher":
        """Train on `text`; `options` belong to the kind, unknown ones are a UsageError. `work` is for temporary files."""

    @classmethod
    def trains(cls, options: dict[str, Any], given: int) -> list[str]:
        """Kinds, by registry name, that training with `options` and `given` trained teachers trains as its parts."""
        return []

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        """log P(. | u_<i), or of a masked teacher P(. | u_<i, u_>i), at each position of one sentence: unit_ids int (N,) -> float32 (N, V),
        natural log.

        Row i depends only on unit_ids[:i], or on all but unit_ids[i]. Rows sum to one; units missing from the training text are -inf.
        """
        return self.log_probs_many([unit_ids])[0]

    def log_probs_many(self, sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """``log_probs`` of several sentences. A kind defines one of the two; this one if it is faster on batches."""
        return [self.log_probs(ids) for ids in sentences]

    def to(self, device: str) -> "Teacher":
        """Move the network `model`, if the kind has one, to a device (see kdtool.core.device); returns the teacher."""
        if hasattr(self, "model"):
            self.model.to(choose_device(device))
        return self

    def after_one(self) -> np.ndarray | None:
        """log P(. | one unit alone) per unit and, last, for a sentence's begin: float32 (V + 1, V); None if unknown.
        With it, posteriors are coded in fewer bytes."""
        return None

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors from which `from_tensors` rebuilds the teacher."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "Teacher":
        """Rebuild a teacher from `tensors` and `info` (text and numbers of teacher.json)."""

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write the teacher; `facts` (digests of units, lang, tree; training data) go to teacher.json."""
        from kdtool.core.tensors import file_digest, save_tensors

        folder = Path(folder)
        save_tensors(folder / "model.safetensors", self.tensors())
        model = file_digest(folder / "model.safetensors")
        meta = {
            **facts, "format": FORMAT, "kind": self.kind, "context": self.context, "unit": self.unit,
            "num_units": self.num_units, "info": self.info, "model_digest": model,
        }  # fmt: skip
        write_json(folder / TEACHER_FILE, meta)
        self.digest = meta_digest(meta)


def meta_digest(meta: dict[str, Any]) -> str:
    """The teacher's digest: of its weights, its kind and the meaning of its units."""
    names = ("format", "kind", "unit", "num_units", "units_digest", "info", "model_digest")
    text = json.dumps({n: meta.get(n) for n in names}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_meta(folder: Path) -> dict[str, Any]:
    """teacher.json of a folder; KdError when it is no teacher folder."""
    meta = read_json(Path(folder) / TEACHER_FILE)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise KdError(f"{folder} is no teacher of this version ({FORMAT}); train it with steps/train_teacher.sh")
    return meta


def check_ids(unit_ids: np.ndarray, num_units: int, unit: str) -> None:
    """KdError when an id is not one of the teacher's units: another table would silently give wrong numbers."""
    if len(unit_ids) and (unit_ids.min() < 0 or unit_ids.max() >= num_units):
        raise KdError(f"{unit} {unit_ids.max()} given to a teacher of {num_units}; train it for this unit table")


def check_options(cls: type[Any], options: dict[str, Any], kind: str) -> Any:
    """Make a kind's option dataclass from a mapping; UsageError names the unknown option and the known ones."""
    import dataclasses

    from kdtool.core.errors import UsageError

    known = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(f"teacher kind {kind}: unknown option {', '.join(unknown)}; known are {', '.join(known)}")
    return cls(**options)


def perplexity(teacher: Teacher, sequences: Iterable[np.ndarray]) -> dict[str, Any]:
    """Perplexity per unit over whole sentences; of a masked teacher, pseudo-perplexity, which is not comparable with it.

    Returns:
        ppl or pseudo_ppl; nats_per_unit; tokens: number of scored units; unseen: units missing from the training text, which have no
        probability and are counted separately; sentences. Without any sentence the first two are None.
    """
    nats, tokens, unseen, sentences = 0.0, 0, 0, 0
    for ids in sequences:
        if len(ids) == 0:
            continue
        own = teacher.log_probs(ids)[np.arange(len(ids)), ids].astype(np.float64)
        known = own > -np.inf
        nats -= float(own[known].sum())
        tokens += int(known.sum())
        unseen += int((~known).sum())
        sentences += 1
    mean = nats / tokens if tokens else math.inf
    figures = (math.exp(mean), mean) if sentences else (None, None)  # JSON has no infinity
    names = (KEYS[teacher.context], "nats_per_unit")
    return {**dict(zip(names, figures, strict=True)), "tokens": tokens, "unseen": unseen, "sentences": sentences}
