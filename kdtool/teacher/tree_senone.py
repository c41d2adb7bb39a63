"""Senone teacher derived from a phone n-gram.  In: a phone model and the decision tree.  Out: P(senone | senones before).

A senone history identifies the phones so far, and hints at what comes next, as the tree's leaves depend on the
right neighbour. So the model is a filter: it keeps a belief about the unknowns (the next phone, and
whether there was a pause between two phones) and sums the phone model over it, exactly. A phone n-gram of order 6 sees 18
senones back, far more than an n-gram over senones can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import UsageError
from kdtool.formats.tree import Tree
from kdtool.teacher.base import Teacher, TrainingText, check_options
from kdtool.teacher.ngram import NgramTeacher, check_ids
from kdtool.teacher.senones import EDGE, MISMATCH, Phones, on_tree, read_phones
from kdtool.teacher.trie import NgramTrie

NEGLIGIBLE = 1e-4  # less likely next phones are left out of the sum
BLOCK_BYTES = 1 << 19  # of float64 rows per block: fits the processor's cache
NOTHING = 1e-9  # the same for a pause, or none, before such a phone: 0.1% of a dump's smallest step


@dataclass(frozen=True)
class TreeOptions:
    """phone: options of the phone n-gram, unused when a trained phone teacher is given. smooth: share of the mass that
    is spread evenly over all senones of the next HMM state."""

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
        self._even = (smooth * even).astype(np.float32)

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> TreeSenoneTeacher:
        cfg: TreeOptions = check_options(TreeOptions, options, cls.kind)
        if text.unit != "senone":
            raise UsageError(f"kind tree is for senones, not {text.unit}s; use ngram, lstm or mix")
        if text.extras["tree"].shared:
            raise UsageError("kind tree reads the phone off a senone, but this tree shares senones among a phone's positions in the word; "
                             "use kind ngram, lstm or mix for senones")  # fmt: skip
        if not 0 < cfg.smooth < 1:
            raise UsageError(f"smooth {cfg.smooth}: a share between 0 and 1 is expected")
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
        return self.log_probs_many([unit_ids])[0]

    def log_probs_many(self, sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
        for ids in sentences:
            check_ids(ids, self.num_units, self.unit)
        read = [read_phones(self.tree, ids) for ids in sentences if len(ids)]
        if not read:
            return [np.zeros((0, self.num_units), dtype=np.float32) for _ in sentences]
        phones = _join(read, [len(ids) for ids in sentences if len(ids)])
        begins = np.cumsum([0, *(len(p.ids) for p in read)])
        starts = np.zeros(len(phones.ids), dtype=bool)
        starts[begins[:-1]] = True
        # States before each phone of a sentence and after its last: phone j lies between before[j] and before[j] + 1.
        states = self.trie.states_before(np.insert(phones.ids, begins[:-1], self.trie.num_units))
        before = np.arange(len(phones.ids)) + np.cumsum(starts) - 1
        following = on_tree(self.tree, self.trie.distributions(states))
        match, left = self._match(phones, starts)
        belief = self._pauses(phones.ids, match, starts)
        inside = list(self._inside(phones, match, left, belief, following[before + 1]))
        first = self._next(phones, match, left, belief, following[before], states[:, before], starts)
        parts = [*inside, first]
        turn = np.append(0, self._turn[np.concatenate(sentences)])[:-1]
        turn[phones.first[starts]] = 0
        out = np.empty((len(turn), self.num_units), dtype=np.float32)
        rows = max(1, BLOCK_BYTES // (8 * self.num_units))
        for row in range(0, len(out), rows):
            own = slice(row, min(row + rows, len(out)))
            self._wide(out[own], [part.rows_of(own) for part in parts], turn[own])
        return np.split(out, np.cumsum([len(ids) for ids in sentences])[:-1])

    def _wide(self, out: np.ndarray, parts: list[_Entries], turn: np.ndarray) -> None:
        """Log-probabilities float32 (N, V) of some rows from their entries; ``turn`` (N,): the row of `even` to add."""
        shape = (len(turn), self.num_units + 1)
        # Nearly all of a row is empty: the wide table is filled once. Entries without senone (-1) are written before the first.
        place = np.concatenate([((p.rows * shape[1] + 1)[:, None] + p.senones).ravel() for p in parts])
        table = np.bincount(place, np.concatenate([p.weights.ravel() for p in parts]), shape[0] * shape[1]).reshape(shape)
        total = np.bincount(np.concatenate([p.rows for p in parts]), np.concatenate([p.totals for p in parts]), shape[0]) - table[:, 0]
        np.take(self._even, turn, axis=0, out=out, mode="clip")
        table *= ((1.0 - self.smooth) / total)[:, None]
        out += table[:, 1:]
        with np.errstate(divide="ignore"):
            np.log(out, out=out)

    def _match(self, phones: Phones, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """match (J, 2, P, S + 1): likelihood of a phone's first s senones, given whether a pause came before it (0 no,
        1 yes) and its right context (EDGE for a pause); left (J, 2): the left context in both cases."""
        before = np.where(starts, EDGE, np.concatenate([[EDGE], phones.ids])[: len(starts)])
        left = np.stack([before, np.full_like(before, EDGE)], axis=1)
        table = self.tree.pdf_map[left, phones.ids[:, None]]
        match = np.ones((*table.shape[:3], table.shape[3] + 1))
        for s, seen in enumerate(phones.senones.T[:, :, None, None]):
            fits = (table[..., s] == seen) | (seen < 0)
            np.multiply(match[..., s], np.where(fits, 1.0, MISMATCH), out=match[..., s + 1])
        return match, left

    def _pauses(self, ids: np.ndarray, match: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """belief (J, 2): P(no pause, pause before phone j | everything up to phone j - 1, and phone j itself)."""
        paused = self.pause[ids[:-1]]
        on = match[np.arange(len(paused)), :, ids[1:], -1] * (1.0 - paused)[:, None]
        off = match[: len(paused), :, EDGE, -1] * paused[:, None]
        # One step per phone with a few numbers: plain Python floats are faster there than arrays.
        belief, none, pause = [], 0.0, 1.0
        for start, (a, b), (c, d) in zip(starts.tolist(), [(0.0, 0.0), *on.tolist()], [(0.0, 0.0), *off.tolist()], strict=True):
            none, pause = (0.0, 1.0) if start else (none * a + pause * b, none * c + pause * d)
            total = none + pause
            none, pause = none / total, pause / total
            belief.append((none, pause))
        return np.array(belief)

    def _right(self, phone: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Prior (.., P) of a phone's right context: the next phone, or EDGE for a pause."""
        paused = self.pause[phone][..., None]
        right = following * (1.0 - paused)
        right[..., EDGE] = paused[..., 0]
        return right

    def _inside(
        self, phones: Phones, match: np.ndarray, left: np.ndarray, belief: np.ndarray, following: np.ndarray
    ) -> Iterator[_Entries]:
        """Rows of a phone's second and later senones: sum over the pause before and the right context."""
        prior = belief[:, :, None] * self._right(phones.ids, following)[:, None, :]
        table = self.tree.pdf_map[left, phones.ids[:, None]]
        for s in range(1, phones.senones.shape[1]):
            there = np.flatnonzero(phones.senones[:, s] >= 0)
            weight = (prior[there] * match[there, :, :, s]).reshape(len(there), 2 * self.size)
            yield _Entries(phones.first[there] + s, table[there, :, :, s].reshape(weight.shape),
                           weight / weight.sum(axis=1, keepdims=True), np.ones(len(there)))  # fmt: skip

    def _next(
        self, phones: Phones, match: np.ndarray, left: np.ndarray, belief: np.ndarray, following: np.ndarray, states: np.ndarray,
        starts: np.ndarray,
    ) -> _Entries:  # fmt: skip
        """Rows of a phone's first senone: sum over which phone it is, its right context, and a pause before it."""
        weight = np.zeros((len(phones.ids), 2, self.size))
        fits = np.einsum("ja,jac->jc", belief[:-1], match[:-1, :, :, -1])
        paused = self.pause[phones.ids[:-1]][:, None]
        weight[1:, 0] = fits * following[1:] * (1.0 - paused)
        weight[1:, 1] = fits[:, [EDGE]] * following[1:] * paused
        weight[starts, 0], weight[starts, 1] = 0.0, following[starts]
        weight /= weight.sum(axis=(1, 2), keepdims=True)
        j, phone = np.nonzero(weight.sum(axis=1) > NEGLIGIBLE)
        after = self.trie.advance(states[:, j], phone)
        right = self._right(phone, on_tree(self.tree, self.trie.distributions(after)))
        pair, pause = np.nonzero(weight[j, :, phone] > NOTHING)
        j, phone, right = j[pair], phone[pair], right[pair]
        share = weight[j, pause, phone]
        # The left context of these rows is the phone before j, which `left` holds for the phone that came.
        senones = self.tree.pdf_map[..., 0][left[j, pause], phone]
        return _Entries(phones.first[j], senones, right * share[:, None], right.sum(axis=1) * share)


