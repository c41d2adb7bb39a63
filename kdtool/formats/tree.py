"""Tied HMM states: maps a phone in context to its output distribution ("pdf", senone).

In: a dense table ``pdf_map[left, centre, right, state]``, made by ``kdtool.gmm.tree_build`` or, for
monophone systems, by ``Tree.monophone``. Out: the same table with look-ups, a digest by which models and
alignments identify their tree, and the file ``tree.safetensors``.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_metadata, load_tensors, save_tensors

TREE_FILE = "tree.safetensors"
HMM, CHAIN = "hmm", "chain"
CHAIN_SUBSAMPLING = 3  # 10 ms frames per output of a model with a chain tree


class Tree:
    """Map from (left phone, centre phone, right phone, HMM state) to a pdf number.

    ``pdf_map`` is int32 of shape (P, P, P, S): P is the number of phones + 1 and the index is the phone id
    (0 represents the edge of the utterance and behaves as silence does); S is the largest number of states
    of a phone; missing states are -1. Every pdf belongs to one state and one centre phone, or to phones of one
    family: ``family`` int32 (P,) is each phone's head, itself unless phones depend on their position in the word.
    ``pdf_phone`` (num_pdfs,) is the smallest phone that has the pdf.
    ``topology``: HMM (states in a row, each with a self-loop) or CHAIN (one state, left at once or not: table index 0 is the pdf of a
    phone's first frame, 1 that of all others).
    """

    def __init__(self, pdf_map: np.ndarray, family: np.ndarray | None = None, topology: str = HMM) -> None:
        if topology not in (HMM, CHAIN) or (topology == CHAIN and np.ndim(pdf_map) == 4 and np.shape(pdf_map)[3] != 2):
            raise KdError(f"a tree of topology {topology} and {np.shape(pdf_map)[-1]} pdfs a phone; known are {HMM}, and {CHAIN} with 2")
        self.topology = topology
        table = np.ascontiguousarray(pdf_map, dtype=np.int32)
        if table.ndim != 4 or len(set(table.shape[:3])) != 1 or table.size == 0:
            raise KdError(f"a tree table has shape (P, P, P, S), not {table.shape}; build the tree again")
        self.pdf_map = table
        self.num_pdfs = int(table.max()) + 1
        self.family = np.arange(len(table), dtype=np.int32) if family is None else np.asarray(family, dtype=np.int32)
        if self.family.shape != table.shape[:1]:
            raise KdError(f"a tree of {len(table)} phone ids with {len(self.family)} families; build the tree again")
        self.pdf_phone, self.pdf_state = self._owners(table, self.num_pdfs, self.family)

    @staticmethod
    def _owners(table: np.ndarray, num_pdfs: int, family: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phone = np.full(num_pdfs, -1, dtype=np.int32)
        state = np.full(num_pdfs, -1, dtype=np.int32)
        for centre in range(table.shape[1]):
            for s in range(table.shape[3]):
                pdfs = np.unique(table[:, centre, :, s])
                pdfs = pdfs[pdfs >= 0]
                taken = pdfs[phone[pdfs] >= 0]
                if np.any((family[phone[taken]] != family[centre]) | (state[taken] != s)):
                    raise KdError(f"a pdf of phone {centre}, state {s} also belongs to phone {int(phone[taken].max())}: "
                                  "a tree must not share pdfs between phones or states; build the tree again")  # fmt: skip
                new = pdfs[phone[pdfs] < 0]
                phone[new], state[new] = centre, s
        missing = np.flatnonzero(phone < 0)
        if num_pdfs == 0 or missing.size:
            raise KdError(f"the tree has {num_pdfs} pdfs, of which {missing.size} are never used; build it again")
        return phone, state

    @classmethod
    def monophone(cls, num_states: Mapping[int, int], family: Mapping[int, int] | None = None) -> "Tree":
        """One pdf per state of each phone, or family of phones, for all neighbours. num_states: phone id -> states."""
        heads = family or {p: p for p in num_states}
        size, depth = max(num_states) + 1, max(num_states.values())
        table = np.full((size, size, size, depth), -1, dtype=np.int32)
        pdf = 0
        for head in sorted(set(heads.values())):
            members = [p for p in heads if heads[p] == head]
            for s in range(num_states[head]):
                table[:, members, :, s] = pdf
                pdf += 1
        return cls(table, family_table(heads, size))

    @property
    def shared(self) -> bool:
        """Whether phones share pdfs."""
        return bool((self.family != np.arange(len(self.family))).any())

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the table: two trees are equal exactly if their digests are."""
        head = "x".join(str(n) for n in self.pdf_map.shape).encode()
        head += b"" if self.topology == HMM else self.topology.encode()
        return hashlib.sha256(head + self.pdf_map.astype("<i4").tobytes()).hexdigest()

    @functools.cached_property
    def num_states(self) -> np.ndarray:
        """int32 (P,): the number of states of each phone (0 where the id is no phone)."""
        return (self.pdf_map.max(axis=(0, 2)) >= 0).sum(axis=1).astype(np.int32)

    def save(self, folder: Path) -> None:
        """Write ``tree.safetensors`` into ``folder``."""
        families = {"family": self.family} if self.shared else {}
        save_tensors(Path(folder) / TREE_FILE, {"pdf_map": self.pdf_map, **families},
                     {"digest": self.digest, **({} if self.topology == HMM else {"topology": self.topology})})  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> "Tree":
        """Read ``tree.safetensors``; KdError if the table does not match its digest."""
        path = Path(folder) / TREE_FILE
        tensors = load_tensors(path)
        if "pdf_map" not in tensors:
            raise KdError(f"{path} holds no tree; point to a GMM folder, or train it again")
        about = load_metadata(path)
        tree = cls(tensors["pdf_map"], tensors.get("family"), about.get("topology", HMM))
        stored = about.get("digest")
        if stored != tree.digest:
            raise KdError(f"{path}: the table's digest is {tree.digest[:12]}, the file says {str(stored)[:12]}; train again")
        return tree


def family_table(heads: Mapping[int, int], size: int) -> np.ndarray:
    """int32 (size,): the head of each phone's family; ids without a phone map to themselves."""
    table = np.arange(size, dtype=np.int32)
    table[list(heads)] = list(heads.values())
    return table
