"""Codes a teacher's distributions compactly.  In: rows of log-probabilities, each with the unit before it.  Out: packed bytes.

On 96 minutes n-gram teachers over phones, BPE-500 and 1,200 senones cost 79 + 196 + 68 = 343 bytes per second of speech, at 99% of the
mass and less than 0.01 nat lost per unit (levels sorted by a coarser prior and packed by LZMA cost 96 + 266 + 267):
- One floor for all rows: entries above it are kept, the others are one bucket. For a given mean mass
  this keeps the fewest entries (136 subwords per row; 99% of each row would take 220).
- Levels uniform in 2 sqrt(p), where a step costs the same divergence everywhere (the Fisher metric of a distribution), not in
  log p, where half the bytes would be spent on the smallest entries.
- A prior row per previous unit: the teacher's row after that unit alone, or the mean of a sample of rows.
  ``kdtool.posteriors.rans`` codes the levels with it.
"""

import lzma
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kdtool.core.errors import KdError
from kdtool.posteriors.rans import BIN, LAST_BIN, SYMBOLS, UNIT, LevelCode, learn

CONTEXTS = 2048  # more units than this share one prior row: a table of all pairs would be larger than the dump
REST_STEP = 0.08  # of 2 sqrt(mass of the rest)
PRIOR_ROWS = 2.0  # a context's prior starts from N rows of the mean
FAR_BELOW = 4.0  # nats below the floor where the prior is cut off
BLOCK_BYTES = 1 << 19  # of dense rows quantised per block: fits the processor's cache
LEAST = 1e-7  # smallest floor
MOST_REST = 1.0 - 1e-6
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]


def pack(values: np.ndarray) -> np.ndarray:
    """Whole numbers of at least 0 as bytes uint8 (n,): LZMA over the bytes of equal rank, the smallest size that holds them."""
    top = int(values.max(initial=0))
    size = next(n for n in (1, 2, 4, 8) if top < 1 << 8 * n)
    planes = values.astype(f"<u{size}").view(np.uint8).reshape(-1, size).T
    return np.frombuffer(bytes([size]) + lzma.compress(planes.tobytes(), lzma.FORMAT_RAW, filters=_FILTERS), dtype=np.uint8)


def unpack(packed: np.ndarray) -> np.ndarray:
    """The inverse of ``pack``, in an unsigned type."""
    size = int(packed[0])
    planes = np.frombuffer(lzma.decompress(packed[1:].tobytes(), lzma.FORMAT_RAW, filters=_FILTERS), dtype=np.uint8)
    return np.ascontiguousarray(planes.reshape(size, -1).T).reshape(-1).view(f"<u{size}")


@dataclass
class Levels:
    """Quantised rows: ``level`` (N, V) uint8, or uint16 for more levels, 0 if not kept; ``left`` float64 (N,) the exact mass
    that is not kept."""

    level: np.ndarray
    left: np.ndarray


