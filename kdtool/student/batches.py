"""Frames of each update.  In: ``TrainingSet`` and the numbers of epoch and update.  Out: ``Batch``: chunks of features with their
context, labels and unit rows of the frames that the encoder has outputs for.

Everything follows from (seed, epoch) and (seed, update): exact resume needs no generator's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kdtool.student.data import TrainingSet

Window = tuple[int, int]  # (index of the copy, first frame; may be slightly negative)


@dataclass
class Batch:
    """feats float32 (B, D, T); labels int64 (B * n,), -1 past an utterance's end; rows: one (B * n,) per table; ids: B copies.

    pad: int64 (B,), number of padding frames at the end of each; None for no padding. windows: where each was cut out.
    """

    feats: np.ndarray
    labels: np.ndarray
    rows: list[np.ndarray]
    ids: list[str]
    pad: np.ndarray | None = None
    windows: list[Window] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Output frames without padding."""
        return len(self.labels) - (0 if self.pad is None else int(self.pad.sum()))

    def split(self, parts: int) -> "list[Batch]":
        """At most ``parts`` non-empty batches of about as many chunks each, in order."""
        if parts == 1:
            return [self]
        size, outputs = len(self.ids), len(self.labels) // len(self.ids)
        cuts = np.array_split(np.arange(size), min(parts, size))
        return [self._part(int(c[0]), int(c[-1]) + 1, outputs) for c in cuts]

    def _part(self, first: int, last: int, outputs: int) -> "Batch":
        frames = slice(first * outputs, last * outputs)
        pad = None if self.pad is None else self.pad[first:last]
        rows = [r[frames] for r in self.rows]
        return Batch(self.feats[first:last], self.labels[frames], rows, self.ids[first:last], pad, self.windows[first:last])


