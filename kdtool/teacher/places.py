"""Lookup in a sorted table.  In: the table, once, and numbers, in batches.  Out: their indices, -1 for missing ones.

A rank/select bitmap: one bit per possible number says whether it is in the table, and the count of bits before it gives its index. Two
memory accesses replace the twenty of a binary search; a missing number, the usual case for n-grams, needs one.
"""

from __future__ import annotations

import numpy as np

MOST = 1 << 26  # largest bitmap, bytes
RANKED = 1 << 23  # largest bitmap with stored counts (four times its size), bytes
ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


class Places:
    """Indices in `keys`, int64 (M,) strictly ascending, all from 0 to `top` - 1."""

    def __init__(self, keys: np.ndarray, top: int) -> None:
        size = top // 8 + 1
        self.keys = keys if size > RANKED else None
        self.bits: np.ndarray | None = None
        self.before: np.ndarray | None = None
        if size > MOST:
            return
        self.bits = np.zeros(size, dtype=np.uint8)
        byte = keys >> 3
        starts = np.flatnonzero(np.diff(byte, prepend=-1))
        if len(starts):
            self.bits[byte[starts]] = np.add.reduceat(np.uint8(1) << (keys & 7).astype(np.uint8), starts, dtype=np.uint8)
        if self.keys is None:
            self.before = np.zeros(size, dtype=np.uint32)
            np.cumsum(ONES[self.bits[:-1]], out=self.before[1:])

    def __call__(self, wanted: np.ndarray) -> np.ndarray:
        """Indices int64 (N,) of `wanted` int64 (N,), -1 for missing ones."""
        if self.bits is None:
            return find(self.keys, wanted)
        byte, bit = wanted >> 3, (wanted & 7).astype(np.uint8)
        bits = self.bits[byte]
        found = np.full(len(wanted), -1, dtype=np.int64)
        there = np.flatnonzero(bits >> bit & 1)
        if self.before is None:
            found[there] = np.searchsorted(self.keys, wanted[there])
        else:
            lower = bits[there] & ((np.uint8(1) << bit[there]) - np.uint8(1))
            found[there] = self.before[byte[there]] + ONES[lower]
        return found


def find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Indices of `wanted` in the sorted `keys` by binary search, -1 for missing ones."""
    if len(keys) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[found] == wanted, found, -1)
