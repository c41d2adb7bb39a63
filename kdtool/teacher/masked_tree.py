"""Masked senone teacher.  In: a masked phone model and the decision tree.  Out: P(senone | the senones of all other phones).

A whole phone is masked. With only one senone hidden, its phone's other states would name the phone (a senone
belongs to one phone) and nothing would be left to predict. So the rows of a phone's senones share one context: all
senones of the other phones, and the number of states of the hidden phone. Unknown are
- the phone: the masked phone model predicts it from the other phones, which their senones identify;
- whether there is a pause before and after it, which sets its contexts in the tree: P(pause | phone before it), with no
  pause before the first phone, where the utterance's edge has that role, as after the last.
The neighbours' senones depend on both through the tree (the one before has the hidden phone as right context, the one
after as left context), so they are evidence about it, and about the pauses further away that blur this evidence: everything
is summed exactly, pauses by one forward and one backward pass. Given phone and pauses the tree leaves no choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.formats.tree import Tree
from kdtool.teacher.base import Teacher, TrainingText, check_options
from kdtool.teacher.masked_ngram import MaskedNgramTeacher
from kdtool.teacher.ngram import check_ids
from kdtool.teacher.senones import EDGE, MISMATCH, Phones, on_tree, read_phones, scatter


@dataclass(frozen=True)
class MaskedTreeOptions:
    """phone: options of the masked phone n-gram, unused when a trained masked phone teacher is given. smooth: share of the mass
    that is spread evenly over all senones of the HMM state. neighbours: use the neighbours' senones, not only their phones."""

    phone: dict[str, Any] = field(default_factory=dict)
    smooth: float = 1e-3
    neighbours: bool = True


