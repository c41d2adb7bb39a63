"""The training set in memory.

In: a feature folder (with speed-perturbed copies), an alignment folder, posterior dumps.
Out: ``TrainingSet``: per copy its features and, frame by frame, its senone and the row of each teacher's unit.

A copy's frames are looked up in the original's alignment and dump through the frame that they show
(kdtool.features.store.source_frames), so one alignment and one dump serve all copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdtool.ali.store import AlignmentSet
from kdtool.core.errors import KdError
from kdtool.features.store import FRAME_SHIFT, FeatureSet, source_frames
from kdtool.posteriors.dump import PosteriorDump
from kdtool.student.subset import first_minutes


@dataclass
class SpeedCopy:
    """One utterance at one speed: feats float16 (T, D), labels int32 (T,), rows: for each table int32 (T,), -1 for none."""

    id: str
    source_id: str
    speaker: str
    feats: np.ndarray
    labels: np.ndarray
    rows: list[np.ndarray]


class UnitTable:
    """Posteriors of one unit for all utterances, end to end: row r keeps entries offsets[r]:offsets[r + 1].

    ``utterance`` int32 (R,): which utterance a row is of, counted as they were added.
    """

    def __init__(self, unit: str, num_units: int, temperature: float) -> None:
        self.unit, self.num_units, self.temperature = unit, num_units, temperature
        self._parts: dict[str, list[np.ndarray]] = {"unit_ids": [], "counts": [], "ids": [], "logp": [], "rest": [], "utterance": []}
        self._rows = self._utterances = 0
        self.unit_ids = self.utterance = self.offsets = self.ids = self.logp = self.rest = np.zeros(0)

    def add(self, dump: PosteriorDump, source_id: str, num_frames: int) -> np.ndarray:
        """Append an utterance; its row of each of ``num_frames`` frames, -1 where no unit is (int32)."""
        post = dump.get(source_id)
        if np.diff(post.offsets).min(initial=1) < 1:
            raise KdError(f"{dump.folder}: a unit of {source_id} keeps nothing; dump again")
        frames = post.frame_rows(num_frames, f"{dump.folder}: {source_id}")
        frames[frames >= 0] += self._rows
        whose = np.full(len(post), self._utterances, dtype=np.int32)
        parts = (post.unit_ids, np.diff(post.offsets), post.ids, post.logp, post.rest_logp, whose)
        for name, part in zip(self._parts, parts, strict=True):
            self._parts[name].append(part)
        self._rows, self._utterances = self._rows + len(post), self._utterances + 1
        return frames

    def finish(self) -> None:
        """Join what was added."""
        joined = {name: np.concatenate(parts) if parts else np.zeros(0, np.int32) for name, parts in self._parts.items()}
        self.unit_ids, self.ids = joined["unit_ids"].astype(np.int32), joined["ids"].astype(np.int32)
        self.logp, self.rest = joined["logp"].astype(np.float32), joined["rest"].astype(np.float32)
        self.utterance = joined["utterance"].astype(np.int32)
        self.offsets = np.concatenate([[0], np.cumsum(joined["counts"], dtype=np.int64)])
        top = max(int(self.ids.max(initial=-1)), int(self.unit_ids.max(initial=-1)))
        if top >= self.num_units:
            raise KdError(f"a {self.unit} dump holds unit {top}, its table has {self.num_units}; dump again")
        self._parts.clear()

    def neighbours(self, rows: np.ndarray, offset: int) -> np.ndarray:
        """Rows of the units ``offset`` places after those of ``rows`` (before them where negative); -1 for none in the utterance.

        Units are counted as the teacher reads them: silence is none and stands between no two, a subword of no frame is one.
        A frame without a unit (-1) has no neighbour either.
        """
        if offset == 0:
            return rows
        wanted = rows.astype(np.int64) + offset
        inside = (rows >= 0) & (wanted >= 0) & (wanted < len(self.utterance))
        same = self.utterance[np.where(inside, wanted, 0)] == self.utterance[np.where(inside, rows, 0)] if inside.any() else inside
        return np.where(inside & same, wanted, -1)

    def padded(self, rows: np.ndarray, top_k: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids int64 (N, K), logp (N, K) padded with -inf, rest (N,)) of some rows; K is the most that one of them keeps.

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

    def averaged(self) -> UnitTable:
        """A table of ``num_units`` rows: row u is the mean of all rows whose own unit is u, or certain of u where there is none.

        What was not kept of a row is shared evenly by the units that it did not keep.
        """
        size, counts = self.num_units, np.diff(self.offsets)
        own = self.unit_ids.astype(np.int64)
        share = np.exp(self.rest.astype(np.float64)) / np.maximum(1, size - counts)
        mass = np.repeat(np.bincount(own, weights=share, minlength=size)[:, None], size, axis=1)
        place = np.repeat(own, counts) * size + self.ids
        extra = np.exp(self.logp.astype(np.float64)) - np.repeat(share, counts)
        mass += np.bincount(place, weights=extra, minlength=size * size).reshape(size, size)
        mass = np.maximum(mass, 0.0)  # a share taken away again may leave a rounding error below nothing
        absent = np.flatnonzero(np.bincount(own, minlength=size) == 0)
        mass[absent, absent] = 1.0
        mass /= mass.sum(axis=1, keepdims=True)
        mean = UnitTable(self.unit, size, self.temperature)
        kept = mass > 0.0
        mean.unit_ids, mean.utterance = np.arange(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
        mean.offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1), dtype=np.int64)])
        mean.ids, mean.logp = np.nonzero(kept)[1].astype(np.int32), np.log(mass[kept]).astype(np.float32)
        mean.rest = np.full(size, -np.inf, dtype=np.float32)
        return mean


@dataclass
class TrainingSet:
    """All copies, grouped by original: ``groups[i]`` are the indices of the copies of one utterance."""

    copies: list[SpeedCopy]
    groups: list[list[int]]
    tables: list[UnitTable]
    input_dim: int
    feature_kind: str
    num_pdfs: int
    dropped: list[tuple[str, str]]
    total: int
    tree_digest: str = ""
    minutes: float = 0.0  # of the originals

    def counts(self, weights: np.ndarray) -> np.ndarray:
        """How many frames each senone has (float64 (num_pdfs,)); one copy of each utterance counts, ``weights`` times, one a group.

        The weights must be those that the training draws utterances with: a decoder that subtracts other priors than the
        network has learnt prefers the senones of the speakers that were seen less often than they speak.
        """
        labels = [self.copies[g[0]].labels for g in self.groups]
        each = np.repeat(weights, [len(part) for part in labels])
        return np.bincount(np.concatenate(labels), weights=each, minlength=self.num_pdfs)

    def table(self, unit: str) -> int:
        """Index of the unit's table; KdError when no dump of it was given."""
        for i, table in enumerate(self.tables):
            if table.unit == unit:
                return i
        raise KdError(f"no posteriors for unit '{unit}': a head or the main objective needs them; give their folder with --posts")


