"""Back-off n-gram model as arrays.  In: an ARPA model whose words are unit numbers.  Out: full conditional distributions.

The n-grams of each order are sorted by their first n - 1 words, so all continuations of a context are adjacent. A batch
of contexts is answered order by order: start with the rows after the last symbol alone; wherever a longer context is known, add
its back-off weight to the row and overwrite its continuations. This is what KenLM computes unit by unit, for all units at once.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kdtool.core.errors import KdError
from kdtool.teacher.places import RANKED, Places, find

if TYPE_CHECKING:
    from kdtool.lm.arpa import Arpa

BLOCK_BYTES = 1 << 19  # rows per block: fits the processor's cache
PAIRS_BYTES = 1 << 26  # the largest table of rows after a single symbol


class NgramTrie:
    """Symbols are the ARPA file's ids, in the order of its unigrams; ``symbol`` int64 (V + 1,) maps units to them and,
    last, the sentence's begin. Units missing from the text are <unk>, which no context contains.

    A state is a matrix (order - 1, N) of node numbers: row k - 1 holds the node of the last k symbols, -1 if the model
    does not know that context.
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
        self._keys: list[np.ndarray] = []
        self._places: dict[int, Places] = {}
        for n in range(2, self.order + 1):
            first, words = tensors[f"first.{n}"].astype(np.int64), tensors[f"word.{n}"]
            if not len(words) == len(tensors[f"logp.{n}"]) == first[-1]:
                raise KdError(f"n-gram tables of order {n} do not fit each other; train the teacher again")
            self._column[n], self._first[n] = column[words], first
            if n < self.order:
                self._keys.append(np.repeat(np.arange(len(first) - 1), np.diff(first)) * self.size + words)

    @classmethod
    def from_arpa(cls, arpa: Arpa, num_units: int) -> NgramTrie:
        """Build the arrays; KdError when a word is no unit, or an n-gram's context is missing."""
        special = ("<unk>", "<s>", "</s>")
        units = {int(w): i for w, i in arpa.vocab.items() if w not in special and w.isdigit()}
        missing = [w for w in special if w not in arpa.vocab]
        if missing or len(units) + len(special) != len(arpa.vocab) or max(units, default=0) >= num_units:
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

    def start(self, rows: int = 1) -> np.ndarray:
        """The state at a sentence's begin, int64 (order - 1, rows)."""
        state = np.full((self.order - 1, rows), -1, dtype=np.int64)
        state[:1] = self.symbol[-1]
        return state

    def after_one(self) -> np.ndarray:
        """The states after one symbol only: each unit and, last, the sentence's begin, int64 (order - 1, V + 1)."""
        state = np.full((self.order - 1, len(self.symbol)), -1, dtype=np.int64)
        state[:1] = self.symbol
        return state

    def advance(self, state: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The state after one more unit per column."""
        symbols = self.symbol[ids]
        new = np.full_like(state, -1)
        new[:1] = symbols
        for k in range(1, len(state)):
            new[k] = self._child(k, state[k - 1], symbols)
        return new

    def states(self, ids: np.ndarray) -> np.ndarray:
        """The states (order - 1, N + 1) before each unit of one sentence and after the last."""
        return self.states_before(np.concatenate([[self.num_units], ids]))

    def states_before(self, before: np.ndarray) -> np.ndarray:
        """The states (order - 1, N) after each of N units, concatenated sentences, each preceded by num_units for its begin."""
        history = self.symbol[before.astype(np.int64)]
        state = np.full((self.order - 1, len(history)), -1, dtype=np.int64)
        state[:1] = history
        for k in range(1, len(state)):
            state[k, 1:] = self._child(k, state[k - 1, :-1], history[1:])
        return state

    def _child(self, level: int, parents: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Nodes of level + 1 (1-based: `level` counts the parents' symbols), -1 where there is none."""
        wanted = parents * self.size + symbols
        if level == 1 and len(self._second):
            return np.where(parents >= 0, self._second.take(wanted, mode="clip"), -1)
        found, there = np.full(len(parents), -1, dtype=np.int64), np.flatnonzero(parents >= 0)
        if len(self._first[level + 1]) * self.size <= 8 * RANKED:
            found[there] = self.place(level, parents[there], symbols[there])
        else:
            found[there] = find(self._keys[level - 1], wanted[there])
        return found

    @cached_property
    def _second(self) -> np.ndarray:
        """Node of each pair of symbols, -1 if unknown, int32 (symbols ** 2,); empty if that is too large."""
        if not self._pairs_fit:
            return np.zeros(0, np.int32)
        table = np.full(self.size * self.size, -1, dtype=np.int32)
        table[self._keys[0]] = np.arange(len(self._keys[0]))
        return table

    def place(self, level: int, contexts: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Index of the n-gram of a context of `level` symbols (nodes, none of them -1) plus one symbol in the tables of
        order level + 1, -1 if the model has none."""
        if level not in self._places:
            first, words = self._first[level + 1], self.tensors[f"word.{level + 1}"]
            keys = np.repeat(np.arange(len(first) - 1), np.diff(first)) * self.size + words
            self._places[level] = Places(keys, (len(first) - 1) * self.size)
        return self._places[level](contexts * self.size + symbols)

    def continuations(self, level: int, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All n-grams that continue contexts of `level` symbols (nodes, none of them -1), concatenated.

        Returns:
            counts (N,) of each context; column (M,) of each one's last symbol in a row of ``raw``; places (M,) in the tables
            of order level + 1.
        """
        first = self._first[level + 1].take(contexts)
        counts = self._first[level + 1].take(contexts + 1) - first
        # Start of each context's run in the output, and in the table.
        ends = np.cumsum(counts)
        source = np.arange(ends[-1] if len(ends) else 0)
        source += np.repeat(first - ends + counts, counts)
        return counts, self._column[level + 1].take(source), source

    def raw(self, state: np.ndarray) -> np.ndarray:
        """Natural-log probabilities float32 (N, V + 2) after each state: of the units, of </s>, of <unk>."""
        out = np.empty((state.shape[1], self.num_units + 2), dtype=np.float32)
        for first in range(0, len(out), self._rows):
            self._fill(out[first : first + self._rows], state[:, first : first + self._rows])
        return out

    def _fill(self, out: np.ndarray, state: np.ndarray) -> None:
        """Write the longest known contexts' probabilities over those of shorter ones; each row's back-off is summed beforehand,
        so the whole row is touched once for any order."""
        level = self._start(out, state)
        backoffs = [self._backoff(k, state[k - 1]) for k in range(level, self.order)]
        # For each k: the weight still to be added to probabilities below the k-th context's level.
        above = np.cumsum([np.zeros(len(out), np.float32), *backoffs[::-1]], axis=0, dtype=np.float32)[::-1]
        out += above[0][:, None]
        flat = out.reshape(-1)
        for k in range(level, self.order):
            rows = np.flatnonzero(state[k - 1] >= 0)
            counts, columns, source = self.continuations(k, state[k - 1, rows])
            target = np.repeat(rows * out.shape[1], counts)
            target += columns
            values = self.tensors[f"logp.{k + 1}"].take(source)
            values += np.repeat(above[k - level + 1][rows], counts)
            flat[target] = values

    def _backoff(self, k: int, nodes: np.ndarray) -> np.ndarray:
        """Back-off weights float32 (N,) of contexts of k symbols, 0 if there is none."""
        weights = np.zeros(len(nodes), dtype=np.float32)
        rows = np.flatnonzero(nodes >= 0)
        weights[rows] = self.tensors[f"backoff.{k}"][nodes[rows]]
        return weights

    def _start(self, out: np.ndarray, state: np.ndarray) -> int:
        """Fill in the short contexts' probabilities; returns the number of symbols of the next longer context."""
        if self.order < 2 or not self._pairs_fit:
            out[:] = self._single
            return 1
        np.take(self._pairs, state[0], axis=0, out=out, mode="clip")
        return 2

    @cached_property
    def _pairs(self) -> np.ndarray:
        """The rows after each single symbol, float32 (symbols, V + 2): most of the work of every row, computed once."""
        self._pairs_fit = False
        table = np.empty((self.size, self.num_units + 2), dtype=np.float32)
        state = np.full((self.order - 1, self.size), -1, dtype=np.int64)
        state[0] = np.arange(self.size)
        self._fill(table, state)
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
