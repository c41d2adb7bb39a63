"""Small synthetic data for the students' tests: the label of a frame is a function of that frame alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdtool.core.tables import write_json
from kdtool.core.tensors import save_tensors
from kdtool.features.store import source_frames
from kdtool.formats.alignment import Alignment, AlignmentSet, Segments, save_alignments
from kdtool.posteriors.codec import Coder
from kdtool.posteriors.dump import finish_dump, save_coder, write_shard
from kdtool.student.data import SpeedCopy, TrainingSet

DIM, PDFS = 8, 6


def frames_and_labels(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (T, DIM) and labels (T,): the label is the largest of the first PDFS coefficients, by a clear margin."""
    labels = rng.integers(0, PDFS, frames)
    feats = rng.normal(0, 0.3, (frames, DIM))
    feats[np.arange(frames), labels] += 2.0
    return feats.astype(np.float32), labels.astype(np.int32)


def make_training_set(utterances: int = 6, frames: int = 90, seed: int = 0, copies: int = 1) -> TrainingSet:
    """TrainingSet in memory; with several copies each is an exact repetition."""
    rng = np.random.default_rng(seed)
    items: list[SpeedCopy] = []
    groups: list[list[int]] = []
    for u in range(utterances):
        feats, labels = frames_and_labels(rng, frames + 7 * u)
        groups.append(list(range(len(items), len(items) + copies)))
        items += [SpeedCopy(f"u{u}_{c}", f"u{u}", "s", feats.astype(np.float16), labels, []) for c in range(copies)]
    return TrainingSet(items, groups, [], DIM, "16 kHz fbank", PDFS, [], len(items))


def write_set(
    root: Path, utterances: int = 4, frames: int = 60, seed: int = 0, speeds: tuple[float, ...] = (1.0,), silent: Sequence[int] = ()
) -> tuple[Path, Path]:
    """A feature folder and an alignment folder on disk: (feats, ali). silent: utterances that are only silence."""
    rng = np.random.default_rng(seed)
    feats_dir, ali_dir = root / "fbank", root / "ali"
    (feats_dir / "storage").mkdir(parents=True)
    rows, alignments = [], []
    for u in range(utterances):
        name = f"s{seed}-u{u}"
        feats, labels = frames_and_labels(rng, frames + 5 * u)
        labels = np.zeros_like(labels) if u in silent else labels
        alignments.append(alignment(name, labels))
        for speed in speeds:
            copy = f"{name}_sp{speed}" if speed != 1.0 else name
            length = round(len(feats) / speed)
            np.save(feats_dir / "storage" / f"{copy}.npy", feats[source_frames(length, speed, len(feats))])
            rows.append({"id": copy, "source_id": name, "speaker": "s", "text": "A", "speed": speed, "num_frames": length,
                         "file": f"storage/{copy}.npy"})  # fmt: skip
    write_json(feats_dir / "index.json", {"kind": "fbank", "sample_rate": 16000, "dim": DIM, "speeds": list(speeds), "utterances": rows})
    save_tensors(feats_dir / "cmvn.safetensors", {"s.mean": np.zeros(DIM, np.float32), "s.std": np.ones(DIM, np.float32)})
    save_alignments(ali_dir, alignments, {"tree_digest": "t", "num_pdfs": PDFS})
    return feats_dir, ali_dir


def alignment(name: str, labels: np.ndarray) -> Alignment:
    """Each run of one label is a phone of one state."""
    start = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]])).astype(np.int32)
    return Alignment(name, labels, np.zeros(len(labels), np.int16), (labels + 1).astype(np.int16), start, [])


def write_dump(folder: Path, ali_dir: Path, unit: str, *, units: int = PDFS, silence: int = 0, seed: int = 0, drop: str = "") -> Path:
    """A dump over the runs of the alignment; runs of pdf ``silence`` have no unit, utterance ``drop`` is left out."""
    rng = np.random.default_rng(seed)
    alignments = AlignmentSet.open(ali_dir)
    folder.mkdir(parents=True)
    parts = []
    for name in alignments.ids:
        if name == drop:
            continue
        runs = alignments.get(name).senone_segments()
        keep = runs.ids != silence
        segments = Segments(runs.ids[keep] % units, runs.start[keep], runs.length[keep])
        z = rng.normal(0, 2, (len(segments), units))
        logp = (z - np.log(np.exp(z).sum(1, keepdims=True))).astype(np.float32)
        parts.append((name, segments, logp))
    sample = np.concatenate([logp for _, _, logp in parts])
    coder = Coder.fit(sample, np.full(len(sample), units), mass=1.0, top_k=3, step=0.01)
    save_coder(folder, coder)
    rows = write_shard(folder / "shard-00000.safetensors", coder, [(n, s, coder.quantise(logp)) for n, s, logp in parts])
    meta = {"unit": unit, "num_units": units, "alignment_digest": alignments.digest, "units_digest": "u", "temperature": 1.0}
    finish_dump(folder, [("shard-00000.safetensors", rows)], meta)
    return folder