class MaskedTreeTeacher(Teacher):
    """P(senone | other phones' senones); `phone` is any masked phone teacher, `pause` float (P,) is P(a pause follows this phone)."""

    kind = "masked_tree"
    context = "masked"

    def __init__(self, phone: Teacher, tree: Tree, pause: np.ndarray, smooth: float, neighbours: bool) -> None:
        super().__init__("senone", tree.num_pdfs)
        self.phone, self.tree, self.smooth, self.neighbours = phone, tree, smooth, neighbours
        self.pause = pause.astype(np.float64)
        self.size, self.depth = tree.pdf_map.shape[0], tree.pdf_map.shape[3]

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> MaskedTreeTeacher:
        cfg: MaskedTreeOptions = check_options(MaskedTreeOptions, options, cls.kind)
        if text.unit != "senone":
            raise UsageError(f"kind {cls.kind} is for senones, not {text.unit}s; use masked_ngram, blstm or mix")
        if not 0 < cfg.smooth < 1:
            raise UsageError(f"smooth {cfg.smooth}: a share between 0 and 1 is expected")
        phone = text.extras.get("phone_teacher") or MaskedNgramTeacher.train(text.extras["phone_text"](), cfg.phone, seed=seed, work=work)
        if phone.context != "masked" or phone.unit != "phone":
            raise UsageError(f"kind {cls.kind} is made from a masked phone teacher, not from a {phone.context} {phone.unit} "
                             f"teacher of kind {phone.kind}")  # fmt: skip
        teacher = cls(phone, text.extras["tree"], text.extras["pause"], cfg.smooth, cfg.neighbours)
        teacher.info = {"smooth": cfg.smooth, "neighbours": cfg.neighbours, "phone_kind": phone.kind,
                        "phone_units": phone.num_units, "phone": phone.info}  # fmt: skip
        return teacher

    def tensors(self) -> dict[str, np.ndarray]:
        phone = {f"phone.{name}": value for name, value in self.phone.tensors().items()}
        return {**phone, "pdf_map": self.tree.pdf_map, "pause": self.pause}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> MaskedTreeTeacher:
        from kdtool.teacher.registry import KINDS

        own = {name.removeprefix("phone."): value for name, value in tensors.items() if name.startswith("phone.")}
        phone = KINDS[info["phone_kind"]].from_tensors("phone", info["phone_units"], own, info["phone"])
        phone.info = info["phone"]
        return cls(phone, Tree(tensors["pdf_map"]), tensors["pause"], info["smooth"], info["neighbours"])

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        check_ids(unit_ids, self.num_units, self.unit)
        if len(unit_ids) == 0:
            return np.zeros((0, self.num_units), dtype=np.float32)
        phones = read_phones(self.tree, unit_ids)
        states = (phones.senones >= 0).sum(axis=1)
        if states[-1] != self.tree.num_states[phones.ids[-1]]:
            raise KdError(f"the last phone has {states[-1]} senones, its HMM {self.tree.num_states[phones.ids[-1]]} states; align again")
        left = np.stack([np.append(EDGE, phones.ids[:-1]), np.full(len(states), EDGE)], axis=1)
        right = np.stack([np.append(phones.ids[1:], EDGE), np.full(len(states), EDGE)], axis=1)
        weight = self._weights(phones, left, right)
        # The masked phone has as many states as there are hidden senones.
        alike = self.tree.num_states == states[:, None]
        weight *= alike[:, :, None, None]
        weight /= weight.sum(axis=(1, 2, 3), keepdims=True)
        out = np.zeros((len(unit_ids), self.num_units))
        table = self.tree.pdf_map[left[:, None, :, None], np.arange(self.size)[:, None, None], right[:, None, None, :]]
        for s in range(self.depth):
            there = np.flatnonzero(states > s)
            shape = (len(there), 4 * self.size, 1)
            scatter(out, phones.first[there] + s, table[there, ..., s].reshape(shape), weight[there].reshape(shape))
        out *= 1.0 - self.smooth
        for count in np.unique(states):
            turn = (self.tree.num_states[self.tree.pdf_phone] == count) * (self.tree.pdf_state + 1)
            for s in range(count):
                even = np.flatnonzero(turn == s + 1)
                out[np.ix_(phones.first[states == count] + s, even)] += self.smooth / len(even)
        with np.errstate(divide="ignore"):
            return np.log(out, out=out).astype(np.float32)

    def _weights(self, phones: Phones, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """float64 (J, P, 2, 2), up to a factor per j: P(phone j, no pause or a pause before it, and after it | the rest)."""
        count = len(phones.ids)
        to_right, to_left = self._likelihoods(phones, left, right)
        place = np.arange(count)
        whole = np.stack([to_right[place, :, right[:, 0]], to_right[:, :, EDGE]], axis=2)
        # gap (J, 2): no pause, pause after a phone; a pause is certain at the utterance's end.
        gap = np.stack([1.0 - self.pause[phones.ids], self.pause[phones.ids]], axis=1)
        gap[-1] = [0.0, 1.0]
        forward, backward = np.zeros((count, 2)), np.ones((count, 2))
        forward[0] = [0.0, 1.0]
        for j in range(1, count):
            forward[j] = forward[j - 1] @ whole[j - 1] * gap[j - 1]
            forward[j] /= forward[j].sum()
        for j in range(count - 1, 0, -1):
            backward[j - 1] = whole[j] @ (gap[j] * backward[j])
            backward[j - 1] /= backward[j - 1].sum()
        before, after = np.zeros((count, self.size, 2)), np.ones((count, self.size, 2))
        before[0, :, 1] = 1.0
        heard = np.einsum("jb,jbr->jr", forward, to_right)[:-1]
        before[1:, :, 0] = heard * gap[:-1, [0]]
        before[1:, :, 1] = heard[:, [EDGE]] * gap[:-1, [1]]
        follows = np.einsum("jlb,jb->jl", to_left, gap * backward)[1:]
        after[:-1, :, 0] = follows * (1.0 - self.pause)
        after[:-1, :, 1] = follows[:, [EDGE]] * self.pause
        after[-1, :, 0] = 0.0
        prior = on_tree(self.tree, self.phone.log_probs(phones.ids))
        return prior[:, :, None, None] * before[:, :, :, None] * after[:, :, None, :]

    def _likelihoods(self, phones: Phones, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P(a phone's senones | it and its contexts): (J, 2, P) for its two left contexts (no pause, a pause) and every right
        context, and (J, P, 2) for every left context and its two right ones."""
        if not self.neighbours:
            return np.ones((len(left), 2, self.size)), np.ones((len(left), self.size, 2))
        tables = self.tree.pdf_map[left, phones.ids[:, None]], np.moveaxis(self.tree.pdf_map[:, phones.ids[:, None], right], 0, 1)
        seen = phones.senones[:, None, None, :]
        first, second = (np.where((table == seen) | (seen < 0), 1.0, MISMATCH).prod(axis=3) for table in tables)
        return first, second
