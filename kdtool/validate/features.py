"""A feature folder: index.json, storage/, cuts.jsonl.gz, cmvn.safetensors.

DOOR and FULL check the tables and the files' sizes; DEEP reads every array.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.findings import Class, Level, Report
from kdtool.features.store import FRAME_SHIFT, FeatureSet
from kdtool.formats.rows import NUMBER, row_faults
from kdtool.validate.rows import BROKEN, BROKEN_CLASS, sound_rows

AGAIN = "delete {folder} and extract the features again (steps/extract_features.sh)"
CLASSES = {
    "unreadable": Class("a folder without readable features", AGAIN),
    BROKEN: BROKEN_CLASS,
    "duplicate-id": Class("an utterance that occurs more than once", AGAIN),
    "outside-folder": Class("a feature file that lies outside of the folder", AGAIN),
    "missing-file": Class("a feature file that is not there or not of the size that the index says", AGAIN),
    "frames": Class("features that are more than a frame longer or shorter than the audio", AGAIN),
    "speaker-statistics": Class("a speaker without mean and deviation, or with one that is not a number or not above 0", AGAIN),
    "array": Class("features that cannot be read, or hold NaN or infinity", AGAIN),
    "unaccounted": Class("an utterance of the data folder with neither features nor a reason in dropped.tsv", AGAIN),
}
OTHERS = {"data": "data folder that the features were made of (default: the folder above, if it is one)"}
ROW = {"id": (str,), "source_id": (str,), "speaker": (str,), "text": (str,), "speed": NUMBER, "num_frames": (int,), "file": (str,)}
CUT = {"id": (str,), "duration": NUMBER}
SLACK = 1.5  # frames: rounding, and the speed's own rounding
HEADER = 4096  # bytes of a .npy file beside its numbers


def check(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    """Check a feature folder."""
    try:
        features = FeatureSet.open(folder)
        header = features.header
    except KdError as e:
        report.add("unreadable", folder.name, folder, str(e))
        return
    rows = []
    for number, row in enumerate(header["utterances"], 1):
        if fault := "; ".join(row_faults(row, ROW)):
            report.add(BROKEN, f"utterance {number}", folder / "index.json", fault)
        else:
            rows.append(row)
    for name, count in Counter(row["id"] for row in rows).items():
        if count > 1:
            report.add("duplicate-id", name, folder / "index.json", f"{count} times", "once")
    for row in rows:
        _check_file(report, folder, row, features.dim)
    _check_statistics(report, folder, features, {row["speaker"] for row in rows})
    _check_durations(report, folder, rows)
    if level == Level.DEEP:
        _check_arrays(report, folder, features)
    data = others.get("data", folder.parent)
    if (data / "supervisions.jsonl.gz").is_file():
        _check_account(report, folder, data, {row["source_id"] for row in rows})
    report.summary = f"{len(rows)} utterances and copies, {features.dim} coefficients ({features.kind})"


def _check_file(report: Report, folder: Path, row: dict[str, Any], dim: int) -> None:
    path = Path(row["file"])
    if path.is_absolute() or ".." in path.parts:
        report.add("outside-folder", row["id"], folder / "index.json", row["file"], "a file in the folder")
        return
    wanted = 4 * dim * row["num_frames"]
    try:
        size = (folder / path).stat().st_size
    except OSError as e:
        report.add("missing-file", row["id"], folder / path, e.strerror or str(e))
        return
    if not 0 <= size - wanted <= HEADER or row["num_frames"] < 1:
        report.add("missing-file", row["id"], folder / path, f"{size} bytes", f"{wanted} and a header: {row['num_frames']} x {dim}")


def _check_statistics(report: Report, folder: Path, features: FeatureSet, speakers: set[str]) -> None:
    path = folder / "cmvn.safetensors"
    for speaker in sorted(speakers):
        mean, std = (features.cmvn.get(f"{speaker}.{name}") for name in ("mean", "std"))
        if mean is None or std is None:
            report.add("speaker-statistics", speaker, path, "none")
        elif mean.shape != (features.dim,) or std.shape != (features.dim,):
            report.add("speaker-statistics", speaker, path, f"shapes {mean.shape} and {std.shape}", f"({features.dim},)")
        elif not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            report.add("speaker-statistics", speaker, path, f"mean from {mean.min()}, deviation from {std.min()}", "finite, above 0")


def _check_durations(report: Report, folder: Path, rows: list[dict[str, Any]]) -> None:
    if not (folder / "cuts.jsonl.gz").is_file():
        return  # features of another program: nothing to compare with
    seconds = {cut["id"]: cut["duration"] for cut in sound_rows(folder / "cuts.jsonl.gz", CUT, report)}
    for row in rows:
        wanted = seconds.get(row["id"])
        if wanted is None:
            report.add("frames", row["id"], folder / "cuts.jsonl.gz", "no cut of it")
        elif abs(row["num_frames"] - wanted / FRAME_SHIFT) > SLACK:
            report.add("frames", row["id"], folder / "index.json", f"{row['num_frames']} frames", f"{wanted:.3f} s of audio")


def _check_arrays(report: Report, folder: Path, features: FeatureSet) -> None:
    for name in features.ids:
        try:
            feats = features.get(name, normalise=False)
        except KdError as e:
            report.add("array", name, folder, str(e))
            continue
        if bad := int((~np.isfinite(feats)).sum()):
            report.add("array", name, folder, f"{bad} of {feats.size} values are not finite", "0")


def _check_account(report: Report, folder: Path, data: Path, there: set[str]) -> None:
    from kdtool.core.tables import read_lines

    dropped = folder / "dropped.tsv"
    names = [line.split("\t")[0] for line in read_lines(dropped)] if dropped.is_file() else []
    gone = {*names, *(name.rpartition("_sp")[0] for name in names)}
    for row in sound_rows(data / "supervisions.jsonl.gz", {"id": (str,)}, report):
        if row["id"] not in there and row["id"] not in gone:
            report.add("unaccounted", row["id"], data / "supervisions.jsonl.gz", "no features", "features, or a reason")
