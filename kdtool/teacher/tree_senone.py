"""Senone teacher derived from a phone n-gram.  In: a phone model and the decision tree.  Out: P(senone | senones before).

The model is a filter: it keeps a belief about the unknowns (the next phone, and whether there was a pause between two phones) and sums the
phone model over it, exactly. A phone n-gram of order 6 sees 18 senones back, far more than an n-gram over senones can.
"""

import numpy as np

from kdtool.formats.tree import Tree
from kdtool.teacher.base import check_ids
from kdtool.teacher.ngram import NgramTeacher
from kdtool.teacher.senones import EDGE, Phones, TreeOptions, TreeTeacher, scatter

NEGLIGIBLE = 1e-4  # less likely next phones are left out of the sum
NOTHING = 1e-9  # the same for a pause, or none, before such a phone: 0.1% of a dump's smallest step


class TreeSenoneTeacher(TreeTeacher):
    """P(senone | history) through phone n-gram and tree."""

    kind, phone_kind, made_from, instead = "tree", NgramTeacher, "phone n-gram", "ngram, lstm or mix"
    phone: NgramTeacher

    def __init__(self, phone: NgramTeacher, tree: Tree, pause: np.ndarray, cfg: TreeOptions) -> None:
        super().__init__(phone, tree, pause, cfg)
        self.trie = phone.trie
        # even (1 + P * S, V): uniform distributions, row 0 over all phones' first senones, others over the senones of one phone and
        # state; turn (V,): the row that applies after a senone.
        owner = 1 + tree.pdf_phone.astype(np.int64) * self.depth + tree.pdf_state
        even = np.zeros((1 + self.size * self.depth, tree.num_pdfs))
        even[owner, np.arange(tree.num_pdfs)] = 1.0
        even[0] = tree.pdf_state == 0
        self._even = (cfg.smooth * (even / np.maximum(even.sum(axis=1, keepdims=True), 1.0))).astype(np.float32)
        self._turn = np.where(tree.pdf_state + 1 == tree.num_states[tree.pdf_phone], 0, owner + 1)

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        check_ids(unit_ids, self.num_units, self.unit)
        if len(unit_ids) == 0:
            return np.zeros((0, self.num_units), dtype=np.float32)
        phones = Phones.read(self.tree, unit_ids)
        left = self.lefts(phones.ids)
        table = self.tree.pdf_map[left, phones.ids[:, None]]
        # match (J, 2, P, S + 1): given whether a pause came before the phone (0 no, 1 yes), and its right context (EDGE for a pause).
        match = phones.likelihood(table)
        belief = self._pauses(phones.ids, match[..., -1])
        states = self.trie.states(phones.ids)
        following = self.on_tree(self.trie.distributions(states))
        out = np.zeros((len(unit_ids), self.num_units))
        # A phone's second and later senones: sum over the pause before and the right context.
        prior = belief[:, :, None] * self._right(phones.ids, following[1:])[:, None, :]
        for s in range(1, self.depth):
            there = np.flatnonzero(phones.senones[:, s] >= 0)
            weight = prior[there] * match[there, :, :, s]
            scatter(out, phones.first[there] + s, table[there, :, :, s], weight / weight.sum(axis=(1, 2), keepdims=True))
        self._first_senones(out, phones, match[..., -1], left, belief, following, states)
        out *= ((1.0 - self.cfg.smooth) / out.sum(axis=1))[:, None]
        smoothed = self._even[np.append(0, self._turn[unit_ids[:-1]])]
        smoothed += out
        with np.errstate(divide="ignore"):
            return np.log(smoothed, out=smoothed)  # type: ignore[no-any-return]

    def _pauses(self, ids: np.ndarray, match: np.ndarray) -> np.ndarray:
        """belief (J, 2): P(no pause, pause before phone j | everything up to phone j - 1, and phone j itself)."""
        paused = self.pause[ids[:-1]][:, None]
        on, off = match[np.arange(len(paused)), :, ids[1:]] * (1.0 - paused), match[: len(paused), :, EDGE] * paused
        # One step per phone with a few numbers: plain Python floats are faster there than arrays.
        none, pause = 0.0, 1.0
        belief = [(none, pause)]
        for (a, b), (c, d) in zip(on.tolist(), off.tolist(), strict=True):
            none, pause = none * a + pause * b, none * c + pause * d
            none, pause = none / (none + pause), pause / (none + pause)
            belief.append((none, pause))
        return np.array(belief)

    def _right(self, phone: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Prior (N, P) of a phone's right context: the next phone, or EDGE for a pause."""
        right = following * (1.0 - self.pause[phone])[:, None]
        right[:, EDGE] = self.pause[phone]
        return right

    def _first_senones(
        self, out: np.ndarray, phones: Phones, match: np.ndarray, left: np.ndarray, belief: np.ndarray, following: np.ndarray,
        states: np.ndarray,
    ) -> None:  # fmt: skip
        """Rows of a phone's first senone: sum over which phone it is, its right context, and a pause before it."""
        weight = np.zeros((len(phones.ids), 2, self.size))
        fits = np.einsum("ja,jac->jc", belief[:-1], match[:-1])
        paused = self.pause[phones.ids[:-1]][:, None]
        weight[0, 1] = following[0]
        weight[1:, 0] = fits * following[1:-1] * (1.0 - paused)
        weight[1:, 1] = fits[:, [EDGE]] * following[1:-1] * paused
        weight /= weight.sum(axis=(1, 2), keepdims=True)
        j, phone = np.nonzero(weight.sum(axis=1) > NEGLIGIBLE)
        after = self.trie.step(states[:, j], self.trie.symbol[phone])[0]
        right = self._right(phone, self.on_tree(self.trie.distributions(after)))
        pair, pause = np.nonzero(weight[j, :, phone] > NOTHING)
        j, phone = j[pair], phone[pair]
        # The left context of these rows is the phone before j, which `left` holds for the phone that came.
        scatter(out, phones.first[j], self.tree.pdf_map[..., 0][left[j, pause], phone], right[pair] * weight[j, pause, phone][:, None])
