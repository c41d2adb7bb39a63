"""The range coder of dumps in array arithmetic: the reference of the one in C++ (kdtool/posteriors/levels.cc)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kdtool.posteriors.rans import BITS, SYMBOLS, LevelCode, _lanes

_LOW, _WORD = 1 << 16, 0xFFFF

Take = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def walk(code: LevelCode, context: np.ndarray, counts: np.ndarray, take: Take) -> None:
    """Visit all rows' entries up to the last kept one, one step for all lanes at once.

    ``take(table, lane, row, place)`` returns the levels; places index flat (C, V) arrays in the order of descending prior.
    """
    lane, waiting = np.arange(_lanes(counts)), _lanes(counts)
    row, begin = lane.copy(), context * code.num_units
    place, left = begin[row], counts[row]
    drift, last = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
    while len(lane):
        expected = code._log_prior.take(place)
        expected += drift
        table = code._fine.take(expected, mode="clip")
        table += code._spread.take(code._left.take(left) + code._ahead.take(place))
        table += last
        level = take(table, lane, row, place)
        off = code._value.take(level)
        off -= expected
        np.minimum(off, code._most.take(level), out=off)
        drift += code._push.take(off, mode="clip")
        last = code._last.take(off, mode="clip")
        left -= level > 0
        place += 1
        if np.count_nonzero(left) < len(left):
            done = (left == 0).nonzero()[0]
            row[done] = np.arange(waiting, waiting + len(done))
            waiting += len(done)
            if waiting > len(counts):
                there = row < len(counts)
                lane, row, place, left, drift, last = (x[there] for x in (lane, row, place, left, drift, last))
                done = (left == 0).nonzero()[0]
            place[done], left[done] = begin[row[done]], counts[row[done]]
            drift[done] = last[done] = 0


def visit(code: LevelCode, levels: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """(table, level) of each entry in the order of its coding, and the lanes of each step."""
    flat, counts = levels.reshape(-1), (levels > 0).sum(axis=1)
    tables, found, lanes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []

    def take(table: np.ndarray, lane: np.ndarray, row: np.ndarray, place: np.ndarray) -> np.ndarray:
        level = flat.take(row * code.num_units + code._unit.take(place)).astype(np.int64)
        tables.append(table)
        found.append(level)
        lanes.append(lane)
        return level

    walk(code, context, counts, take)
    return np.concatenate(tables), np.concatenate(found), lanes


def encode(code: LevelCode, levels: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    table, level, lanes = visit(code, levels, context)
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

    walk(code, context, counts, take)
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
