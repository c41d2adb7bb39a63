"""Posteriors as a field of Lhotse cuts.  In: dumps and cuts.  Out: cuts.jsonl.gz, whose cuts have ``posteriors_<unit>``, or
``posteriors_<teacher>`` if two dumps have the same unit.

``cut.load_posteriors_phone()`` gives log-probabilities (T, V) of the cut's 10 ms frames, also after ``cut.truncate``; frames
without a unit (silence, or outside of a supervision) are all -inf. Stored as plain .npy files, which Lhotse reads by
itself, or left in the dump, 1% of the size: then a program must import this module once, so that Lhotse can read it.
"""

import functools
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.array import Array, TemporalArray, seconds_to_frames
from lhotse.features.io import FeaturesReader, NumpyFilesWriter, register_reader

from kdtool.core.errors import KdError
from kdtool.posteriors.dump import PosteriorDump, dump_name

FRAME = 0.01
Spans = Sequence[tuple[str, int]]


def frame_array(dump: PosteriorDump, num_frames: int, spans: Spans, dtype: np.dtype[Any]) -> np.ndarray:
    """Log-probabilities (num_frames, V) of a stretch of audio.

    Args:
        spans: (supervision id, frame at which it starts here); frames before or after the stretch are left out.
    """
    out = np.full((num_frames, dump.num_units), -np.inf, dtype=dtype)
    for name, start in spans:
        post = dump.get(name)
        rows = post.frame_rows(post.end, name)[max(-start, 0) : max(num_frames - start, 0)]
        spoken = np.flatnonzero(rows >= 0)
        out[spoken + max(start, 0)] = post.dense_frames(dump.num_units, rows[spoken], dtype)
    return out


@functools.lru_cache(maxsize=16)
def _open(folder: str) -> PosteriorDump:
    return PosteriorDump.open(folder, cache=8)


@register_reader
class DumpReader(FeaturesReader):  # type: ignore[misc]
    """Lhotse's access to a dump: the storage path is the dump, the key holds frames and supervisions as JSON."""

    name = "kdtool_posteriors"

    def __init__(self, storage_path: str, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._folder = str(storage_path)

    def read(self, key: str, left_offset_frames: int = 0, right_offset_frames: int | None = None) -> np.ndarray:
        num_frames, spans = json.loads(key)
        end = num_frames if right_offset_frames is None else min(right_offset_frames, num_frames)
        shifted = [(name, start - left_offset_frames) for name, start in spans]
        return frame_array(_open(self._folder), max(end - left_offset_frames, 0), shifted, np.dtype(np.float32))


def load_cuts(data: Path) -> Any:
    """Cuts of a file, of a feature folder (cuts.jsonl.gz), or of a data folder: one per supervision, of the same id."""
    from lhotse import CutSet, RecordingSet, SupervisionSet

    if data.is_file() or (data / "cuts.jsonl.gz").is_file():
        return CutSet.from_file(data if data.is_file() else data / "cuts.jsonl.gz")
    files = [data / f"{name}.jsonl.gz" for name in ("recordings", "supervisions")]
    if not all(f.is_file() for f in files):
        raise KdError(f"{data}: neither a file of cuts nor a folder with cuts.jsonl.gz, or recordings and supervisions; check the path")
    cuts = CutSet.from_manifests(RecordingSet.from_file(files[0]), SupervisionSet.from_file(files[1]))
    return [cut.with_id(cut.supervisions[0].id) for cut in cuts.trim_to_supervisions(keep_overlapping=False)]


def field_names(dumps: Sequence[PosteriorDump]) -> list[str]:
    """The name of each dump's field: its unit, or its teacher if another dump has the same unit; KdError if that is equal, too."""
    units = [d.unit for d in dumps]
    names = [d.unit if units.count(d.unit) == 1 else re.sub(r"\W", "_", dump_name(d.folder.absolute())) for d in dumps]
    if doubled := [n for n in names if names.count(n) > 1]:
        folders = ", ".join(str(d.folder) for d, n in zip(dumps, names, strict=True) if n == doubled[0])
        raise KdError(f"{folders}: two dumps are over {units[names.index(doubled[0])]}s and both would be posteriors_{doubled[0]}; rename "
                      "a teacher's folder, or export them one by one")  # fmt: skip
    return names


def write_cuts(dumps: Sequence[PosteriorDump], data: Path, work: Path, out: Path, storage: str, dtype: np.dtype[Any]) -> None:
    """Write the cuts whose supervisions all dumps know into ``work``, which will become ``out``; prints how many were left out."""
    from lhotse import CutSet

    names = field_names(dumps)
    writer = NumpyFilesWriter(work / "arrays")
    kept, left_out = [], 0
    for cut in load_cuts(data):
        spans = [(s.id, round(s.start / FRAME)) for s in cut.supervisions if all(s.id in d for d in dumps)]
        if not spans or len(spans) < len(cut.supervisions):
            left_out += 1
            continue
        for dump, name in zip(dumps, names, strict=True):
            end = max(start + dump.get(n).end for n, start in spans)
            # Rounding may make a cut a frame shorter than its features.
            frames = max(seconds_to_frames(cut.duration, frame_shift=FRAME), min(end, 1 + round(cut.duration / FRAME)))
            if storage == "dump":
                place = ("kdtool_posteriors", str(dump.folder.resolve()), json.dumps([frames, spans]))
            else:
                key = writer.write(f"{cut.id}.{name}", frame_array(dump, frames, spans, dtype))
                place = (writer.name, str(out.absolute() / "arrays"), key)
            array = Array(*place, shape=[frames, dump.num_units])
            setattr(cut, f"posteriors_{name}", TemporalArray(array, temporal_dim=0, frame_shift=FRAME, start=cut.start))
        kept.append(cut)
    if not kept:
        raise KdError(f"none of the {left_out} cuts of {data} has posteriors in {dumps[0].folder}; name the data that was aligned")
    CutSet.from_cuts(kept).to_file(work / "cuts.jsonl.gz")
    print(f"{len(kept)} cuts with posteriors_{', posteriors_'.join(names)}, {left_out} without left out", file=sys.stderr)
