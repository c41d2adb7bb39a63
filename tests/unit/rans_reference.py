"""The range coder of dumps in array arithmetic: the reference of the one in C++ (kdtool/posteriors/levels.cc)."""

from __future__ import annotations

import numpy as np

from kdtool.posteriors.rans import _LOW, _WORD, BITS, SYMBOLS, LevelCode, _lanes


def encode(code: LevelCode, levels: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    table, level, lanes = code.visit(levels, context)
    symbol = np.minimum(level, SYMBOLS - 1)
    symbol[code._freq[table * SYMBOLS + symbol] == 0] = SYMBOLS - 1
    freq, below = code._freq[table * SYMBOLS + symbol], code._below[table * SYMBOLS + symbol]
    state = np.full(len(lanes[0]) if lanes else 0, _LOW, dtype=np.int64)
    words, stop = [], len(table)
    for lane in reversed(lanes):
        part = slice(stop - len(lane), stop)
        stop = part.start
        x, f = state[lane], freq[part]
        full = x >= f << (32 - BITS)
        words.append((x[full] & _WORD).astype(np.uint16))
        x >>= full * 16
        times = (x / f).astype(np.int64)  # exact: below 2 ** 32, and floating division is the faster one
        state[lane] = (times << BITS) + x - times * f + below[part]
    heads = np.stack([state >> 16, state & _WORD]).astype(np.uint16).ravel()
    return np.concatenate([heads, *words[::-1]]), level[symbol == SYMBOLS - 1]


def decode(
    code: LevelCode, words: np.ndarray, others: np.ndarray, context: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    number = _lanes(counts)
    words = words.astype(np.int64)
    state = (words[:number] << 16) + words[number : 2 * number]
    at, other = 2 * number, 0
    which = code._which
    rows, units, found = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]

    def take(table: np.ndarray, lane: np.ndarray, row: np.ndarray, place: np.ndarray) -> np.ndarray:
        nonlocal at, other
        x = state[lane]
        slot = x & ((1 << BITS) - 1)
        level = which.take((table << BITS) + slot).astype(np.int64)
        cell = table * SYMBOLS + level
        x >>= BITS
        x *= code._freq.take(cell)
        x += slot
        x -= code._below.take(cell)
        empty = (x < _LOW).nonzero()[0]
        x[empty] = (x[empty] << 16) + words[at : at + len(empty)]
        at += len(empty)
        state[lane] = x
        if other < len(others):
            rare = (level == SYMBOLS - 1).nonzero()[0]
            level[rare] = others[other : other + len(rare)]
            other += len(rare)
        rows.append(row.copy())
        units.append(code._unit.take(place))
        found.append(level)
        return level

    code._walk(context, counts, take)
    level = np.concatenate(found)
    kept = np.flatnonzero(level > 0)
    row, ids, level = np.concatenate(rows)[kept], np.concatenate(units)[kept], level[kept]
    # Small numbers are sorted in linear time.
    order = np.argsort(_small(ids), kind="stable")
    for keys in (level.max(initial=0) - level, row):
        order = order[np.argsort(_small(keys[order]), kind="stable")]
    return ids[order].astype(np.int32), level[order].astype(np.int32)


def _small(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint16) if values.max(initial=0) < 1 << 16 else values
