"""The training set in memory.

In: a feature folder (with speed-perturbed copies), an alignment folder, posterior dumps.
Out: ``TrainingSet``: per copy its features and, frame by frame, its senone and the row of each teacher's unit.

A copy's frames find their labels in the original's alignment and dump through the original frame that they show
(kdtool.features.store.source_frames), so one alignment and one dump serve all copies.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kdtool.core.errors import KdError
from kdtool.features.store import FRAME_SHIFT, FeatureSet, source_frames
from kdtool.formats.alignment import AlignmentSet
from kdtool.posteriors.dump import PosteriorDump
from kdtool.student.config import Posts
from kdtool.student.subset import first_minutes
from kdtool.student.table import PosteriorTable


@dataclass
class SpeedCopy:
    """One utterance at one speed: feats float16 (T, D), labels int32 (T,), rows: per table int32 (T,), -1 for none.

    place: int32 (T,), which phone of ``TrainingSet.phones`` each frame belongs to; None where no phones are known.
    """

    id: str
    source_id: str
    speaker: str
    feats: np.ndarray
    labels: np.ndarray
    rows: list[np.ndarray]
    place: np.ndarray | None = None


@dataclass
class TrainingSet:
    """All copies, grouped by original: ``groups[i]`` are the indices of the copies of one utterance.

    phones: int32 (N,), the aligned phones of each original, by its id.
    """

    copies: list[SpeedCopy]
    groups: list[list[int]]
    tables: list[PosteriorTable]
    input_dim: int
    feature_kind: str
    num_pdfs: int
    dropped: list[tuple[str, str]]
    total: int
    tree_digest: str = ""
    minutes: float = 0.0  # of speech in the originals
    phones: dict[str, np.ndarray] = field(default_factory=dict)

    def without(self, lost: Mapping[int, str]) -> "TrainingSet":
        """The set without some copies (index -> reason), which count as dropped."""
        kept = [i for i in range(len(self.copies)) if i not in lost]
        number = {i: n for n, i in enumerate(kept)}
        groups = [[number[i] for i in group if i in number] for group in self.groups]
        dropped = self.dropped + [(self.copies[i].id, reason) for i, reason in lost.items()]
        return dataclasses.replace(self, copies=[self.copies[i] for i in kept], groups=[g for g in groups if g], dropped=dropped)

    def counts(self, weights: np.ndarray) -> np.ndarray:
        """Frames per senone (float64 (num_pdfs,)); one copy of each utterance counts, ``weights`` times (one weight per group). The weights
        must be the sampling weights of training. Otherwise the decoder subtracts priors that the network has not learned, and favours the
        senones of under-sampled speakers."""
        labels = [self.copies[g[0]].labels for g in self.groups]
        each = np.repeat(weights, [len(part) for part in labels])
        return np.bincount(np.concatenate(labels), weights=each, minlength=self.num_pdfs)

    def table(self, unit: str, name: str = "") -> int:
        """Index of the table of the dump ``name``. Without a name: of the dump over ``unit``, the one that was given without a name, or
        else the only one. Raises KdError: no such dump, several candidates, or a dump over another unit."""
        given = ", ".join(f"{t.name} ({t.unit}s)" for t in self.tables) or "none"
        if name:
            indices = [i for i, table in enumerate(self.tables) if table.name == name]
            if len(indices) != 1 or self.tables[indices[0]].unit != unit:
                what = ("was not given" if not indices else f"was given {len(indices)} times" if len(indices) > 1 else
                        f"is over {self.tables[indices[0]].unit}s, not over {unit}s")  # fmt: skip
                raise KdError(f"the dump '{name}' that a head learns from {what}; dumps given: {given}; give it with --posts {name}=DIR")
            return indices[0]
        indices = [i for i, table in enumerate(self.tables) if table.unit == unit]
        indices = [i for i in indices if not self.tables[i].named] or indices
        if not indices:
            raise KdError(f"no posteriors for unit '{unit}': a head or the main loss needs them; give their folder with --posts")
        if len(indices) > 1:
            raise KdError(f"{len(indices)} dumps are over {unit}s; dumps given: {given}; say which one a head learns from: posts: NAME in "
                          "its entry, main_posts for the main head")  # fmt: skip
        return indices[0]


def open_dumps(posts: Sequence[Posts], alignment: AlignmentSet) -> list[PosteriorDump]:
    """Open dumps; KdError when one is of another alignment or of another tree's senones."""
    dumps = [PosteriorDump.open(p.folder, alignment_digest=alignment.digest) for p in posts]
    tree = alignment.meta.get("tree_digest", "")
    for dump in dumps:
        # Only senones depend on the tree: phones and subwords of another tree's teacher are the same units.
        if dump.unit == "senone" and (other := dump.meta.get("tree_digest")) not in (None, tree):
            raise KdError(f"{dump.folder} holds senones of tree {other[:12]}, {alignment.folder} was made with tree {tree[:12]}; "
                          "train the teacher again and dump it again")  # fmt: skip
    return dumps


