"""A teacher's distributions in few bytes.  In: rows of log-probabilities, each with the unit before it.  Out: packed bytes.

Four ideas; n-gram teachers over phones, BPE-500 and senones cost 441 bytes a second of speech together on 96 minutes, at 99% of the
mass and less than 0.01 nat a unit lost; float16 and small integers cost 1,876 with the subwords cut at 85%:
- One floor for all rows: what is likelier than it is kept, the rest of a row is one bucket. Of all ways to keep a mean mass
  this keeps the fewest entries (136 subwords a row, where each row's own 99% would take 220).
- Levels even in 2 sqrt(p), in which a step costs the same divergence everywhere (the Fisher metric of a distribution), not in
  log p, where half the bytes would go into the smallest entries.
- A prior row for each unit before: how likely an entry is there on average says most about its level. Entries are sorted by
  prior and by how many entries their row keeps, and LZMA then finds long runs of the same kind.
- What the prior does not expect at all is listed on its own.
Left to gain: with the teacher's own bigram as prior the subwords take 15% less, with the number of entries still to come as context
another 15% (both estimated from conditional entropies on 690 s).
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kdtool.core.errors import KdError

CONTEXTS = 1024  # with more units than this there is one prior row for all: a table of all pairs would outgrow the dump
BIN = 0.5  # nats in one bin of the prior
NO_CANDIDATE = 255
REST_STEP = 0.08  # of 2 sqrt(mass of the rest)
PRIOR_ROWS = 2.0  # a context's prior starts from so many rows of the mean
NOT_EXPECTED = 1.0 / 64.0  # entries of a prior below this share of the floor are no candidates
KINDS = 31  # classes of rows by the number of entries that they keep, three an octave
MOST_REST = 1.0 - 1e-6
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]


def pack(values: np.ndarray) -> np.ndarray:
    """Whole numbers of at least 0 as bytes uint8 (n,): LZMA over the bytes of equal rank, the smallest size that holds them."""
    top = int(values.max(initial=0))
    size = next(n for n in (1, 2, 4, 8) if top < 1 << 8 * n)
    planes = values.astype(f"<u{size}").view(np.uint8).reshape(-1, size).T
    return np.frombuffer(bytes([size]) + lzma.compress(planes.tobytes(), lzma.FORMAT_RAW, filters=_FILTERS), dtype=np.uint8)


def unpack(packed: np.ndarray) -> np.ndarray:
    """The numbers that ``pack`` was given, in an unsigned type."""
    size = int(packed[0])
    planes = np.frombuffer(lzma.decompress(packed[1:].tobytes(), lzma.FORMAT_RAW, filters=_FILTERS), dtype=np.uint8)
    return np.ascontiguousarray(planes.reshape(size, -1).T).reshape(-1).view(f"<u{size}")


@dataclass
class Levels:
    """Quantised rows: ``level`` uint16 (N, V), 0 where not kept; ``left`` float64 (N,) the exact mass of what is not kept."""

    level: np.ndarray
    left: np.ndarray


class Coder:
    """How the rows of one dump are written.

    ``floor``: the least probability that is kept; ``step``: of 2 sqrt(p); ``value`` float32 (L,): the probability that a level
    stands for; ``prior`` uint8 (C, V): bins of -log prior after each unit (the last row: at the begin), NO_CANDIDATE where an
    entry is never expected.
    """

    def __init__(self, floor: float, step: float, top_k: int, value: np.ndarray, prior: np.ndarray) -> None:
        self.floor, self.step, self.top_k, self.value, self.prior = floor, step, top_k, value, prior
        self.contexts, self.num_units = prior.shape
        self._start = 2.0 * np.sqrt(floor)
        wanted = prior != NO_CANDIDATE
        self._ids = np.nonzero(wanted)[1].astype(np.int64)
        self._bins = prior[wanted]
        self._first = np.concatenate([[0], np.cumsum(wanted.sum(axis=1))])

    @classmethod
    def fit(cls, log_probs: np.ndarray, before: np.ndarray, *, mass: float, top_k: int, step: float) -> Coder:
        """Choose the floor that keeps ``mass`` on average, and learn priors and levels' values, from a sample of rows.

        Args:
            log_probs: float32 (N, V), rows that sum to one; before: (N,) the unit before each row, V at a begin.
        """
        if top_k < 0 or not 0.0 < mass <= 1.0 or not 0.0 < step <= 1.0:
            raise KdError(f"top_k {top_k}, mass {mass}, step {step}: a top_k of at least 0, mass and step above 0 and up to 1 are wanted")
        rows, size = log_probs.shape
        probs = np.exp(log_probs)
        floor = _floor(probs, mass)
        contexts = size + 1 if size <= CONTEXTS else 1
        mean = probs.mean(axis=0, dtype=np.float64) if rows else np.full(size, 1.0 / size)
        sums, seen = np.tile(PRIOR_ROWS * mean, (contexts, 1)), np.full(contexts, PRIOR_ROWS)
        context = np.minimum(before, contexts - 1)
        np.add.at(sums, context, probs)
        np.add.at(seen, context, 1.0)
        prior = sums / seen[:, None]
        with np.errstate(divide="ignore"):
            bins = np.where(prior > floor * NOT_EXPECTED, np.clip(np.rint(-np.log(prior) / BIN), 0, 60), NO_CANDIDATE).astype(np.uint8)
        coder = cls(floor, step, top_k, np.zeros(0, np.float32), bins)
        coder.value = coder._values(probs)
        return coder

    def _values(self, probs: np.ndarray) -> np.ndarray:
        """The mean probability of each level in the sample; its middle where the sample has none."""
        count = int((2.0 - self._start) / self.step) + 2
        middle = (self._start + (np.arange(count) - 0.5) * self.step) / 2.0
        level = self._level(probs)
        sums = np.bincount(level.ravel(), weights=probs.ravel(), minlength=count)
        number = np.bincount(level.ravel(), minlength=count)
        return np.where(number > 0, sums / np.maximum(number, 1), middle**2).astype(np.float32)

    def _level(self, probs: np.ndarray) -> np.ndarray:
        level = np.floor((2.0 * np.sqrt(probs) - np.float32(self._start)) * np.float32(1.0 / self.step)) + 1.0
        return np.where((probs > self.floor) & (probs > 0), np.maximum(level, 1.0), 0.0).astype(np.uint16)

    def quantise(self, log_probs: np.ndarray) -> Levels:
        """Levels of dense rows; KdError when a row is no distribution.  At least the likeliest entry of a row is kept."""
        probs = np.exp(log_probs)
        total = probs.sum(axis=1)
        bad = np.flatnonzero(~(np.abs(total - 1.0) < 1e-3))
        if bad.size:
            raise KdError(f"row {bad[0]} of a teacher's output sums to {total[bad[0]]:.6f}, not 1; the teacher is broken, train it again")
        level = self._level(probs)
        rows = np.arange(len(probs))
        best = probs.argmax(axis=1)
        level[rows, best] = np.maximum(level[rows, best], 1)
        if 0 < self.top_k < self.num_units:
            out = np.argpartition(-probs, self.top_k - 1, axis=1)[:, self.top_k :]
            np.put_along_axis(level, out, 0, axis=1)
        return Levels(level, np.where(level > 0, 0.0, probs).sum(axis=1, dtype=np.float64))

    def lost(self, log_probs: np.ndarray, levels: Levels) -> np.ndarray:
        """float64 (N,): divergence (nats) of what will be read from the dense rows, the rest as one bucket on both sides."""
        row, ids = np.nonzero(levels.level)
        exact = log_probs[row, ids].astype(np.float64)
        kept, rest = self._read(row, levels.level[row, ids], _rest(levels.left))
        lost = np.bincount(row, weights=np.exp(exact) * (exact - kept), minlength=len(rest)).astype(np.float64)  # no entries: whole numbers
        there = levels.left > 0
        lost[there] += levels.left[there] * (np.log(levels.left[there]) - rest[there])
        return lost

    def _read(self, row: np.ndarray, level: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities of kept entries and of the rests: the levels' values, scaled to what the rest leaves."""
        kept = self.value[level].astype(np.float64)
        mass = (rest * REST_STEP / 2.0) ** 2
        with np.errstate(divide="ignore"):
            scale = np.log1p(-np.minimum(mass, MOST_REST)) - np.log(np.bincount(row, weights=kept, minlength=len(rest)))
            return np.log(kept) + scale[row], np.log(np.minimum(mass, MOST_REST))

    def encode(self, levels: Levels, before: np.ndarray) -> dict[str, np.ndarray]:
        """Packed columns of some rows, each after the unit ``before`` it (V at a begin)."""
        rows, context = np.arange(len(before)), np.minimum(before, self.contexts - 1)
        counts = (levels.level > 0).sum(axis=1)
        row, ids, order = self._candidates(context, counts)
        symbols = levels.level[row, ids]
        extra = np.flatnonzero((levels.level > 0) & (self.prior[context] == NO_CANDIDATE)) if len(rows) else rows
        # Rows after the same unit, and then with as many entries, are alike.
        alike = np.argsort(context, kind="stable")
        more_alike = np.lexsort((context, counts))
        return {
            "counts": pack(counts[alike]), "rest": pack(_rest(levels.left)[more_alike]), "symbols": pack(symbols[order]),
            "extra": pack(np.diff(extra, prepend=0)), "extra_level": pack(levels.level.reshape(-1)[extra]),
        }  # fmt: skip

    def decode(self, columns: dict[str, np.ndarray], before: np.ndarray) -> tuple[np.ndarray, ...]:
        """offsets int64 (N + 1,), ids int32 (M,), logp float32 (M,), rest_logp float32 (N,) of the rows that were encoded."""
        context = np.minimum(before, self.contexts - 1)
        counts, rest = np.empty(len(before), np.int64), np.empty(len(before), np.int64)
        counts[np.argsort(context, kind="stable")] = unpack(columns["counts"])
        rest[np.lexsort((context, counts))] = unpack(columns["rest"])
        row, ids, order = self._candidates(context, counts)
        level = np.empty(len(row), dtype=np.int64)
        level[order] = unpack(columns["symbols"])
        there = np.flatnonzero(level)
        extra = np.cumsum(unpack(columns["extra"]).astype(np.int64))
        places = np.concatenate([row[there] * self.num_units + ids[there], extra])
        levels = np.concatenate([level[there], unpack(columns["extra_level"]).astype(np.int64)])
        # Rows in order, in each the likeliest first, equal ones by rising id: one sort of one number an entry.
        top = len(self.value)
        key = np.sort((places // self.num_units * top + (top - 1 - levels)) * self.num_units + places % self.num_units)
        logp, rest_logp = self._read(key // self.num_units // top, top - 1 - key // self.num_units % top, rest)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return offsets, (key % self.num_units).astype(np.int32), logp.astype(np.float32), rest_logp.astype(np.float32)

    def _candidates(self, context: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row and id of each candidate of some rows, and the order in which their levels are written."""
        number = np.diff(self._first)[context]
        ends = np.cumsum(number)
        source = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self._first[context] - ends + number, number)
        kind = np.minimum(np.log2(counts + 1.0) * 3.0, KINDS - 1).astype(np.uint16)
        order = np.argsort(self._bins[source] * np.uint16(KINDS) + np.repeat(kind, number), kind="stable")
        return np.repeat(np.arange(len(context)), number), self._ids[source], order

    @cached_property
    def _ranking(self) -> np.ndarray:
        """Units by falling prior after each context, int64 (C, V)."""
        return np.argsort(self.prior, axis=1, kind="stable")

    @cached_property
    def _places(self) -> np.ndarray:
        places = np.empty_like(self._ranking)
        np.put_along_axis(places, self._ranking, np.broadcast_to(np.arange(self.num_units), places.shape), axis=1)
        return places

    def ranks(self, unit_ids: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Place of each unit in the prior of the unit before it: mostly small, so it packs better than the unit's number."""
        return self._places[np.minimum(before, self.contexts - 1), unit_ids]

    def from_ranks(self, ranks: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(unit ids, the units before them) of utterances of ``lengths`` units, end to end: the first of all, the second, .."""
        ids, before = np.empty(len(ranks), np.int64), np.empty(len(ranks), np.int64)
        order = np.argsort(-lengths, kind="stable")
        first = (np.cumsum(lengths) - lengths)[order]
        last = np.full(len(lengths), self.num_units)
        for i in range(int(lengths.max(initial=0))):
            going = int(np.searchsorted(-lengths[order], -i, side="left"))
            place = first[:going] + i
            before[place] = last[:going]
            last[:going] = ids[place] = self._ranking[np.minimum(last[:going], self.contexts - 1), ranks[place]]
        return ids, before

    def tensors(self) -> dict[str, np.ndarray]:
        """What ``from_tensors`` needs."""
        return {"value": self.value, "prior": pack(self.prior.ravel()), "shape": np.array(self.prior.shape, np.int64),
                "limits": np.array([self.floor, self.step, self.top_k], np.float64)}  # fmt: skip

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> Coder:
        """The coder that ``tensors`` were taken from."""
        floor, step, top_k = tensors["limits"].tolist()
        prior = unpack(tensors["prior"]).astype(np.uint8).reshape(tensors["shape"].tolist())
        return cls(floor, step, int(top_k), tensors["value"], prior)



def _floor(probs: np.ndarray, mass: float) -> float:
    """The largest threshold above which the mean mass of a row is at least ``mass``; 0 for all of it."""
    if mass >= 1.0 or probs.size == 0:
        return 0.0
    falling = np.sort(probs, axis=None)[::-1]
    kept = np.cumsum(falling, dtype=np.float64) / len(probs)
    return float(falling[min(int(np.searchsorted(kept, mass)) + 1, len(falling) - 1)])


def _rest(left: np.ndarray) -> np.ndarray:
    """Levels of the rests' masses, even in 2 sqrt(mass) like the entries'; 0 only where nothing is left."""
    return np.where(left > 0, np.maximum(np.rint(2.0 * np.sqrt(np.maximum(left, 0.0)) / REST_STEP), 1), 0).astype(np.int64)


def temper(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """log of p ** (1 / T), normalised: float32 (N, V) in nats."""
    if temperature <= 0:
        raise KdError(f"temperature {temperature}: it must be above 0")
    if temperature == 1.0:
        return log_probs
    scaled = log_probs.astype(np.float64) / temperature
    top = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - top).sum(axis=1, keepdims=True)) + top
    return (scaled - total).astype(np.float32)


def before_units(unit_ids: np.ndarray, num_units: int) -> np.ndarray:
    """The unit before each of one utterance's units, ``num_units`` at its begin."""
    return np.concatenate([[num_units], unit_ids]).astype(np.int64)[: len(unit_ids)]
