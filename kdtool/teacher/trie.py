"""Back-off n-gram model as arrays.  In: an ARPA file whose words are unit numbers.  Out: full conditional distributions.

Level n holds the n-grams sorted by their first n - 1 units, so all continuations of a context lie side by side. A batch of
contexts is answered level by level: start from the unigrams, and wherever a longer context is known, add its back-off
weight to the row and write its continuations over it. This is what KenLM computes unit by unit, for all units at once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError

LN10 = math.log(10.0)


class NgramTrie:
    """Symbols are the units 0 .. V - 1, V for the sentence's begin and V + 1 for its end.

    A state is a matrix (order - 1, N) of node numbers: row k - 1 holds the node of the last k symbols, -1 if the model
    does not know that context.
    """

    def __init__(self, tensors: dict[str, np.ndarray], num_units: int) -> None:
        self.num_units, self.bos, self.eos = num_units, num_units, num_units + 1
        self.symbols = num_units + 2
        self.order = sum(name.startswith("logp.") for name in tensors)
        self.tensors = tensors
        self._keys: list[np.ndarray] = []
        for n in range(2, self.order + 1):
            first, words = tensors[f"first.{n}"], tensors[f"word.{n}"]
            if len(words) != len(tensors[f"logp.{n}"]) or int(first[-1]) != len(words):
                raise KdError(f"n-gram tables of order {n} do not fit each other; train the teacher again")
            if n < self.order:
                parents = np.repeat(np.arange(len(first) - 1), np.diff(first.astype(np.int64)))
                self._keys.append(parents * self.symbols + words)

    @property
    def num_ngrams(self) -> list[int]:
        """How many n-grams of each order."""
        return [len(self.tensors[f"logp.{n}"]) for n in range(1, self.order + 1)]

    def start(self, rows: int = 1) -> np.ndarray:
        """The state at a sentence's begin, int64 (order - 1, rows)."""
        state = np.full((self.order - 1, rows), -1, dtype=np.int64)
        state[:1] = self.bos
        return state

    def advance(self, state: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """The state after one more symbol for each column."""
        new = np.full_like(state, -1)
        new[:1] = symbols
        for k in range(1, len(state)):
            new[k] = self._child(k, state[k - 1], symbols)
        return new

    def states(self, ids: np.ndarray) -> np.ndarray:
        """The states (order - 1, N + 1) before each unit of one sentence and after the last."""
        history = np.concatenate([[self.bos], ids]).astype(np.int64)
        state = np.full((self.order - 1, len(history)), -1, dtype=np.int64)
        state[:1] = history
        for k in range(1, len(state)):
            state[k, 1:] = self._child(k, state[k - 1, :-1], history[1:])
        return state

    def _child(self, level: int, parents: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Nodes of level + 1 (1-based: `level` counts the parents' symbols), -1 where there is none."""
        keys = self._keys[level - 1]
        if len(keys) == 0:
            return np.full(len(parents), -1, dtype=np.int64)
        wanted = parents * self.symbols + symbols
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((parents >= 0) & (keys[found] == wanted), found, -1)

    def raw(self, state: np.ndarray) -> np.ndarray:
        """Natural-log probabilities float32 (N, V + 2) of every symbol after each state; the sentence's end included."""
        out = np.repeat(self.tensors["logp.1"][None], state.shape[1], axis=0)
        for k in range(1, self.order):
            rows = np.flatnonzero(state[k - 1] >= 0)
            nodes = state[k - 1, rows]
            backoff = self.tensors[f"backoff.{k}"][nodes]
            weighted = backoff != 0.0
            out[rows[weighted]] += backoff[weighted, None]
            first = self.tensors[f"first.{k + 1}"].astype(np.int64, copy=False)
            counts = first[nodes + 1] - first[nodes]
            # The continuations of all rows end to end: where each row's run starts there, and where it lies in the table.
            ends = np.cumsum(counts)
            source = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first[nodes] - ends + counts, counts)
            out[np.repeat(rows, counts), self.tensors[f"word.{k + 1}"][source]] = self.tensors[f"logp.{k + 1}"][source]
        return out

    def distributions(self, state: np.ndarray) -> np.ndarray:
        """Natural-log probabilities float32 (N, V) of the units alone, normalised; -inf for units the text never had."""
        out = self.raw(state)[:, : self.num_units]
        top = out.max(axis=1, keepdims=True)
        out -= top + np.log(np.exp(out - top).sum(axis=1, keepdims=True))
        return out


def read_arpa(path: Path, num_units: int) -> NgramTrie:
    """Build the arrays from an ARPA file with unit numbers as words.

    Raises:
        KdError: not such a file, or an order that is too high for so many units.
    """
    symbols = num_units + 2
    bits = math.ceil(math.log2(symbols))
    tensors: dict[str, np.ndarray] = {}
    previous = np.zeros(0, dtype=np.int64)
    with open(path, "rb") as f:
        counts = _header(f, path)
        order = len(counts)
        if bits * order > 63:
            raise KdError(f"order {order} over {num_units} units is too high (at most {63 // bits}); lower the order")
        for n, count in enumerate(counts, 1):
            logp, words, backoff = _section(f, path, n, count, n < order, num_units)
            if n == 1:
                dense = np.full((2, symbols), -np.inf)
                dense[0, words[:, 0]], dense[1, words[:, 0]] = logp, backoff
                dense[0, num_units] = -np.inf
                dense[1][dense[1] == -np.inf] = 0.0
                tensors["logp.1"], tensors["backoff.1"] = (dense * LN10).astype(np.float32)
                previous = np.arange(symbols)
                continue
            packed = np.zeros(count, dtype=np.int64)
            for column in words.T:
                packed = (packed << bits) | column
            rank = np.argsort(packed)
            packed = packed[rank]
            parents = np.searchsorted(previous, packed >> bits)
            if count and not np.array_equal(previous[np.minimum(parents, len(previous) - 1)], packed >> bits):
                raise KdError(f"{path}: a {n}-gram whose first {n - 1} words are no {n - 1}-gram; train the LM again")
            tensors[f"first.{n}"] = np.searchsorted(parents, np.arange(len(previous) + 1)).astype(np.uint32)
            tensors[f"word.{n}"] = words[rank, -1].astype(np.uint8 if symbols <= 256 else np.uint16)
            tensors[f"logp.{n}"] = (logp[rank] * LN10).astype(np.float32)
            if n < order:
                tensors[f"backoff.{n}"] = (backoff[rank] * LN10).astype(np.float32)
            previous = packed
    return NgramTrie(tensors, num_units)


def _header(f: Any, path: Path) -> list[int]:
    counts: list[int] = []
    for line in f:
        if line.startswith(b"ngram "):
            counts.append(int(line.split(b"=")[1]))
        elif counts and not line.strip():
            return counts
    raise KdError(f"{path}: not an ARPA file (no n-gram counts); train the LM again")


def _section(f: Any, path: Path, n: int, count: int, middle: bool, num_units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One order's log10 probabilities (count,), symbols int64 (count, n) and log10 back-off weights (count,)."""
    if f.readline().strip() != b"\\%d-grams:" % n:
        raise KdError(f"{path}: section of the {n}-grams not found; train the LM again")
    lines = [line for _, line in zip(range(count), f, strict=False)]
    text = b"".join(lines)
    if n == 1:
        # <unk> is in every KenLM model and stands for no unit.
        text = b"".join(line for line in lines if b"<unk>" not in line)
    del lines
    text = text.replace(b"</s>", b"%d" % (num_units + 1)).replace(b"<s>", b"%d" % num_units)
    try:
        values = np.fromstring(text, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as e:
        raise KdError(f"{path}: a {n}-gram is not made of numbers ({e}); train the LM again") from e
    width = n + 1 + middle
    if middle and n > 1 and len(values) == count * (width - 1):
        values = np.insert(values.reshape(count, -1), width - 1, 0.0, axis=1).ravel()
    if len(values) % width or (n > 1 and len(values) != count * width):
        raise KdError(f"{path}: {len(values)} numbers in {count} {n}-grams of {width}; the file is cut short or foreign: train again")
    table = values.reshape(-1, width)
    f.readline()
    words = table[:, 1 : n + 1].astype(np.int64)
    if len(words) and (words.min() < 0 or words.max() > num_units + 1):
        raise KdError(f"{path}: unit {words.max()} of {num_units}; the LM was trained on other units: train again")
    return table[:, 0], words, table[:, -1] if middle else np.zeros(len(table))
