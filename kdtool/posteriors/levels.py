"""Codes levels as words and back in C++ (``levels.cc``).  In: a LevelCode's tables, rows.  Out: words, or kept entries.

Decoding takes a third (subwords, 133 entries per row) to a tenth (senones, 3 per row) of the time of array arithmetic.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.native import NO_MEMORY, load

_ARRAYS = ("log_prior", "unit", "ahead", "fine", "spread", "left", "value", "most", "push", "last", "freq", "below", "which")


class _Tables(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_void_p) for name in _ARRAYS),
                *((name, ctypes.c_int64) for name in ("fines", "offs", "levels", "symbols", "units"))]  # fmt: skip


class NativeLevels:
    """The tables of one code, all int64 but ``which`` uint8, named as in ``levels.cc``; they are not copied."""

    def __init__(self, tables: dict[str, np.ndarray], symbols: int, units: int) -> None:
        self._library = load()
        self._arrays = {name: np.ascontiguousarray(tables[name], np.uint8 if name == "which" else np.int64) for name in _ARRAYS}
        sizes = {"fines": len(tables["fine"]), "offs": len(tables["push"]), "levels": len(tables["value"]), "symbols": symbols,
                 "units": units}  # fmt: skip
        self._tables = _Tables(**{name: array.ctypes.data for name, array in self._arrays.items()}, **sizes)

    def encode(self, levels: np.ndarray, begin: np.ndarray, counts: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
        """(words uint16, levels without a code, int64) of rows uint8 or uint16 (N, V); begin and counts as below.

        Raises:
            KdError: too little memory.
        """
        if levels.dtype not in (np.uint8, np.uint16):
            raise KdError(f"levels of {levels.dtype}; uint8 or uint16 is needed")
        levels = np.ascontiguousarray(levels)
        num_words, num_others = ctypes.c_int64(), ctypes.c_int64()
        done = self._library.kd_levels_encode(ctypes.byref(self._tables), levels.ctypes.data, levels.itemsize,
                                              np.ascontiguousarray(begin, np.int64), np.ascontiguousarray(counts, np.int64), len(counts),
                                              lanes, ctypes.byref(num_words), ctypes.byref(num_others))  # fmt: skip
        if not done:
            raise KdError(f"too little memory to code {len(counts)} rows; use fewer jobs at once, or smaller shards")
        words, others = np.empty(num_words.value, np.uint16), np.empty(num_others.value, np.int64)
        self._library.kd_levels_fetch(done, words, others)
        return words, others

    def decode(self, words: np.ndarray, others: np.ndarray, begin: np.ndarray, counts: np.ndarray, lanes: int) -> tuple[Any, Any]:
        """(ids, levels) int32 (M,): row after row, each row's highest level first, equal ones by ascending id.

        words: uint16; others, begin (the row's place in the tables), counts (of kept entries, at least 1): int64.

        Raises:
            KdError: words that are no code of such rows, or too little memory.
        """
        ids, levels = (np.empty(int(counts.sum()), np.int32) for _ in range(2))
        result = self._library.kd_levels_decode(ctypes.byref(self._tables), np.ascontiguousarray(words, np.uint16), len(words),
                                                np.ascontiguousarray(others, np.int64), len(others), np.ascontiguousarray(begin, np.int64),
                                                np.ascontiguousarray(counts, np.int64), len(counts), lanes, ids, levels)  # fmt: skip
        if result == NO_MEMORY:
            raise KdError(f"too little memory for {len(ids)} entries of a dump; use fewer jobs at once, or smaller shards")
        if result:
            raise KdError(f"{len(words)} words are no code of {len(counts)} rows with {len(ids)} entries; dump again")
        return ids, levels