class Coder:
    """The code of the rows of one dump.

    ``floor``: the smallest kept probability; ``step``: in 2 sqrt(p); ``value`` float32 (L,): the probability of each
    level; ``code``: codes levels as bits, with a prior row per previous unit (the last one: at the begin).
    """

    def __init__(self, floor: float, step: float, top_k: int, value: np.ndarray, code: LevelCode) -> None:
        self.floor, self.step, self.top_k, self.value, self.code = floor, step, top_k, value, code
        self.contexts, self.num_units = code.bins.shape
        self._start = 2.0 * np.sqrt(floor)
        self._count = int((2.0 - self._start) / step) + 2  # levels, 0 among them

    @classmethod
    def fit(
        cls, log_probs: np.ndarray, before: np.ndarray, *, mass: float, top_k: int, step: float, after_one: np.ndarray | None = None
    ) -> "Coder":
        """Choose the floor that keeps ``mass`` on average, and estimate levels' values, prior and tables, from a sample of rows.

        Args:
            log_probs: float32 (N, V), rows that sum to one; before: (N,) the unit before each row, V at a begin.
            after_one: (V + 1, V) the teacher's rows after each single unit, if known: the prior, unless the
                sample's means code the sample in fewer bits.
        """
        if top_k < 0 or not 0.0 < mass <= 1.0 or not 0.0 < step <= 1.0:
            raise KdError(f"top_k {top_k}, mass {mass}, step {step}: a top_k of at least 0, mass and step above 0 and up to 1 are expected")
        size, probs = log_probs.shape[1], np.exp(log_probs)
        contexts = size + 1 if size <= CONTEXTS else 1
        context, floor = np.minimum(before, contexts - 1), _floor(probs, mass)
        coder = cls(floor, step, top_k, np.zeros(0, np.float32), LevelCode.empty(_bins(_means(probs, context, contexts), floor)))
        coder.value = coder._values(probs)
        log_value = np.log(np.maximum(coder.value, LEAST))
        log_value[0] = np.log(max(coder.floor, LEAST))
        levels = np.zeros(probs.shape, coder.level_type)
        coder._keep(probs, levels)
        rounded = np.rint(log_value * UNIT).astype(np.int16)
        priors = [coder.code.bins]
        if after_one is not None and contexts > 1:
            priors.append(_bins(np.exp(after_one), coder.floor))
        coder.code = min((learn(bins, rounded, levels, context) for bins in priors), key=lambda learned: learned[1])[0]
        return coder

    def _values(self, probs: np.ndarray) -> np.ndarray:
        """The mean probability of each level in the sample; the level's middle if the sample has none."""
        middle = (self._start + (np.arange(self._count) - 0.5) * self.step) / 2.0
        kept = probs[probs > self.floor]
        level = self._level(kept)
        sums, number = (np.bincount(level, weights=w, minlength=self._count) for w in (kept, None))
        return np.where(number > 0, sums / np.maximum(number, 1), middle**2).astype(np.float32)

    def _level(self, probs: np.ndarray) -> np.ndarray:
        """Levels of probabilities above the floor; one rounded above 1 has the highest."""
        level = np.floor((2.0 * np.sqrt(probs) - np.float32(self._start)) * np.float32(1.0 / self.step)) + 1.0
        return np.clip(level, 1.0, self._count - 1.0).astype(np.uint16)

    def quantise(self, log_probs: np.ndarray) -> Levels:
        """Levels of dense rows; KdError when a row is no distribution.  The likeliest entry of a row is always kept."""
        levels = Levels(np.zeros(log_probs.shape, self.level_type), np.zeros(len(log_probs)))
        rows = max(1, BLOCK_BYTES // (4 * self.num_units))
        for first in range(0, len(log_probs), rows):
            block = slice(first, first + rows)
            probs = np.exp(log_probs[block])
            total = probs.sum(axis=1)
            bad = np.flatnonzero(~(np.abs(total - 1.0) < 1e-3))
            if bad.size:
                raise KdError(f"row {first + bad[0]} of a teacher's output sums to {total[bad[0]]:.6f}, not 1; "
                              "the teacher is broken, train it again")  # fmt: skip
            level = levels.level[block]
            self._keep(probs, level)
            probs.reshape(-1)[np.flatnonzero(level > 0)] = 0.0  # NumPy finds true entries four times as fast as non-zero ones
            levels.left[block] = probs.sum(axis=1, dtype=np.float64)
        return levels

    @property
    def level_type(self) -> type[np.unsignedinteger]:
        """The smallest type that holds its levels."""
        return np.uint8 if len(self.value) <= 256 else np.uint16

    def _keep(self, probs: np.ndarray, level: np.ndarray) -> None:
        """Write levels (N, V) of the kept entries: above the floor, always the likeliest, at most the ``top_k`` likeliest."""
        rows = np.arange(len(probs))
        # Few entries of a wide row are kept: only those are worked on.
        kept = np.flatnonzero(probs > self.floor)
        level.reshape(-1)[kept] = self._level(probs.reshape(-1)[kept])
        best = probs.argmax(axis=1)
        level[rows, best] = np.maximum(level[rows, best], 1)
        if 0 < self.top_k < self.num_units:
            out = np.argpartition(-probs, self.top_k - 1, axis=1)[:, self.top_k :]
            np.put_along_axis(level, out, 0, axis=1)

    def lost(self, log_probs: np.ndarray, levels: Levels) -> np.ndarray:
        """float64 (N,): divergence (nats) of the decoded rows from the dense ones, the rest as one bucket on both sides."""
        place = np.flatnonzero(levels.level > 0)
        row = place // self.num_units
        exact = log_probs.reshape(-1)[place].astype(np.float64)
        kept, rest = self._read(row, levels.level.reshape(-1)[place], _rest(levels.left))
        lost = np.bincount(row, weights=np.exp(exact) * (exact - kept), minlength=len(rest)).astype(np.float64)  # no entries: whole numbers
        some = levels.left > 0
        lost[some] += levels.left[some] * (np.log(levels.left[some]) - rest[some])
        return lost

    def _read(self, row: np.ndarray, level: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities of kept entries and of the rests: the levels' values, scaled to the mass without the rest."""
        kept = self.value[level].astype(np.float64)
        mass = (rest * REST_STEP / 2.0) ** 2
        with np.errstate(divide="ignore"):
            scale = np.log1p(-np.minimum(mass, MOST_REST)) - np.log(np.bincount(row, weights=kept, minlength=len(rest)))
            return np.log(self.value.astype(np.float64))[level] + scale[row], np.log(np.minimum(mass, MOST_REST))

    def encode(self, levels: Levels, before: np.ndarray) -> dict[str, np.ndarray]:
        """Packed columns of some rows, each with the previous unit in ``before`` (V at a begin)."""
        context = np.minimum(before, self.contexts - 1)
        counts = (levels.level > 0).sum(axis=1)
        words, others = self.code.encode(levels.level, context)
        # Sort rows by previous unit, then by number of entries: neighbours are similar.
        alike, more_alike = np.argsort(context, kind="stable"), np.lexsort((context, counts))
        return {"counts": pack(counts[alike]), "rest": pack(_rest(levels.left)[more_alike]), "words": words, "others": pack(others)}

    def decode(self, columns: dict[str, np.ndarray], before: np.ndarray) -> tuple[np.ndarray, ...]:
        """offsets int64 (N + 1,), ids int32 (M,), logp float32 (M,), rest_logp float32 (N,) of the encoded rows."""
        context = np.minimum(before, self.contexts - 1)
        counts, rest = np.empty(len(before), np.int64), np.empty(len(before), np.int64)
        counts[np.argsort(context, kind="stable")] = unpack(columns["counts"])
        rest[np.lexsort((context, counts))] = unpack(columns["rest"])
        ids, levels = self.code.decode(columns["words"], unpack(columns["others"]).astype(np.int64), context, counts)
        logp, rest_logp = self._read(np.repeat(np.arange(len(counts)), counts), levels, rest)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return offsets, ids, logp.astype(np.float32), rest_logp.astype(np.float32)

    @cached_property
    def _places(self) -> np.ndarray:
        """Rank of each unit in descending order of the prior of each context, int64 (C, V)."""
        places = np.empty_like(self.code.order)
        np.put_along_axis(places, self.code.order, np.broadcast_to(np.arange(self.num_units), places.shape), axis=1)
        return places

    def ranks(self, unit_ids: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Rank of each unit in the prior after the previous unit: mostly small, so it packs better than the unit's id."""
        return self._places[np.minimum(before, self.contexts - 1), unit_ids]

    def from_ranks(self, ranks: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(unit ids, the units before them) of concatenated utterances of ``lengths`` units, which are decoded in parallel"""
        ids, before = np.empty(len(ranks), np.int64), np.empty(len(ranks), np.int64)
        order = np.argsort(-lengths, kind="stable")
        first = (np.cumsum(lengths) - lengths)[order]
        last = np.full(len(lengths), self.num_units)
        for i in range(int(lengths.max(initial=0))):
            going = int(np.searchsorted(-lengths[order], -i, side="left"))
            place = first[:going] + i
            before[place] = last[:going]
            last[:going] = ids[place] = self.code.order[np.minimum(last[:going], self.contexts - 1), ranks[place]]
        return ids, before

    def tensors(self) -> dict[str, np.ndarray]:
        """The input of ``from_tensors``."""
        code = self.code
        return {"value": self.value, "prior": pack(code.bins.T.ravel()), "shape": np.array(code.bins.shape, np.int64),
                "log_value": code.log_value, "tables": pack(code.freq.ravel()),
                "limits": np.array([self.floor, self.step, self.top_k], np.float64)}  # fmt: skip

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> "Coder":
        floor, step, top_k = tensors["limits"].tolist()
        bins = np.ascontiguousarray(unpack(tensors["prior"]).astype(np.uint8).reshape(tensors["shape"][::-1].tolist()).T)
        freq = unpack(tensors["tables"]).astype(np.uint16).reshape(-1, SYMBOLS)
        return cls(floor, step, int(top_k), tensors["value"], LevelCode(bins, tensors["log_value"], freq))


def _means(probs: np.ndarray, context: np.ndarray, contexts: int) -> np.ndarray:
    """Mean row of each context, smoothed to the overall mean: float64 (contexts, V)."""
    rows, size = probs.shape
    mean = probs.mean(axis=0, dtype=np.float64) if rows else np.full(size, 1.0 / size)
    sums, seen = np.tile(PRIOR_ROWS * mean, (contexts, 1)), np.full(contexts, PRIOR_ROWS)
    np.add.at(sums, context, probs)
    np.add.at(seen, context, 1.0)
    return sums / seen[:, None]


def _bins(prior: np.ndarray, floor: float) -> np.ndarray:
    """Prior probabilities as bins of their logarithm; everything far below the floor shares a bin."""
    last = min(round((FAR_BELOW - np.log(max(floor, LEAST))) / BIN), LAST_BIN)
    with np.errstate(divide="ignore"):
        return np.minimum(np.rint(-np.log(prior) / BIN), last).astype(np.uint8)


def _floor(probs: np.ndarray, mass: float) -> float:
    """The largest threshold above which the mean mass of a row is at least ``mass``; 0 for all of it."""
    if mass >= 1.0 or probs.size == 0:
        return 0.0
    # Compare the upper half of the probabilities' bits, which preserves their order: a floor 1% off would do, and this is within 0.4%.
    half = probs.reshape(-1).view(np.uint32) >> 16
    mass_of = np.bincount(half, weights=probs.reshape(-1), minlength=1 << 16)[::-1].cumsum() / len(probs)
    lowest = (1 << 16) - 1 - min(int(np.searchsorted(mass_of, mass)), (1 << 16) - 1)
    return float(np.array([lowest << 16], dtype=np.uint32).view(np.float32)[0])


def _rest(left: np.ndarray) -> np.ndarray:
    """Levels of the rests' masses, uniform in 2 sqrt(mass) like the entries'; 0 only if nothing is left."""
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
