"""The code of levels: decoding inverts coding, the size matches the tables, and unseen rows cost more but are correct."""

import numpy as np
import pytest
import rans_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtool.core.errors import KdError
from kdtool.posteriors import rans
from kdtool.posteriors.rans import LANE, SYMBOLS, UNIT, LevelCode, learn

UNITS, CONTEXTS, LEVELS = 30, 4, 80
BINS = np.random.default_rng(0).integers(4, 40, (CONTEXTS, UNITS)).astype(np.uint8)
LOG_VALUE = np.rint(np.log(np.linspace(0.02, 1.0, LEVELS)) * UNIT).astype(np.int16)


def _levels(rows: int, seed: int, top: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Rows that keep one entry at least, mostly what the prior has first."""
    rng = np.random.default_rng(seed)
    context = rng.integers(0, CONTEXTS, rows)
    levels = rng.integers(0, top, (rows, UNITS)) * (rng.random((rows, UNITS)) < np.exp(BINS[context] / -10.0))
    levels[np.arange(rows), rng.integers(0, UNITS, rows)] = 1
    return levels.astype(np.uint16), context


def _decoded(code: LevelCode, levels: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    words, others = code.encode(levels, context)
    for mine, other in zip((words, others), rans_reference.encode(code, levels, context), strict=True):
        np.testing.assert_array_equal(mine, other)
    counts = (levels > 0).sum(axis=1)
    ids, found = code.decode(words, others, context, counts)
    for mine, other in zip((ids, found), rans_reference.decode(code, words, others, context, counts), strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)
    row = np.repeat(np.arange(len(levels)), counts)
    order = np.lexsort((ids, -found, row))
    np.testing.assert_array_equal(order, np.arange(len(ids)))
    back = np.zeros(levels.shape, np.uint16)
    back[row, ids] = found
    return back, words


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 999), st.sampled_from([2, 40, SYMBOLS, LEVELS]), st.sampled_from([1, 5, LANE]))
def test_rows_come_back(rows: int, seed: int, top: int, lane: int) -> None:
    """Levels without a separate code, levels missing from the sample, more and fewer lanes than rows."""
    code, _ = learn(BINS, LOG_VALUE, *_levels(9, seed + 1))
    levels, context = _levels(rows, seed, top)
    rans.LANE = lane
    try:
        np.testing.assert_array_equal(_decoded(code, levels, context)[0], levels)
    finally:
        rans.LANE = LANE


def test_the_size_is_what_the_tables_say() -> None:
    levels, context = _levels(2000, 3)
    code, bits = learn(BINS, LOG_VALUE, levels, context)
    back, words = _decoded(code, levels, context)
    np.testing.assert_array_equal(back, levels)
    lanes = 1 + int((levels > 0).sum()) // LANE
    assert bits / 16 < len(words) < 1.01 * bits / 16 + 2 * lanes


def test_tables_are_whole_and_can_code_anything() -> None:
    code, _ = learn(BINS, LOG_VALUE, *_levels(3, 5))
    assert (code.freq.sum(axis=1, dtype=np.int64) == 1 << rans.BITS).all() and (code.freq[:, -1] >= 1).all()


def test_a_row_that_is_a_constant_times_its_prior_costs_little() -> None:
    """As in an n-gram's row whose context adds nothing: the first entries tell the constant, and all others follow."""
    rng = np.random.default_rng(7)
    context, factor = rng.integers(0, CONTEXTS, 600), np.exp(rng.uniform(-1.0, 1.0, 600))
    probs = np.exp(BINS[context] * -rans.BIN) * factor[:, None]
    levels = np.clip(np.searchsorted(np.exp(LOG_VALUE / UNIT), probs, side="right") - 1, 0, LEVELS - 2).astype(np.uint16)
    levels[np.arange(600), BINS[context].argmin(axis=1)] |= 1
    same, bits = learn(BINS, LOG_VALUE, levels, context)
    shuffled = rng.permuted(levels, axis=0)
    shuffled[:, 0] |= 1
    _, other = learn(BINS, LOG_VALUE, shuffled, context)
    assert bits < 0.7 * other
    np.testing.assert_array_equal(_decoded(same, levels, context)[0], levels)


def test_words_that_are_no_code_of_the_rows_are_refused() -> None:
    levels, context = _levels(40, 2, LEVELS)
    code, _ = learn(BINS, LOG_VALUE, levels, context)
    words, others = code.encode(levels, context)
    counts = (levels > 0).sum(axis=1)
    broken = words.copy()
    broken[0] ^= 1 << 14
    for bad in (words[:-1], words[:1], np.append(words, words[:1]), broken, words[:0]):
        with pytest.raises(KdError, match=r"words are no code of 40 rows with \d+ entries; dump again"):
            code.decode(bad, others, context, counts)
    with pytest.raises(KdError, match="are no code"):
        code.decode(words, np.append(others, 70), context, counts)
    for count in (0, UNITS + 1):
        counts[3] = count
        with pytest.raises(KdError, match=rf"entries of {UNITS}; dump again"):
            code.decode(words, others, context, counts)


def test_both_types_of_levels_give_the_same_words_and_rows_of_nothing_are_refused() -> None:
    levels, context = _levels(40, 2, LEVELS)
    code, _ = learn(BINS, LOG_VALUE, levels, context)
    for mine, other in zip(code.encode(levels, context), code.encode(levels.astype(np.uint8), context), strict=True):
        np.testing.assert_array_equal(mine, other)
    levels[3, 0] = LEVELS
    with pytest.raises(KdError, match=f"level {LEVELS} of a code of {LEVELS}"):
        code.encode(levels, context)
    levels[3] = 0
    with pytest.raises(KdError, match="row 3 of 40 keeps nothing"):
        code.encode(levels, context)