def open_dumps(folders: Sequence[Path], alignment: AlignmentSet) -> list[PosteriorDump]:
    """Open dumps; KdError when one is of another alignment or of another tree's senones, or two are of one unit."""
    dumps = [PosteriorDump.open(f, alignment_digest=alignment.digest) for f in folders]
    units = [d.unit for d in dumps]
    if len(set(units)) != len(units):
        raise KdError(f"--posts {', '.join(map(str, folders))}: units {', '.join(units)}; one dump a unit is wanted")
    own = alignment.meta.get("tree_digest", "")
    for dump in dumps:
        # Only senones are the tree's: phones and subwords of another tree's teacher are the same units.
        if dump.unit == "senone" and (other := dump.meta.get("tree_digest")) not in (None, own):
            raise KdError(f"{dump.folder} holds senones of tree {other[:12]}, {alignment.folder} was made with tree {own[:12]}; "
                          "train the teacher again and dump it again")  # fmt: skip
    return dumps


def load_training_set(
    features: FeatureSet, alignment: AlignmentSet, dumps: Sequence[PosteriorDump] = (), *, num_pdfs: int, minutes: float | None = None
) -> TrainingSet:
    """Read everything into memory (float16 features: 16 kB a second of speech and speed).

    Args:
        num_pdfs: number of senones of the tree that the alignment was made with.
        minutes: use the first so many minutes of speech only (kdtool.student.subset); the others do not count as dropped.

    Raises:
        KdError: features and alignment of one utterance differ in length, a senone outside the tree, damaged input.
    """
    tables = [UnitTable(d.unit, d.num_units, float(d.meta.get("temperature", 1.0))) for d in dumps]
    copies: list[SpeedCopy] = []
    groups: dict[str, list[int]] = {}
    dropped: list[tuple[str, str]] = []
    source_rows: dict[str, list[np.ndarray]] = {}
    ids = features.ids
    if minutes is not None:
        wanted = first_minutes(features, minutes)
        ids = [u for u in ids if features.info(u).source_id in wanted]
    frames = 0
    for utt in ids:
        info = features.info(utt)
        source = info.source_id
        reason = "" if source in alignment else "no alignment"
        reason = reason or next((f"no {d.unit} posteriors" for d in dumps if source not in d), "")
        if reason:
            dropped.append((utt, reason))
            continue
        labels = alignment.get(source).pdf
        check_lengths(features, utt, len(labels))
        if int(labels.max()) >= num_pdfs:
            raise KdError(f"{alignment.folder}: {source} has senone {labels.max()}, the tree has {num_pdfs}; align again")
        if source not in source_rows:
            frames += len(labels)
            source_rows[source] = [t.add(d, source, len(labels)) for t, d in zip(tables, dumps, strict=True)]
        index = source_frames(info.num_frames, info.speed, len(labels))
        feats = features.get(utt).astype(np.float16)
        if not np.isfinite(feats).all():
            raise KdError(f"{features.folder}: utterance {utt} has features that are not finite; extract the features again")
        groups.setdefault(source, []).append(len(copies))
        copies.append(SpeedCopy(utt, source, info.speaker, feats, labels[index].astype(np.int32), [r[index] for r in source_rows[source]]))
    for table in tables:
        table.finish()
    return TrainingSet(copies, list(groups.values()), tables, features.dim, features.kind, num_pdfs, dropped, len(ids),
                    str(alignment.meta.get("tree_digest", "")), frames * FRAME_SHIFT / 60)  # fmt: skip


def check_lengths(features: FeatureSet, utt: str, aligned: int) -> None:
    """KdError unless the copy is about as long as its aligned original divided by the speed (two frames of slack)."""
    info = features.info(utt)
    expected = aligned / info.speed
    if abs(info.num_frames - expected) > (0.0 if info.speed == 1.0 else 2.0):
        raise KdError(f"{features.folder}: utterance {utt} has {info.num_frames} frames at speed {info.speed}, the alignment "
                      f"{aligned} of its original; they are not of the same audio: align again")  # fmt: skip
