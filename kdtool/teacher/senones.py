"""Senones through phones: what the exact teachers over senones share.  In: a phone teacher and the decision tree.  Out: their base.

A senone history identifies its phones. Unknown are the phones to come (the tree's leaves depend on the right neighbour), and whether there
is a pause between two phones, which counts as context EDGE of both.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.formats.tree import Tree
from kdtool.teacher.base import Teacher, TrainingText, check_options

EDGE = 0  # the tree's context at an utterance's edge, the same as that of silence
MISMATCH = 1e-4  # likelihood of a senone that contradicts the tree's context: alignments may differ from the tree
T = TypeVar("T", bound="TreeTeacher")


@dataclass(frozen=True)
class TreeOptions:
    """phone: options of the phone n-gram, unused when a trained phone teacher is given. smooth: share of the mass that
    is spread evenly over all senones of the HMM state."""

    phone: dict[str, Any] = field(default_factory=dict)
    smooth: float = 1e-3


class TreeTeacher(Teacher):
    """A teacher over senones; `phone` is one over phones, `pause` float (P,) is P(a pause follows this phone).

    ``made_from``: the phone teacher in words, ``takes`` says whether one is of that sort, ``phone_kind`` is trained where none is given;
    ``instead``: other kinds, for messages.
    """

    options: ClassVar[type[TreeOptions]] = TreeOptions
    phone_kind: ClassVar[type[Teacher]]
    made_from: ClassVar[str]
    instead: ClassVar[str]

    def __init__(self, phone: Teacher, tree: Tree, pause: np.ndarray, cfg: TreeOptions) -> None:
        super().__init__("senone", tree.num_pdfs)
        self.phone, self.tree, self.pause, self.cfg = phone, tree, pause.astype(np.float64), cfg
        self.size, self.depth = tree.pdf_map.shape[0], tree.pdf_map.shape[3]

    @classmethod
    def takes(cls, phone: Teacher) -> bool:
        """Whether this kind can be made from a phone teacher."""
        return isinstance(phone, cls.phone_kind)

    @classmethod
    def train(cls: type[T], text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> T:
        cfg: TreeOptions = check_options(cls.options, options, cls.kind)
        if text.unit != "senone":
            raise UsageError(f"kind {cls.kind} is for senones, not {text.unit}s; use {cls.instead}")
        if text.extras["tree"].shared:
            raise UsageError(f"kind {cls.kind} reads the phone off a senone, but this tree shares senones among a phone's positions in the "
                             f"word; use kind {cls.instead} for senones")  # fmt: skip
        if not 0 < cfg.smooth < 1:
            raise UsageError(f"smooth {cfg.smooth}: a share between 0 and 1 is expected")
        phone = text.extras.get("phone_teacher") or cls.phone_kind.train(text.extras["phone_text"](), cfg.phone, seed=seed, work=work)
        if phone.unit != "phone" or not cls.takes(phone):
            raise UsageError(f"kind {cls.kind} is made from a {cls.made_from}, not from a {phone.context} {phone.unit} teacher of kind "
                             f"{phone.kind}")  # fmt: skip
        teacher = cls(phone, text.extras["tree"], text.extras["pause"], cfg)
        named = {} if phone.kind == "ngram" else {"phone_kind": phone.kind, "phone_units": phone.num_units}
        teacher.info = {**asdict(cfg), **named, "phone": phone.info}
        return teacher

    def tensors(self) -> dict[str, np.ndarray]:
        phone = {f"phone.{name}": value for name, value in self.phone.tensors().items()}
        return {**phone, "pdf_map": self.tree.pdf_map, "pause": self.pause}

    @classmethod
    def from_tensors(cls: type[T], unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> T:
        from kdtool.teacher.registry import KINDS

        of_phone = {name.removeprefix("phone."): value for name, value in tensors.items() if name.startswith("phone.")}
        phone = KINDS[info.get("phone_kind", "ngram")].from_tensors("phone", info.get("phone_units", 0), of_phone, info["phone"])
        phone.info = info["phone"]
        cfg = cls.options(**{name: value for name, value in info.items() if name in cls.options.__dataclass_fields__ and name != "phone"})
        return cls(phone, Tree(tensors["pdf_map"]), tensors["pause"], cfg)

    def lefts(self, ids: np.ndarray) -> np.ndarray:
        """(J, 2): left context of each phone of a sentence, without and with a pause before it."""
        return np.stack([np.append(EDGE, ids[:-1]), np.full(len(ids), EDGE)], axis=1)

    def on_tree(self, log_probs: np.ndarray) -> np.ndarray:
        """Probabilities (J, P) over the tree's phone ids; phones that the tree lacks lose their share."""
        probs = np.exp(log_probs[:, : self.size].astype(np.float64))
        probs = np.pad(probs, ((0, 0), (0, self.size - probs.shape[1])))
        return probs / probs.sum(axis=1, keepdims=True)


@dataclass
class Phones:
    """A senone sequence read as phones: ids (J,), first senone of each (J,), senones (J, S), padded with -1."""

    ids: np.ndarray
    first: np.ndarray
    senones: np.ndarray

    @classmethod
    def read(cls, tree: Tree, unit_ids: np.ndarray) -> "Phones":
        """The phones of a senone sequence; KdError when it does not pass through each phone's states in order."""
        phone, state = tree.pdf_phone[unit_ids], tree.pdf_state[unit_ids]
        first = np.flatnonzero(state == 0)
        owner = np.cumsum(state == 0) - 1
        place = np.arange(len(unit_ids)) - first[owner] if len(first) and first[0] == 0 else state - 1
        wrong = (state != place) | (phone != phone[first[owner]])
        last = np.append(first[1:] - 1, -1)[:-1]
        wrong[last] |= state[last] != tree.num_states[phone[last]] - 1
        if wrong.any():
            at = int(wrong.argmax())
            raise KdError(f"senone {unit_ids[at]} at place {at} is state {state[at]} of phone {phone[at]}, which cannot stand there; "
                          "the alignment does not pass through each phone's states in order: align again with this tree")  # fmt: skip
        senones = np.full((len(first), tree.pdf_map.shape[3]), -1, dtype=np.int64)
        senones[owner, state] = unit_ids
        return cls(phone[first].astype(np.int64), first, senones)

    def likelihood(self, table: np.ndarray) -> np.ndarray:
        """P(each phone's first s senones) (J, A, B, S + 1), s = 0 .. S, if the tree's leaves are ``table`` (J, A, B, S)."""
        match = np.ones((*table.shape[:3], table.shape[3] + 1))
        for s, spoken in enumerate(self.senones.T[:, :, None, None]):
            fits = (table[..., s] == spoken) | (spoken < 0)
            np.multiply(match[..., s], np.where(fits, 1.0, MISMATCH), out=match[..., s + 1])
        return match


def scatter(out: np.ndarray, rows: np.ndarray, senones: np.ndarray, weight: np.ndarray) -> None:
    """out[rows[i], senones[i, ..]] += weight[i, ..]; entries without a senone (-1) have negligible weight."""
    there = (senones >= 0) & (weight > 0)
    place = (np.broadcast_to(rows.reshape(-1, *[1] * (senones.ndim - 1)), senones.shape) * out.shape[1] + senones)[there]
    out += np.bincount(place, weights=weight[there], minlength=out.size).reshape(out.shape)
