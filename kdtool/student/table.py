"""A teacher's rows in memory, as targets of heads.  In: a dump.  Out: ``PosteriorTable``, and the row of each frame."""

import numpy as np

from kdtool.core.errors import KdError
from kdtool.posteriors.dump import PosteriorDump, UnitPosteriors


class PosteriorTable:
    """The rows of one dump for all utterances, concatenated: row r keeps entries offsets[r]:offsets[r + 1].

    ``unit_ids`` int32 (R,): the unit of a row, or a frame's label; ``utterance`` int32 (R,): the utterance of a row, numbered
    in the order of adding. ``name``: of the dump; ``named``: whether the user gave it; ``per_frame``: one row per frame, not per unit.
    """

    def __init__(
        self, unit: str, num_units: int, temperature: float, *, name: str = "", named: bool = False, per_frame: bool = False
    ) -> None:
        self.unit, self.num_units, self.temperature = unit, num_units, temperature
        self.name, self.named, self.per_frame = name or unit, named, per_frame
        self._posts: list[UnitPosteriors] = []
        self._rows = 0
        self.unit_ids = self.utterance = self.offsets = self.ids = self.logp = self.rest = np.zeros(0)

    def add(self, dump: PosteriorDump, source_id: str, num_frames: int) -> np.ndarray:
        """Append an utterance; returns the row of each of ``num_frames`` 10 ms frames, -1 without a unit (int32). Raises KdError: an empty
        row, rows beyond the last frame, or missing rows of a per-frame dump: it belongs to other audio."""
        post = dump.get(source_id)
        if np.diff(post.offsets).min(initial=1) < 1:
            raise KdError(f"{dump.folder}: a unit of {source_id} keeps nothing; dump again")
        frames = post.frame_rows(num_frames, f"{dump.folder}: {source_id}")
        if self.per_frame and (frames < 0).any():
            raise KdError(f"{dump.folder}: {source_id} has rows for {int((frames >= 0).sum())} of {num_frames} frames: the dump is of "
                          "other audio; dump again")  # fmt: skip
        frames[frames >= 0] += self._rows
        self._posts.append(post)
        self._rows += len(post)
        return frames

    def finish(self) -> None:
        """Concatenate the added rows."""
        kinds = {"unit_ids": np.int32, "ids": np.int32, "logp": np.float32, "rest_logp": np.float32}
        self.unit_ids, self.ids, self.logp, self.rest = (
            np.concatenate([np.zeros(0, kind), *(getattr(post, name) for post in self._posts)]) for name, kind in kinds.items())
        self.utterance = np.repeat(np.arange(len(self._posts), dtype=np.int32), [len(post) for post in self._posts])
        counts = [np.diff(post.offsets) for post in self._posts]
        self.offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *counts]), dtype=np.int64)])
        top = max(int(self.ids.max(initial=-1)), int(self.unit_ids.max(initial=-1)))
        if top >= self.num_units:
            raise KdError(f"a {self.unit} dump holds unit {top}, its table has {self.num_units}; dump again")
        self._posts.clear()

    def neighbours(self, rows: np.ndarray, offset: int) -> np.ndarray:
        """Rows of the units ``offset`` places after those of ``rows`` (negative: before); -1 if the utterance has none.

        Units are counted as the teacher reads them: silence is skipped, a subword without frames counts.
        A frame without a unit (-1) has no neighbour either.
        """
        if offset == 0:
            return rows
        moved = rows.astype(np.int64) + offset
        inside = (rows >= 0) & (moved >= 0) & (moved < len(self.utterance))
        same = self.utterance[np.where(inside, moved, 0)] == self.utterance[np.where(inside, rows, 0)] if inside.any() else inside
        return np.where(inside & same, moved, -1)

    def padded(self, rows: np.ndarray, top_k: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids int64 (N, K), logp (N, K) padded with -inf, rest (N,)) of some rows; K is the largest number that one of them keeps.

        With ``top_k`` the entries beyond it go to the rest bucket, so no mass is lost.
        """
        begin, counts = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        columns = np.arange(int(counts.max(initial=1)))
        filled = columns < counts[:, None]
        source = np.where(filled, begin[:, None] + columns, begin[:, None])
        ids = np.where(filled, self.ids[source], 0).astype(np.int64)
        logp = np.where(filled, self.logp[source], np.float32(-np.inf))
        rest = self.rest[rows]
        if 0 < top_k < len(columns):
            extra = np.exp(logp[:, top_k:]).sum(1) + np.exp(rest)
            with np.errstate(divide="ignore"):
                rest = np.log(extra)
            ids, logp = ids[:, :top_k], logp[:, :top_k]
        return np.ascontiguousarray(ids), np.ascontiguousarray(logp), rest

    def averaged(self) -> "PosteriorTable":
        """A table of ``num_units`` rows: row u is the mean of all rows of unit u, or one-hot if there are none.

        A row's missing mass is shared evenly by the units that it did not keep.
        """
        size, counts = self.num_units, np.diff(self.offsets)
        units = self.unit_ids.astype(np.int64)
        share = np.exp(self.rest.astype(np.float64)) / np.maximum(1, size - counts)
        mass = np.repeat(np.bincount(units, weights=share, minlength=size)[:, None], size, axis=1)
        place = np.repeat(units, counts) * size + self.ids
        extra = np.exp(self.logp.astype(np.float64)) - np.repeat(share, counts)
        mass += np.bincount(place, weights=extra, minlength=size * size).reshape(size, size)
        mass = np.maximum(mass, 0.0)  # subtracting a share may leave a negative rounding error
        absent = np.flatnonzero(np.bincount(units, minlength=size) == 0)
        mass[absent, absent] = 1.0
        mass /= mass.sum(axis=1, keepdims=True)
        mean = PosteriorTable(self.unit, size, self.temperature)
        kept = mass > 0.0
        mean.unit_ids, mean.utterance = np.arange(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
        mean.offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1), dtype=np.int64)])
        mean.ids, mean.logp = np.nonzero(kept)[1].astype(np.int32), np.log(mass[kept]).astype(np.float32)
        mean.rest = np.full(size, -np.inf, dtype=np.float32)
        return mean
