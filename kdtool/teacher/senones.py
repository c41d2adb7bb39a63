"""Senone sequences read as phones.  In: a decision tree, senone or phone sequences.  Out: helpers for teachers over senones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.tree import Tree

EDGE = 0  # the tree's context at an utterance's edge, the same as that of silence
MISMATCH = 1e-4  # likelihood of a senone that contradicts the tree's context: alignments may differ from the tree


@dataclass
class Phones:
    """A senone sequence read as phones: ids (J,), first senone of each (J,), senones (J, S), padded with -1."""

    ids: np.ndarray
    first: np.ndarray
    senones: np.ndarray


def read_phones(tree: Tree, unit_ids: np.ndarray) -> Phones:
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
    return Phones(phone[first].astype(np.int64), first, senones)


def on_tree(tree: Tree, log_probs: np.ndarray) -> np.ndarray:
    """Probabilities (J, P) over the tree's phone ids; phones that the tree lacks lose their share."""
    size = tree.pdf_map.shape[0]
    probs = np.exp(log_probs[:, :size].astype(np.float64))
    probs = np.pad(probs, ((0, 0), (0, size - probs.shape[1])))
    return probs / probs.sum(axis=1, keepdims=True)


def scatter(out: np.ndarray, rows: np.ndarray, senones: np.ndarray, weight: np.ndarray) -> None:
    """out[rows[i], senones[i, ...]] += weight[i, ...]; entries without a senone (-1) have negligible weight."""
    there = (senones >= 0) & (weight > 0)
    flat = (np.broadcast_to(rows.reshape(-1, 1, 1), senones.shape) * out.shape[1] + senones)[there]
    out += np.bincount(flat, weights=weight[there], minlength=out.size).reshape(out.shape)