@dataclass
class _Entries:
    """Addends of E rows, by ascending row: senones (E, C), -1 for none, weights (E, C), and the weights' sums (E,)."""

    rows: np.ndarray
    senones: np.ndarray
    weights: np.ndarray
    totals: np.ndarray

    def rows_of(self, own: slice) -> _Entries:
        """The entries of a slice of rows, renumbered from 0."""
        part = slice(*np.searchsorted(self.rows, (own.start, own.stop)))
        return _Entries(self.rows[part] - own.start, self.senones[part], self.weights[part], self.totals[part])


def _join(read: list[Phones], lengths: list[int]) -> Phones:
    """Phones of sentences of ``lengths`` senones, concatenated."""
    offsets = np.cumsum(lengths) - lengths
    return Phones(
        np.concatenate([p.ids for p in read]), np.concatenate([p.first + o for p, o in zip(read, offsets, strict=True)]),
        np.concatenate([p.senones for p in read]),
    )  # fmt: skip


def _even(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Uniform distributions (1 + P * S, V), row 0 over all phones' first senones, others over the senones of one phone and
    state; and turn (V,): the row that applies after a senone."""
    depth = tree.pdf_map.shape[3]
    owner = 1 + tree.pdf_phone.astype(np.int64) * depth + tree.pdf_state
    table = np.zeros((1 + tree.pdf_map.shape[0] * depth, tree.num_pdfs))
    table[owner, np.arange(tree.num_pdfs)] = 1.0
    table[0] = tree.pdf_state == 0
    last = tree.pdf_state + 1 == tree.num_states[tree.pdf_phone]
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1.0), np.where(last, 0, owner + 1)

