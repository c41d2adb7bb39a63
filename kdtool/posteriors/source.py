"""Sources of a dump's rows.  In: an utterance.  Out: its segments and a teacher's distribution for each of them.

Two shapes of teachers: ``UnitRows``, a language model that is asked for each unit of an alignment (silence has none), and ``FrameRows``,
any teacher with a row per frame (acoustic models, lattices), silence included, with or without an alignment.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.alignment import AlignmentSet, Segments
from kdtool.lang.lang import Lang
from kdtool.posteriors.dump import FRAME, UNIT
from kdtool.teacher.base import Teacher
from kdtool.units.segments import unit_segments

FRAME_SHIFT = 0.01  # seconds per frame of the segments
# Steps of 2 sqrt(p) that lose less than 0.01 nats per unit: 0.008 for senones, 0.009 for phones, 0.010 for BPE-500.
STEPS = {"senone": 0.32, "phone": 0.12, "subword": 0.042}
FRAME_STEP = 0.12  # an acoustic model's rows are flatter than senone rows of a phone teacher, and there are many of them

Rows = tuple[str, Segments, np.ndarray]  # utterance, N segments, float32 (N, V) log-probabilities in nats, each row summing to one


class RowSource(ABC):
    """Rows of some utterances.

    ``rows``: "unit" or "frame"; ``frames_per_row``: 10 ms frames from one row to the next (frame), 1 for units; ``step``: default
    quantisation step of probabilities; ``ids``: all utterances, in the order of the dump; ``name``, ``again``: for messages, their
    source and what to do when none can be read.
    """

    rows: str
    unit: str
    num_units: int
    ids: Sequence[str]
    frames_per_row: int = 1
    name: str = "the teacher"
    again: str = "train it again"

    @property
    def step(self) -> float:
        return STEPS[self.unit] if self.rows == UNIT else FRAME_STEP

    @abstractmethod
    def count(self) -> int:
        """Number of rows of all utterances."""

    @abstractmethod
    def read(self, utterance: str) -> Rows:
        """The rows of one utterance; KdError when the teacher cannot read it."""

    def read_many(self, utterances: Sequence[str]) -> list[Rows]:
        """The rows of several utterances, which some teachers compute faster together; KdError when one of them cannot be read."""
        return [self.read(utterance) for utterance in utterances]

    def after_one(self) -> np.ndarray | None:
        """float32 (V + 1, V): the expected row after each single label, and at the begin; None if unknown."""
        return None


class UnitRows(RowSource):
    """A language model's rows at the units of an alignment."""

    rows, again = UNIT, "align again"

    def __init__(self, teacher: Teacher, ali: AlignmentSet, lang: Lang) -> None:
        self.teacher, self.ali, self.lang = teacher, ali, lang
        self.unit, self.num_units, self.ids = teacher.unit, teacher.num_units, ali.ids
        self.name = str(ali.folder)

    def segments(self, utterance: str) -> Segments:
        return unit_segments(self.ali.get(utterance), self.unit, self.lang)

    def count(self) -> int:
        return sum(len(self.segments(utterance)) for utterance in self.ids)

    def read(self, utterance: str) -> Rows:
        segments = self.segments(utterance)
        return utterance, segments, self.teacher.log_probs(segments.ids)

    def read_many(self, utterances: Sequence[str]) -> list[Rows]:
        segments = [self.segments(utterance) for utterance in utterances]
        return list(zip(utterances, segments, self.teacher.log_probs_many([s.ids for s in segments]), strict=True))

    def after_one(self) -> np.ndarray | None:
        return self.teacher.after_one()


class FrameRows(RowSource):
    """Distributions for every frame.

    Args:
        frames: utterance -> its number of 10 ms frames.
        log_probs: utterance -> float32 (R, V) in nats, R = ceil(frames / frames_per_row); row j is centred on frame j * frames_per_row, and
            covers the frames that are nearest to it (the last row covers all that are left).
        labels: utterance -> (R,) the unit of each row if known (from an alignment or a best path); default: the likeliest.
    """

    rows = FRAME

    def __init__(
        self, unit: str, num_units: int, frames: Mapping[str, int], log_probs: Callable[[str], np.ndarray], *,
        frames_per_row: int = 1, labels: Callable[[str], np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self.unit, self.num_units, self.frames, self.frames_per_row = unit, num_units, frames, frames_per_row
        self.ids, self._log_probs, self._labels = list(frames), log_probs, labels

    def count(self) -> int:
        return sum(-(-n // self.frames_per_row) for n in self.frames.values())

    def read(self, utterance: str) -> Rows:
        values = np.ascontiguousarray(self._log_probs(utterance), dtype=np.float32)
        frames = self.frames[utterance]
        expected = (-(-frames // self.frames_per_row), self.num_units)
        if values.shape != expected:
            raise KdError(f"{utterance}: posteriors of shape {values.shape} for {frames} frames and {self.num_units} {self.unit}s, a row "
                          f"for every {self.frames_per_row} frames: expected {expected}")  # fmt: skip
        labels = values.argmax(axis=1) if self._labels is None else np.asarray(self._labels(utterance))
        if labels.shape != (len(values),) or (len(labels) and not 0 <= labels.min() <= labels.max() < self.num_units):
            raise KdError(f"{utterance}: {len(values)} rows and labels of shape {labels.shape}, or a label outside of the "
                          f"{self.num_units} {self.unit}s")  # fmt: skip
        start, length = frame_segments(frames, self.frames_per_row)
        return utterance, Segments(labels.astype(np.int32), start, length), values


def frame_segments(frames: int, frames_per_row: int) -> tuple[np.ndarray, np.ndarray]:
    """(start, length), int32 (R,): the frames of each row, the nearest to frame j * frames_per_row; every frame has a row."""
    first = np.maximum(np.arange(-(-frames // frames_per_row)) * frames_per_row - frames_per_row // 2, 0)
    return first.astype(np.int32), np.diff(np.append(first, frames)).astype(np.int32)
