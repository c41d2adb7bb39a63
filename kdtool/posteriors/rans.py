"""Codes the levels of a teacher's rows compactly.  In: levels (N, V), the unit before each row.  Out: 16-bit words, and back.

The entries of a row are visited by descending prior (given the unit before it). Each is coded by a range coder
(rANS: Duda 2013, arXiv 1311.2540; interleaved as in Giesen 2014, arXiv 1402.3392) with one of a few hundred fixed tables, chosen by
- the level expected from the prior and the previous entries of the row: an n-gram's row is mostly that of a shorter context times a
  constant, so the error on the last entries predicts the error on this one;
- the number of remaining kept entries relative to the expected number (the row ends with the last of them);
- whether the previous entry was far above or below its expectation.
Many rows are coded in parallel (a lane that has finished one takes the next). Coding is done in C++ (``levels.cc``;
tests/unit/rans_reference.py is the slow form). Only integers select the table, so every machine decodes alike.
"""

import ctypes
from functools import cached_property

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.native import NO_MEMORY, load

UNIT = 16  # fixed-point logarithms: units per nat
BIN = 0.25  # nats per bin of the prior
LAST_BIN = 254
FINE, SPREAD, AHEAD = 28, 13, 3  # tables: expected level x remaining entries x surprise of the last one
SYMBOLS = 64  # levels with a code; the last one represents all others, which are listed separately
BITS = 12  # precision of the tables' probabilities
LANE = 600  # kept entries per lane; each lane costs two extra bytes
FAR = 2 * UNIT  # larger deviations do not change the expectation further
ARRAYS = ("log_prior", "unit", "ahead", "fine", "spread", "left", "value", "most", "push", "last", "freq", "below", "which")


class Tables(ctypes.Structure):
    """Those of a code, as in ``levels.cc``: int64, ``which`` uint8."""

    _fields_ = [*((name, ctypes.c_void_p) for name in ARRAYS),
                *((name, ctypes.c_int64) for name in ("fines", "offs", "levels", "symbols", "units"))]  # fmt: skip


