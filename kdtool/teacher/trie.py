"""Back-off n-gram model as arrays.  In: an ARPA model whose words are unit numbers.  Out: full conditional distributions.

The n-grams of each order are sorted by their first n - 1 words, so all continuations of a context are adjacent. A batch
of contexts is answered order by order: start with the rows after the last symbol alone; wherever a longer context is known, add
its back-off weight to the row and overwrite its continuations. This is what KenLM computes unit by unit, for all units at once.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kdtool.core.errors import KdError

if TYPE_CHECKING:
    from kdtool.lm.arpa import Arpa

BLOCK_BYTES = 1 << 19  # rows per block: fits the processor's cache
PAIRS_BYTES = 1 << 26  # the largest table of rows after a single symbol
LARGEST_BITMAP = 1 << 29  # numbers
SPECIAL = ("<unk>", "<s>", "</s>")


class NgramTrie:
    """Symbols are the ARPA file's ids, in the order of its unigrams; ``symbol`` int64 (V + 1,) maps units to them and,
    last, the sentence's begin. Units missing from the text are <unk>, which no context contains.

    A state is a matrix (order - 1, N) of node numbers: row k - 1 holds the node of the last k symbols, -1 if the model
    does not know that context. A node is the index of an n-gram in the tables of its order.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        self.symbol = tensors["symbol"].astype(np.int64)
        self.seen = tensors["seen"].astype(bool)
        self.num_units = len(self.symbol) - 1
        self.order = sum(name.startswith("logp.") for name in tensors)
        self.size = len(tensors["logp.1"])
        # The column of a symbol in a row: its unit's, then the sentence's end and <unk> (the begin never follows a context).
        units = np.flatnonzero(self.seen)
        column = np.zeros(self.size, dtype=np.uint32)
        column[self.symbol[units]] = units
        others = np.setdiff1d(np.arange(self.size), self.symbol[np.append(units, self.num_units)])
        if len(others) != 2:
            raise KdError(f"n-gram tables of {self.size} symbols for {len(units)} units seen; train the teacher again")
        self.unknown = int(next(iter(self.symbol[:-1][~self.seen]), others[0]))
        self.end = int(others.sum()) - self.unknown
        known = np.append(self.symbol[:-1], [self.end, self.unknown])
        column[[self.end, self.unknown]] = [self.num_units, self.num_units + 1]
        self._single = tensors["logp.1"][known]
        # An LM by other tools may not sum to one; then each row is summed.
        whole = np.exp(tensors["logp.1"][np.append(self.symbol[units], others)].astype(np.float64)).sum()
        self._sums_to_one = abs(whole - 1.0) < 1e-3
        self._rows = max(1, BLOCK_BYTES // (4 * len(known)))
        self._pairs_fit = self.size * len(known) * 4 <= PAIRS_BYTES
        self._column: dict[int, np.ndarray] = {}
        self._first: dict[int, np.ndarray] = {}
        self._lookups: dict[int, Lookup] = {}
        for n in range(2, self.order + 1):
            first, words = tensors[f"first.{n}"].astype(np.int64), tensors[f"word.{n}"]
            if not len(words) == len(tensors[f"logp.{n}"]) == first[-1]:
                raise KdError(f"n-gram tables of order {n} do not fit each other; train the teacher again")
            self._column[n], self._first[n] = column[words], first

    @classmethod
    def from_arpa(cls, arpa: "Arpa", num_units: int) -> "NgramTrie":
        """Build the arrays; KdError when a word is no unit, or an n-gram's context is missing."""
        units = {int(w): i for w, i in arpa.vocab.items() if w not in SPECIAL and w.isdigit()}
        missing = [w for w in SPECIAL if w not in arpa.vocab]
        if missing or len(units) + len(SPECIAL) != len(arpa.vocab) or max(units, default=0) >= num_units:
            raise KdError(f"an LM over {len(arpa.vocab)} words is not one over {num_units} units; train the teacher again")
        symbol = np.full(num_units + 1, arpa.vocab["<unk>"])
        symbol[list(units)] = list(units.values())
        symbol[-1] = arpa.vocab["<s>"]
        seen = np.zeros(num_units, dtype=np.uint8)
        seen[list(units)] = 1
        tensors = {"symbol": symbol, "seen": seen, "logp.1": arpa.logp[0], "backoff.1": arpa.backoff[0]}
        size = len(arpa.vocab)
        keys: list[np.ndarray] = []
        for n in range(2, arpa.order + 1):
            words = arpa.ngrams[n - 1]
            parents = words[:, 0].astype(np.int64)
            for depth, level in enumerate(keys):
                parents = find(level, parents * size + words[:, depth + 1])
            if len(parents) and parents.min() < 0:
                raise KdError(f"a {n}-gram's first {n - 1} words are no {n - 1}-gram: {words[parents.argmin()]}; train the LM again")
            tensors[f"first.{n}"] = np.searchsorted(parents, np.arange(len(arpa.ngrams[n - 2]) + 1)).astype(np.uint32)
            tensors[f"word.{n}"] = words[:, -1].astype(np.uint8 if size <= 256 else np.uint16)
            tensors[f"logp.{n}"] = arpa.logp[n - 1]
            if n < arpa.order:
                tensors[f"backoff.{n}"] = arpa.backoff[n - 1]
                keys.append(parents * size + words[:, -1])
        return cls(tensors)

    @property
    def num_ngrams(self) -> list[int]:
        """Number of n-grams of each order."""
        return [len(self.tensors[f"logp.{n}"]) for n in range(1, self.order + 1)]

    def after_one(self) -> np.ndarray:
        """The states after one symbol only: each unit and, last, the sentence's begin, int64 (order - 1, V + 1)."""
        return self._after(self.symbol)

    def _after(self, symbols: np.ndarray) -> np.ndarray:
        state = np.full((self.order - 1, len(symbols)), -1, dtype=np.int64)
        state[:1] = symbols
        return state

    def step(self, state: np.ndarray, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state after one more symbol per column, and the symbol's log-probability float64 (N,); <unk>'s unigram counts as 1: it
        is the same in every context, and may be 0."""
        new, logp = self._after(symbols), self.tensors["logp.1"][symbols].astype(np.float64)
        logp[symbols == self.unknown] = 0.0
        for k in range(1, self.order):
            there = np.flatnonzero(state[k - 1] >= 0)
            nodes = state[k - 1, there]
            logp[there] += self.tensors[f"backoff.{k}"][nodes]
            longer = self._lookup(k, nodes, symbols[there])
            there, longer = there[longer >= 0], longer[longer >= 0]
            logp[there] = self.tensors[f"logp.{k + 1}"][longer]
            if k < self.order - 1:
                new[k, there] = longer
        return new, logp

    def states(self, ids: np.ndarray) -> np.ndarray:
        """The states (order - 1, N + 1) before each unit of one sentence and after the last."""
        return self.states_before(np.concatenate([[self.num_units], ids]))

    def states_before(self, before: np.ndarray) -> np.ndarray:
        """The states (order - 1, N) after each of N units, concatenated sentences, each preceded by num_units for its begin."""
        history = self.symbol[before.astype(np.int64)]
        state = self._after(history)
        for k in range(1, len(state)):
            there = np.flatnonzero(state[k - 1, :-1] >= 0)
            state[k, there + 1] = self._lookup(k, state[k - 1, there], history[there + 1])
        return state

    def _lookup(self, level: int, contexts: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """The node of each context of `level` symbols (nodes, none of them -1) with one more symbol, -1 if the model has none."""
        if level not in self._lookups:
            first, words = self._first[level + 1], self.tensors[f"word.{level + 1}"]
            keys = np.repeat(np.arange(len(first) - 1), np.diff(first)) * self.size + words
            self._lookups[level] = Lookup(keys, (len(first) - 1) * self.size)
        return self._lookups[level](contexts * self.size + symbols)

    def raw(self, state: np.ndarray) -> np.ndarray:
        """Natural-log probabilities float32 (N, V + 2) after each state: of the units, of </s>, of <unk>."""
        out = np.empty((state.shape[1], self.num_units + 2), dtype=np.float32)
        for first in range(0, len(out), self._rows):
            self._fill(out[first : first + self._rows], state[:, first : first + self._rows])
        return out

    def _fill(self, out: np.ndarray, state: np.ndarray) -> None:
        """Write the longest known contexts' probabilities over those of shorter ones; each row's back-off is summed beforehand,
        so the whole row is touched once for any order."""
        shortest = 1
        if self.order < 2 or not self._pairs_fit:
            out[:] = self._single
        else:
            np.take(self._pairs, state[0], axis=0, out=out, mode="clip")
            shortest = 2
        backoffs = np.zeros((self.order - shortest, len(out)), np.float32)
        for k in range(shortest, self.order):
            rows = np.flatnonzero(state[k - 1] >= 0)
            backoffs[k - shortest, rows] = self.tensors[f"backoff.{k}"][state[k - 1, rows]]
        # For each k: the weight still to be added to probabilities below the k-th context's level.
        above = np.cumsum([np.zeros(len(out), np.float32), *backoffs[::-1]], axis=0, dtype=np.float32)[::-1]
        out += above[0][:, None]
        flat = out.reshape(-1)
        for k in range(shortest, self.order):
            rows = np.flatnonzero(state[k - 1] >= 0)
            nodes = state[k - 1, rows]
            begin = self._first[k + 1].take(nodes)
            counts = self._first[k + 1].take(nodes + 1) - begin
            # All n-grams that continue these contexts, concatenated: their places in the tables of order k + 1.
            ends = np.cumsum(counts)
            source = np.arange(ends[-1] if len(ends) else 0)
            source += np.repeat(begin - ends + counts, counts)
            target = np.repeat(rows * out.shape[1], counts)
            target += self._column[k + 1].take(source)
            values = self.tensors[f"logp.{k + 1}"].take(source)
            values += np.repeat(above[k - shortest + 1][rows], counts)
            flat[target] = values

    @cached_property
    def _pairs(self) -> np.ndarray:
        """The rows after each single symbol, float32 (symbols, V + 2): most of the work of every row, computed once."""
        self._pairs_fit = False
        table = np.empty((self.size, self.num_units + 2), dtype=np.float32)
        self._fill(table, self._after(np.arange(self.size)))
        self._pairs_fit = True
        return table

    def distributions(self, state: np.ndarray) -> np.ndarray:
        """Natural-log probabilities float32 (N, V) of the units alone, normalised; -inf for units missing from the text."""
        out = np.empty((state.shape[1], self.num_units), dtype=np.float32)
        block = np.empty((min(self._rows, len(out)), self.num_units + 2), dtype=np.float32)
        unseen = np.flatnonzero(~self.seen)
        for first in range(0, len(out), self._rows):
            part = out[first : first + self._rows]
            raw = block[: len(part)]
            self._fill(raw, state[:, first : first + self._rows])
            raw[:, unseen] = -np.inf
            np.subtract(raw[:, :-2], self._mass(raw)[:, None], out=part)
        return out

    def _mass(self, raw: np.ndarray) -> np.ndarray:
        """Log of the mass that the units have in rows of all symbols, float32 (N,).

        All symbols together have mass 1, so the units have 1 minus that of the other two. The units are summed only if
        little is left, where the difference would be rounding error.
        """
        taken = np.exp(raw[:, -2:].astype(np.float64)).sum(axis=1) if self._sums_to_one else np.ones(len(raw))
        mass = np.log1p(-np.minimum(taken, 0.5)).astype(np.float32)
        little = np.flatnonzero(taken > 0.5)
        if len(little):
            units = raw[little, :-2]
            top = units.max(axis=1)
            mass[little] = top + np.log(np.exp(units - top[:, None]).sum(axis=1))
        return mass


class Lookup:
    """Indices in `keys`, int64 (M,) strictly ascending, all from 0 to `top` - 1.

    A rank/select bitmap: a bit per number says whether it is a key, and the count of bits before it gives its index. Two memory accesses
    replace the twenty of a binary search; a missing number, the usual case for n-grams, needs one.
    """

    def __init__(self, keys: np.ndarray, top: int) -> None:
        self.keys = keys if top > LARGEST_BITMAP else None
        if self.keys is None:
            self.bits = np.zeros(top // 64 + 1, dtype=np.uint64)
            starts = np.flatnonzero(np.diff(keys >> 6, prepend=-1))
            if len(starts):
                self.bits[keys[starts] >> 6] = np.bitwise_or.reduceat(np.uint64(1) << (keys & 63).astype(np.uint64), starts)
            self.before = (np.cumsum(_ones(self.bits)) - _ones(self.bits)).astype(np.uint32)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Indices int64 (N,) of `numbers` int64 (N,), -1 for missing ones."""
        if self.keys is not None:
            return find(self.keys, numbers)
        place, bit = numbers >> 6, np.uint64(1) << (numbers & 63).astype(np.uint64)
        bits = self.bits[place]
        out = np.full(len(numbers), -1, dtype=np.int64)
        there = np.flatnonzero(bits & bit)
        out[there] = self.before[place[there]] + _ones(bits[there] & (bit[there] - np.uint64(1)))
        return out


def _ones(words: np.ndarray) -> np.ndarray:
    """Number of bits that are set in each of uint64 (N,): summed in pairs, fours and bytes side by side (Warren 2013, section 5-1)."""
    one, two, four, top = (np.uint64(n) for n in (1, 2, 4, 56))
    words = words - (words >> one & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + (words >> two & np.uint64(0x3333333333333333))
    words = (words + (words >> four)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return words * np.uint64(0x0101010101010101) >> top  # type: ignore[no-any-return]


def find(keys: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Indices of `numbers` in the sorted `keys` by binary search, -1 for missing ones."""
    if len(keys) == 0:
        return np.full(len(numbers), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, numbers), len(keys) - 1)
    return np.where(keys[place] == numbers, place, -1)