def load_training_set(
    features: FeatureSet, alignment: AlignmentSet, posts: Sequence[Posts] = (), *, num_pdfs: int, minutes: float | None = None
) -> TrainingSet:
    """Read everything into memory (float16 features: 16 kB per second of speech and speed).

    Args:
        posts: dumps of teachers.
        num_pdfs: number of senones of the alignment's tree.
        minutes: use only the first N minutes of speech (kdtool.student.subset); the others do not count as dropped.

    Raises:
        KdError: features and alignment of one utterance differ in length, a senone outside the tree, damaged input.
    """
    dumps = open_dumps(posts, alignment)
    tables = [PosteriorTable(d.unit, d.num_units, float(d.meta.get("temperature", 1.0)), name=p.name, named=p.named, per_frame=d.per_frame)
              for p, d in zip(posts, dumps, strict=True)]  # fmt: skip
    copies: list[SpeedCopy] = []
    groups: dict[str, list[int]] = {}
    dropped: list[tuple[str, str]] = []
    source_rows: dict[str, list[np.ndarray]] = {}
    places: dict[str, np.ndarray] = {}
    phones: dict[str, np.ndarray] = {}
    ids, frames = features.ids, 0
    if minutes is not None:
        subset = first_minutes(features, minutes)
        ids = [u for u in ids if features.info(u).source_id in subset]
    for utt in ids:
        info = features.info(utt)
        source = info.source_id
        missing = [] if source in alignment else ["no alignment"]
        missing += [f"no {t.name if t.named else t.unit} posteriors" for t, d in zip(tables, dumps, strict=True) if source not in d]
        if missing:
            dropped.append((utt, missing[0]))
            continue
        aligned = alignment.get(source)
        labels = aligned.pdf
        # A copy is as long as its aligned original divided by the speed, with two frames of slack.
        if abs(info.num_frames - len(labels) / info.speed) > (0.0 if info.speed == 1.0 else 2.0):
            raise KdError(f"{features.folder}: utterance {utt} has {info.num_frames} frames at speed {info.speed}, the alignment "
                          f"{len(labels)} of its original; they are not of the same audio: align again")  # fmt: skip
        if int(labels.max()) >= num_pdfs:
            raise KdError(f"{alignment.folder}: {source} has senone {labels.max()}, the tree has {num_pdfs}; align again")
        if source not in source_rows:
            frames += len(labels)
            segments = aligned.phone_segments()
            phones[source], places[source] = segments.ids, np.repeat(np.arange(len(segments), dtype=np.int32), segments.length)
            source_rows[source] = [t.add(d, source, len(labels)) for t, d in zip(tables, dumps, strict=True)]
        index = source_frames(info.num_frames, info.speed, len(labels))
        feats = features.get(utt).astype(np.float16)
        if not np.isfinite(feats).all():
            raise KdError(f"{features.folder}: utterance {utt} has features that are not finite; extract the features again")
        groups.setdefault(source, []).append(len(copies))
        rows = [r[index] for r in source_rows[source]]
        copies.append(SpeedCopy(utt, source, info.speaker, feats, labels[index].astype(np.int32), rows, places[source][index]))
    for table in tables:
        table.finish()
    return TrainingSet(copies, list(groups.values()), tables, features.dim, features.kind, num_pdfs, dropped, len(ids),
                    str(alignment.meta.get("tree_digest", "")), frames * FRAME_SHIFT / 60, phones)  # fmt: skip