class LevelCode:
    """The code of one dump.

    ``bins`` uint8 (C, V): -log prior after each unit in BINs; ``log_value`` int16 (L,): of each level's probability in 1 / UNIT
    nats, for level 0 the floor's; ``freq`` uint16 (FINE * SPREAD * AHEAD, SYMBOLS): the tables, each summing to 2 ** BITS.
    """

    def __init__(self, bins: np.ndarray, log_value: np.ndarray, freq: np.ndarray) -> None:
        self.bins, self.log_value, self.freq = bins, log_value, freq
        self.num_units = bins.shape[1]
        self.order = np.argsort(bins, axis=1, kind="stable")
        self._unit = self.order.ravel()
        # Logarithms count from 3 nats below the floor, so that they are indices into the table of expected levels.
        zero = int(log_value[0]) - 3 * UNIT
        expected = -np.take_along_axis(bins, self.order, axis=1).astype(np.int64) * int(BIN * UNIT) - zero
        self._log_prior = expected.ravel()
        self._fine = (np.arange(FINE * 8) >> 3) * SPREAD * AHEAD
        # Number of entries from this one on whose prior is above the floor, at least one.
        below = 3 * UNIT - UNIT // 2
        above = np.maximum((expected > below).sum(axis=1)[:, None] - np.arange(self.num_units), 1)
        size = _size(self.num_units + 2)
        self._left, self._ahead = size * 64 + 32, -size[above].ravel()
        self._spread = (np.clip(np.arange(64 * 64) % 64 - 32 + np.arange(64 * 64) // 64 + SPREAD // 2, 0, SPREAD - 1)) * AHEAD
        # An entry that was not kept is informative only if it was expected to be.
        self._value = np.append(below, log_value[1:].astype(np.int64) - zero) + FAR
        self._most = np.append(FAR, np.full(len(log_value) - 1, 1 << 20))
        off = np.arange(2 * FAR + 1) - FAR
        self._push, self._last = off >> 3, np.where(off > 12, 2, (off < -4).astype(np.int64))
        self._freq = freq.astype(np.int64).ravel()
        self._below = (np.cumsum(freq, axis=1, dtype=np.int64) - freq).ravel()

    @classmethod
    def empty(cls, bins: np.ndarray, log_value: np.ndarray | None = None) -> "LevelCode":
        """A code without tables yet: it knows its order and can visit rows, not encode them."""
        tables = np.zeros((FINE * SPREAD * AHEAD, SYMBOLS), np.uint16)
        return cls(bins, np.zeros(1, np.int16) if log_value is None else log_value, tables)

    def visit(self, levels: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(table, level) of every coded entry: of each row by descending prior up to the last kept one; one step for all rows at once."""
        row, place, left = np.arange(len(levels)), context * self.num_units, (levels > 0).sum(axis=1)
        drift, last = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
        tables, visited = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        while len(row):
            expected = self._log_prior.take(place) + drift
            spread = self._spread.take(self._left.take(left) + self._ahead.take(place))
            tables.append(self._fine.take(expected, mode="clip") + spread + last)
            level = levels[row, self._unit.take(place)].astype(np.int64)
            visited.append(level)
            off = np.minimum(self._value.take(level) - expected, self._most.take(level))
            drift += self._push.take(off, mode="clip")
            last = self._last.take(off, mode="clip")
            left -= level > 0
            place += 1
            if not left.all():
                row, place, left, drift, last = (x[left > 0] for x in (row, place, left, drift, last))
        return np.concatenate(tables), np.concatenate(visited)

    def encode(self, levels: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(words uint16, levels without a code int64) of some rows, uint8 or uint16. Raises KdError: a row keeps nothing, levels of another
        type or that the code does not have, or too little memory."""
        counts = (levels > 0).sum(axis=1)
        if not counts.all():
            raise KdError(f"row {counts.argmin()} of {len(counts)} keeps nothing; this is a bug, please report it")
        if levels.max(initial=0) >= len(self.log_value):
            raise KdError(f"level {levels.max()} of a code of {len(self.log_value)}; this is a bug, please report it")
        if levels.dtype not in (np.uint8, np.uint16):
            raise KdError(f"levels of {levels.dtype}; uint8 or uint16 is needed")
        levels = np.ascontiguousarray(levels)
        num_words, num_others = ctypes.c_int64(), ctypes.c_int64()
        done = load().kd_levels_encode(ctypes.byref(self._tables), levels.ctypes.data, levels.itemsize, self._begin(context),
                                       _longs(counts), len(counts), _lanes(counts), ctypes.byref(num_words),
                                       ctypes.byref(num_others))  # fmt: skip
        if not done:
            raise KdError(f"too little memory to code {len(counts)} rows; use fewer jobs at once, or smaller shards")
        words, others = np.empty(num_words.value, np.uint16), np.empty(num_others.value, np.int64)
        load().kd_levels_fetch(done, words, others)
        return words, others

    def decode(self, words: np.ndarray, others: np.ndarray, context: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids, levels) int32 (M,) of the kept entries of encoded rows: row after row, ``counts`` (N,) in each, a row's highest level
        first, equal ones by ascending id. Raises KdError: rows that keep nothing or more entries than there are, words that are no code of
        such rows, or too little memory."""
        if len(counts) and not 1 <= counts.min() <= counts.max() <= self.num_units:
            raise KdError(f"rows of {counts.min()} to {counts.max()} entries of {self.num_units}; dump again")
        ids, levels = (np.empty(int(counts.sum()), np.int32) for _ in range(2))
        result = load().kd_levels_decode(ctypes.byref(self._tables), np.ascontiguousarray(words, np.uint16), len(words), _longs(others),
                                         len(others), self._begin(context), _longs(counts), len(counts), _lanes(counts), ids,
                                         levels)  # fmt: skip
        if result == NO_MEMORY:
            raise KdError(f"too little memory for {len(ids)} entries of a dump; use fewer jobs at once, or smaller shards")
        if result:
            raise KdError(f"{len(words)} words are no code of {len(counts)} rows with {len(ids)} entries; dump again")
        return ids, levels

    def _begin(self, context: np.ndarray) -> np.ndarray:
        """The place of each row in the tables."""
        return _longs(context * self.num_units)

    @cached_property
    def _tables(self) -> Tables:
        # The arrays are kept: the structure holds only their addresses.
        self._arrays = {name: np.ascontiguousarray(getattr(self, f"_{name}"), np.uint8 if name == "which" else np.int64) for name in ARRAYS}
        return Tables(**{name: array.ctypes.data for name, array in self._arrays.items()}, fines=len(self._fine), offs=len(self._push),
                      levels=len(self._value), symbols=SYMBOLS, units=self.num_units)  # fmt: skip

    @cached_property
    def _which(self) -> np.ndarray:
        """The symbol of each slot of each table, uint8 (FINE * SPREAD * AHEAD << BITS,)."""
        return np.repeat(np.tile(np.arange(SYMBOLS, dtype=np.uint8), len(self.freq)), self._freq)


def _longs(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.int64)


def _lanes(counts: np.ndarray) -> int:
    """Number of rows coded in parallel; a lane that has finished one takes the next waiting one."""
    return min(len(counts), 1 + int(counts.sum()) // LANE)


def _size(most: int) -> np.ndarray:
    """Number of times that 0 .. most - 1 can be halved: int64."""
    size = np.zeros(most, dtype=np.int64)
    for power in range(1, most.bit_length()):
        size[1 << power :] = power
    return size


def learn(bins: np.ndarray, log_value: np.ndarray, levels: np.ndarray, context: np.ndarray) -> "tuple[LevelCode, float]":
    """The code with tables estimated on a sample of rows, and the bits that it takes for them."""
    number = FINE * SPREAD * AHEAD
    table, level = LevelCode.empty(bins, log_value).visit(levels, context)
    cells = table * SYMBOLS + np.minimum(level, SYMBOLS - 1)
    seen = np.bincount(cells, minlength=number * SYMBOLS).reshape(FINE, -1, SYMBOLS).astype(np.float64)
    # A table with little data is replaced by that of the expected level alone, or of all.
    whole = seen.sum(axis=(0, 1)) + 1e-3
    alike = seen.sum(axis=1) + whole / whole.sum()
    share = (seen + 2.0 * (alike / alike.sum(axis=1, keepdims=True))[:, None]).reshape(number, SYMBOLS)
    share /= share.sum(axis=1, keepdims=True)
    freq = np.rint(share * ((1 << BITS) - 1)).astype(np.int64)
    freq[:, -1] = np.maximum(freq[:, -1], 1)
    freq[np.arange(number), freq.argmax(axis=1)] += (1 << BITS) - freq.sum(axis=1)
    bits = -(seen.reshape(number, SYMBOLS) * np.log2(np.maximum(freq, 0.1) / (1 << BITS))).sum()
    return LevelCode(bins, log_value, freq.astype(np.uint16)), float(bits)
