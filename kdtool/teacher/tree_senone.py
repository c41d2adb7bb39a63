"""Senone teacher derived from a phone n-gram.  In: a phone model and the decision tree.  Out: P(senone | senones before).

A senone history says which phones were spoken, and a little about what comes next, as the tree's leaves depend on the
right neighbour. So the model is a filter: it keeps a belief about what the history leaves open (the next phone, and
whether a pause stood between two phones) and sums the phone model over it, exactly. A phone n-gram of order 6 sees 18
senones back, far more than an n-gram over senones can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import UsageError
from kdtool.gmm.tree import Tree
from kdtool.teacher.base import Teacher, TrainingText, check_options
from kdtool.teacher.ngram import NgramTeacher, check_ids
from kdtool.teacher.senones import EDGE, MISMATCH, Phones, on_tree, read_phones
from kdtool.teacher.trie import NgramTrie

NEGLIGIBLE = 1e-4  # a next phone less likely than this is left out of the sum


@dataclass(frozen=True)
class TreeOptions:
    """phone: options of the phone n-gram, unused when a trained phone teacher is given. smooth: share of the mass that
    goes evenly to all senones of the HMM state whose turn it is."""

    phone: dict[str, Any] = field(default_factory=dict)
    smooth: float = 1e-3


class TreeSenoneTeacher(Teacher):
    """P(senone | history) through phone n-gram and tree; `pause` float (P,) is P(a pause follows this phone)."""

    kind = "tree"

    def __init__(self, trie: NgramTrie, tree: Tree, pause: np.ndarray, smooth: float) -> None:
        super().__init__("senone", tree.num_pdfs)
        self.trie, self.tree, self.smooth = trie, tree, smooth
        self.pause = pause.astype(np.float64)
        self.size = tree.pdf_map.shape[0]
        even, self._turn = _even(tree)
        self._even = smooth * even

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> TreeSenoneTeacher:
        cfg: TreeOptions = check_options(TreeOptions, options, cls.kind)
        if text.unit != "senone":
            raise UsageError(f"kind tree is for senones, not {text.unit}s; use ngram, lstm or mix")
        if text.extras["tree"].shared:
            raise UsageError("kind tree reads the phone off a senone, but this tree shares senones among a phone's positions in the word; "
                             "use kind ngram, lstm or mix for senones")  # fmt: skip
        if not 0 < cfg.smooth < 1:
            raise UsageError(f"smooth {cfg.smooth}: a share between 0 and 1 is wanted")
        phones = text.extras.get("phone_teacher") or NgramTeacher.train(text.extras["phone_text"](), cfg.phone, seed=seed, work=work)
        if not isinstance(phones, NgramTeacher) or phones.unit != "phone":
            raise UsageError(f"kind tree is made from a phone n-gram, not from a {phones.unit} teacher of kind {phones.kind}")
        teacher = cls(phones.trie, text.extras["tree"], text.extras["pause"], cfg.smooth)
        teacher.info = {"smooth": cfg.smooth, "phone": phones.info}
        return teacher

    def tensors(self) -> dict[str, np.ndarray]:
        phone = {f"phone.{name}": value for name, value in self.trie.tensors.items()}
        return {**phone, "pdf_map": self.tree.pdf_map, "pause": self.pause}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> TreeSenoneTeacher:
        trie = {name.removeprefix("phone."): value for name, value in tensors.items() if name.startswith("phone.")}
        return cls(NgramTrie(trie), Tree(tensors["pdf_map"]), tensors["pause"], info["smooth"])

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        check_ids(unit_ids, self.num_units, self.unit)
        if len(unit_ids) == 0:
            return np.zeros((0, self.num_units), dtype=np.float32)
        phones = read_phones(self.tree, unit_ids)
        states = self.trie.states(phones.ids)
        following = on_tree(self.tree, self.trie.distributions(states))
        match, left = self._match(phones)
        belief = self._pauses(phones, match)
        parts = [*self._inside(phones, match, left, belief, following[1:]), self._next(phones, match, left, belief, following, states)]
        rows, senones, weights = (np.concatenate(x) for x in zip(*parts, strict=True))
        weights *= ((1.0 - self.smooth) / np.bincount(rows, weights, len(unit_ids)))[rows]
        # Nearly all of a row is empty: the wide table is filled once.
        out = np.bincount(rows * self.num_units + senones, weights, len(unit_ids) * self.num_units).reshape(-1, self.num_units)
        out += self._even[np.append(0, self._turn[unit_ids[:-1]])]
        with np.errstate(divide="ignore"):
            return np.log(out.astype(np.float32))

    def _match(self, phones: Phones) -> tuple[np.ndarray, np.ndarray]:
        """match (J, 2, P, S + 1): likelihood of a phone's first s senones, given whether a pause came before it (0 no,
        1 yes) and its right context (EDGE for a pause); left (J, 2): the left context in both cases."""
        before = np.concatenate([[EDGE], phones.ids[:-1]])
        left = np.stack([before, np.full_like(before, EDGE)], axis=1)
        table = self.tree.pdf_map[left, phones.ids[:, None]]
        seen = phones.senones[:, None, None, :]
        fits = np.where((table == seen) | (seen < 0), 1.0, MISMATCH)
        start = np.ones((*fits.shape[:3], 1))
        return np.concatenate([start, np.cumprod(fits, axis=3)], axis=3), left

    def _pauses(self, phones: Phones, match: np.ndarray) -> np.ndarray:
        """belief (J, 2): P(no pause, pause before phone j | everything up to phone j - 1, and phone j itself)."""
        belief = np.zeros((len(phones.ids), 2))
        now = np.array([0.0, 1.0])
        for j, phone in enumerate(phones.ids):
            belief[j] = now / now.sum()
            if j + 1 < len(phones.ids):
                paused = self.pause[phone]
                go_on = match[j, :, phones.ids[j + 1], -1] * (1.0 - paused)
                now = np.array([belief[j] @ go_on, belief[j] @ (match[j, :, EDGE, -1] * paused)])
        return belief

    def _right(self, phone: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Prior (.., P) of a phone's right context: the next phone, or EDGE for a pause."""
        paused = self.pause[phone][..., None]
        right = following * (1.0 - paused)
        right[..., EDGE] = paused[..., 0]
        return right

    def _inside(
        self, phones: Phones, match: np.ndarray, left: np.ndarray, belief: np.ndarray, following: np.ndarray
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Rows of a phone's second and later senones: sum over the pause before and the right context."""
        prior = belief[:, :, None] * self._right(phones.ids, following)[:, None, :]
        table = self.tree.pdf_map[left, phones.ids[:, None]]
        for s in range(1, phones.senones.shape[1]):
            there = phones.senones[:, s] >= 0
            rows = (phones.first + s)[there]
            weight = prior[there] * match[there, :, :, s]
            yield _entries(rows, table[there, :, :, s], weight / weight.sum(axis=(1, 2), keepdims=True))

    def _next(
        self, phones: Phones, match: np.ndarray, left: np.ndarray, belief: np.ndarray, following: np.ndarray, states: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Rows of a phone's first senone: sum over which phone it is, its right context, and a pause before it."""
        count = len(phones.ids)
        weight = np.zeros((count, 2, self.size))
        weight[0, 1] = following[0]
        if count > 1:
            fits = np.einsum("ja,jac->jc", belief[:-1], match[:-1, :, :, -1])
            paused = self.pause[phones.ids[:-1]][:, None]
            weight[1:, 0] = fits * following[1:count] * (1.0 - paused)
            weight[1:, 1] = fits[:, [EDGE]] * following[1:count] * paused
        weight /= weight.sum(axis=(1, 2), keepdims=True)
        j, phone = np.nonzero(weight.sum(axis=1) > NEGLIGIBLE)
        after = on_tree(self.tree, self.trie.distributions(self.trie.advance(states[:, j], phone)))
        joint = weight[j, :, phone][:, :, None] * self._right(phone, after)[:, None, :]
        # The left context of these rows is the phone before j, which `left` holds for the phone that came.
        return _entries(phones.first[j], self.tree.pdf_map[left[j], phone[:, None], :, 0], joint)


def _even(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Even distributions (1 + P * S, V), row 0 over all phones' first senones, others over the senones of one phone and
    state; and turn (V,): which of them follows a senone."""
    depth = tree.pdf_map.shape[3]
    owner = 1 + tree.pdf_phone.astype(np.int64) * depth + tree.pdf_state
    table = np.zeros((1 + tree.pdf_map.shape[0] * depth, tree.num_pdfs))
    table[owner, np.arange(tree.num_pdfs)] = 1.0
    table[0] = tree.pdf_state == 0
    last = tree.pdf_state + 1 == tree.num_states[tree.pdf_phone]
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1.0), np.where(last, 0, owner + 1)


def _entries(rows: np.ndarray, senones: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, ...]:
    """(row, senone, weight) of all places of some rows; places without a senone (-1) carry no weight worth keeping."""
    there = (senones >= 0) & (weight > 0)
    return np.broadcast_to(rows.reshape(-1, 1, 1), senones.shape)[there], senones[there].astype(np.int64), weight[there]
