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

from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError
from kdtool.teacher.base import Teacher, check_ids
from kdtool.teacher.masked_ngram import MaskedNgramTeacher
from kdtool.teacher.senones import EDGE, Phones, TreeOptions, TreeTeacher, scatter


@dataclass(frozen=True)
class MaskedTreeOptions(TreeOptions):
    """As of kind tree; neighbours: use the neighbours' senones, not only their phones."""

    neighbours: bool = True


class MaskedTreeTeacher(TreeTeacher):
    """P(senone | other phones' senones) through any masked phone teacher and the tree."""

    kind, context, options, phone_kind = "masked_tree", "masked", MaskedTreeOptions, MaskedNgramTeacher
    made_from, instead = "masked phone teacher", "masked_ngram, blstm or mix"
    cfg: MaskedTreeOptions

    @classmethod
    def takes(cls, phone: Teacher) -> bool:
        return phone.context == "masked"

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        check_ids(unit_ids, self.num_units, self.unit)
        if len(unit_ids) == 0:
            return np.zeros((0, self.num_units), dtype=np.float32)
        phones = Phones.read(self.tree, unit_ids)
        states = (phones.senones >= 0).sum(axis=1)
        if states[-1] != self.tree.num_states[phones.ids[-1]]:
            raise KdError(f"the last phone has {states[-1]} senones, its HMM {self.tree.num_states[phones.ids[-1]]} states; align again")
        left, right = self.lefts(phones.ids), self.lefts(phones.ids[::-1])[::-1]
        # The masked phone has as many states as there are hidden senones.
        weight = self._weights(phones, left, right) * (self.tree.num_states == states[:, None])[:, :, None, None]
        weight /= weight.sum(axis=(1, 2, 3), keepdims=True)
        out = np.zeros((len(unit_ids), self.num_units))
        table = self.tree.pdf_map[left[:, None, :, None], np.arange(self.size)[:, None, None], right[:, None, None, :]]
        for s in range(self.depth):
            there = np.flatnonzero(states > s)
            scatter(out, phones.first[there] + s, table[there, ..., s], weight[there])
        # Spread evenly: over all senones of the same HMM state, of phones with as many states.
        even = (self.tree.num_states[self.tree.pdf_phone] == states.repeat(states)[:, None]) & (
            self.tree.pdf_state == self.tree.pdf_state[unit_ids][:, None])  # fmt: skip
        out = out * (1.0 - self.cfg.smooth) + even * (self.cfg.smooth / even.sum(axis=1, keepdims=True))
        with np.errstate(divide="ignore"):
            return np.log(out).astype(np.float32)  # type: ignore[no-any-return]

    def _weights(self, phones: Phones, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """float64 (J, P, 2, 2), up to a factor per j: P(phone j, no pause or a pause before it, and after it | the rest)."""
        count = len(phones.ids)
        # P(a phone's senones | its two left contexts, every right one), and (J, P, 2) of every left context and its two right ones.
        to_right, to_left = np.ones((count, 2, self.size)), np.ones((count, self.size, 2))
        if self.cfg.neighbours:
            to_right = phones.likelihood(self.tree.pdf_map[left, phones.ids[:, None]])[..., -1]
            to_left = phones.likelihood(np.moveaxis(self.tree.pdf_map[:, phones.ids[:, None], right], 0, 1))[..., -1]
        whole = np.stack([to_right[np.arange(count), :, right[:, 0]], to_right[:, :, EDGE]], axis=2)
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
        prior = self.on_tree(self.phone.log_probs(phones.ids))
        return prior[:, :, None, None] * before[:, :, :, None] * after[:, :, None, :]