class Sampler:
    """Chunks in random order: every epoch sees each utterance once, at one of its speeds.

    A chunk is ``chunk`` frames, of which every ``subsampling``-th has an output; chunks start at random frames, so over
    the epochs all frames serve as labels.  With ``balance`` b > 0 a speaker with n frames counts as n ** (1 - b): the length of an
    epoch stays the same, but utterances of speakers with much data come less often, those of others several times.
    A ``chunk`` of 0 means whole utterances, each from one of its first ``subsampling`` frames on: utterances of similar length
    share an update, and all updates have about as many frames.
    """

    def __init__(self, data: TrainingSet, *, seed: int, chunk: int, batch: int, subsampling: int, balance: float = 0.0) -> None:
        self.train_set, self.seed, self.chunk, self.batch, self.subsampling = data, seed, chunk, batch, subsampling
        frames = sum(sum(len(data.copies[c].labels) for c in g) / len(g) for g in data.groups)
        self.batches_per_epoch = max(1, round(frames / (chunk * batch) if chunk else len(data.groups) / batch))
        self.repeats = speaker_weights(data, balance)
        self._plans: dict[int, list[list[Window]]] = {}

    def outputs(self, windows: Sequence[Window]) -> np.ndarray:
        """Number of output frames of each window."""
        if self.chunk:
            return np.full(len(windows), -(-self.chunk // self.subsampling))
        return np.array([-(-(len(self.train_set.copies[c].labels) - start) // self.subsampling) for c, start in windows])

    def windows(self, update: int) -> list[Window]:
        """The chunks of update number ``update`` (from 0)."""
        epoch, position = divmod(update, self.batches_per_epoch)
        if epoch not in self._plans:
            self._plans = {epoch: self._plan(epoch)}
        return self._plans[epoch][position]

    def _plan(self, epoch: int) -> list[list[Window]]:
        rng = np.random.default_rng([self.seed, 1, epoch])
        first = np.random.default_rng([self.seed, 2]).integers(0, 1 << 16, len(self.train_set.groups))
        windows: list[Window] = []
        times = np.floor(self.repeats + rng.random(len(self.repeats))).astype(int)
        for group, offset, count in zip(self.train_set.groups, first, times, strict=True):
            for again in range(count):
                copy = group[int(offset + epoch + again) % len(group)]
                windows += [(copy, start) for start in self._starts(len(self.train_set.copies[copy].labels), rng)]
        if not self.chunk:
            return self._alike(windows, rng)
        order = rng.permutation(len(windows))
        # Very small batches of uneven utterances: repeat some chunks, so that no update is empty.
        order = np.resize(order, max(len(order), self.batches_per_epoch))
        return [[windows[i] for i in part] for part in np.array_split(order, self.batches_per_epoch)]

    def _alike(self, windows: list[Window], rng: np.random.Generator) -> list[list[Window]]:
        """Group windows of similar length (lengths randomised by 5%), with equal numbers of frames per part; parts in random order."""
        outputs = self.outputs(windows)
        order = np.argsort(outputs * rng.uniform(0.95, 1.05, len(windows)))
        total = np.cumsum(outputs[order])
        part_of = (total - 0.5 * outputs[order]) * self.batches_per_epoch // total[-1]
        parts = [[windows[i] for i in order[part_of == part]] for part in range(self.batches_per_epoch)]
        # A batch left empty by an over-long utterance gets a random repeat.
        parts = [part or [windows[int(rng.integers(len(windows)))]] for part in parts]
        return [parts[i] for i in rng.permutation(len(parts))]

    def _starts(self, frames: int, rng: np.random.Generator) -> list[int]:
        """First frames of one copy's chunks: as many as fit best; the rest is distributed at random between them."""
        if not self.chunk:
            return [int(rng.integers(0, min(self.subsampling, frames)))]
        count = max(1, round(frames / self.chunk))
        spare = frames - count * self.chunk
        if spare >= 0:
            gaps = np.sort(rng.integers(0, spare + 1, count))
            return [int(i * self.chunk + g) for i, g in enumerate(gaps)]
        if count == 1:
            return [int(rng.integers(spare, 1))]
        jitter = rng.integers(-self.subsampling, self.subsampling + 1, count)
        return [int(round(i * (frames - self.chunk) / (count - 1)) + j) for i, j in enumerate(jitter)]


def speaker_weights(data: TrainingSet, balance: float) -> np.ndarray:
    """Expected number of times that each group is drawn per epoch; float64, one per group; the epoch's frames stay the same."""
    copies = [data.copies[g[0]] for g in data.groups]
    frames = np.array([len(c.labels) for c in copies], dtype=np.float64)
    _, speaker = np.unique([c.speaker for c in copies], return_inverse=True)
    weights = np.bincount(speaker, weights=frames)[speaker] ** -balance
    return np.asarray(weights * (frames.sum() / (weights * frames).sum()))


def make_batch(
    data: TrainingSet, windows: Sequence[Window], *, outputs: int | np.ndarray, subsampling: int, left: int, input_frames: int
) -> Batch:
    """Cut the windows out, with ``left`` frames of context before; beyond its ends an utterance repeats its edge frames.

    ``outputs``: output frames of all windows or of each; ``input_frames``: the encoder's input length for the longest.
    """
    lengths = np.broadcast_to(outputs, len(windows))
    pad = lengths.max() - lengths
    outputs = int(lengths.max())
    copies = [data.copies[c] for c, _ in windows]
    inputs = [np.arange(start - left, start - left + input_frames) for _, start in windows]
    feats = np.stack([np.ascontiguousarray(c.feats[t.clip(0, len(c.feats) - 1)].T, dtype=np.float32)
                      for c, t in zip(copies, inputs, strict=True)])  # fmt: skip
    centres = np.stack([start + subsampling * np.arange(outputs) for _, start in windows])
    labels = np.stack([_look_up(c.labels, t) for c, t in zip(copies, centres, strict=True)])
    rows = [np.stack([_look_up(c.rows[k], t) for c, t in zip(copies, centres, strict=True)]).ravel() for k in range(len(data.tables))]
    padded = pad.astype(np.int64) if pad.any() else None
    return Batch(feats, labels.ravel().astype(np.int64), rows, [c.id for c in copies], padded, list(windows))


def _look_up(values: np.ndarray, frames: np.ndarray) -> np.ndarray:
    inside = (frames >= 0) & (frames < len(values))
    return np.where(inside, values[frames.clip(0, len(values) - 1)], -1)
