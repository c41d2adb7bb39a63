"""A feature folder: index.json, storage/, cuts.jsonl.gz, cmvn.safetensors.

DOOR and FULL check the tables and the files' sizes; DEEP reads every array.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.findings import UNREADABLE, Class, Level, Report
from kdtool.features.store import FRAME_SHIFT, FeatureSet
from kdtool.formats.rows import NUMBER
from kdtool.validate.checks import BROKEN, BROKEN_CLASS, check_repeated, dropped_ids, is_sound, reading, sound_rows

AGAIN = "delete {folder} and extract the features again (steps/extract_features.sh)"
CLASSES = {
    UNREADABLE: Class("a folder without readable features", AGAIN),
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
    features = FeatureSet.open(folder)
    index = folder / "index.json"
    listed = enumerate(features.header["utterances"], 1)
    rows = [row for number, row in listed if is_sound(row, ROW, f"utterance {number}", index, report)]
    check_repeated(report, (row["id"] for row in rows), index)
    for row in rows:
        _check_file(report, folder, row, features.dim)
    _check_statistics(report, folder, features, {row["speaker"] for row in rows})
    _check_durations(report, folder, rows)
    if level == Level.DEEP:
        for name in features.ids:
            with reading(report, folder, "array", name):
                feats = features.get(name, normalise=False)
                if bad := int((~np.isfinite(feats)).sum()):
                    report.add("array", name, folder, f"{bad} of {feats.size} values are not finite", "0")
    data = others.get("data", folder.parent) / "supervisions.jsonl.gz"
    if data.is_file():
        dropped = dropped_ids(folder)
        accounted = {*(row["source_id"] for row in rows), *dropped, *(name.rpartition("_sp")[0] for name in dropped)}
        for row in sound_rows(data, {"id": (str,)}, report):
            if row["id"] not in accounted:
                report.add("unaccounted", row["id"], data, "no features", "features, or a reason")
    report.summary = f"{len(rows)} utterances and copies, {features.dim} coefficients ({features.kind})"


def _check_file(report: Report, folder: Path, row: dict[str, Any], dim: int) -> None:
    path = Path(row["file"])
    if path.is_absolute() or ".." in path.parts:
        report.add("outside-folder", row["id"], folder / "index.json", row["file"], "a file in the folder")
        return
    expected = 4 * dim * row["num_frames"]
    try:
        size = (folder / path).stat().st_size
    except OSError as e:
        report.add("missing-file", row["id"], folder / path, e.strerror or str(e))
        return
    if not 0 <= size - expected <= HEADER or row["num_frames"] < 1:
        report.add("missing-file", row["id"], folder / path, f"{size} bytes", f"{expected} and a header: {row['num_frames']} x {dim}")


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
        expected = seconds.get(row["id"])
        if expected is None:
            report.add("frames", row["id"], folder / "cuts.jsonl.gz", "no cut of it")
        elif abs(row["num_frames"] - expected / FRAME_SHIFT) > SLACK:
            report.add("frames", row["id"], folder / "index.json", f"{row['num_frames']} frames", f"{expected:.3f} s of audio")
