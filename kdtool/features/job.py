"""One job of the feature step.  In: manifests, this job's share of the utterances.  Out: arrays and a part of the index.

Run by kdtool.features.extract through kdtool.core.jobs: writes WORK/storage/*/*.npy, WORK/parts/cuts.J.jsonl (Lhotse
cuts), sums.J.safetensors (for the speaker statistics), info.J.json (dropped utterances, resampled recordings).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.audio.backend import use_in_lhotse
from kdtool.audio.faults import AudioFault
from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.core.jobs import split
from kdtool.core.progress import progress
from kdtool.core.tables import read_jsonl, write_json, write_jsonl
from kdtool.core.tensors import save_tensors
from kdtool.features.store import EDGE, LOW_FREQ
from kdtool.formats.rows import source_fault

KINDS = {"mfcc": 13, "fbank": 80}
MAX_SECONDS_OFF = 0.01  # seconds between manifest and audio; Lhotse silently pads up to half a second
WINDOW_SECONDS = 0.025  # the shortest audio; reflection at the edges needs half a window of real samples


@dataclass(frozen=True)
class Config:
    """Options of one job, as of the step; sample_rate and high_freq are chosen."""

    kind: str = "mfcc"
    speeds: str = "1.0"
    sample_rate: int = 16000
    high_freq: int = 0
    job: int = 1
    num_jobs: int = 1


def make_extractor(kind: str, sample_rate: int, high_freq: int = 0) -> Any:
    """Lhotse's Kaldi-compatible extractor: 25 ms window, 10 ms shift, no dither (equal audio gives equal features).

    mfcc: 13 cepstra from 23 mel bins, C0 included; fbank: 80 log mel energies. The bins reach from 20 Hz to ``high_freq`` Hz, or
    where that is 0 to 400 Hz below half the rate. snip_edges is off, so an utterance of d seconds has round(100 d) frames.
    """
    from lhotse.features.kaldi.extractors import Fbank, FbankConfig, Mfcc, MfccConfig

    same = {"sampling_rate": sample_rate, "dither": 0.0, "snip_edges": False, "low_freq": float(LOW_FREQ),
            "high_freq": float(high_freq or -EDGE)}  # fmt: skip
    if kind == "mfcc":
        return Mfcc(MfccConfig(num_ceps=KINDS[kind], use_energy=False, **same))
    if kind == "fbank":
        return Fbank(FbankConfig(num_filters=KINDS[kind], **same))
    raise KdError(f"feature kind {kind!r} is unknown; known are {', '.join(KINDS)}")


def copy_id(source_id: str, speed: float) -> str:
    """The id of an utterance's copy at a speed (Lhotse's own scheme); the original keeps its id."""
    return source_id if speed == 1.0 else f"{source_id}_sp{speed}"


def make_cut(supervision: Any, recording: Any, speed: float, sample_rate: int) -> Any:
    """A Lhotse cut for one utterance at one speed, resampled if the recording has another rate.

    A perturbed speed counts as another speaker, as in Kaldi: pitch and formants move with it.
    """
    from lhotse import MonoCut
    from lhotse.utils import fastcopy

    channel = supervision.channel[0] if isinstance(supervision.channel, list) else supervision.channel
    speaker = copy_id(supervision.speaker or supervision.recording_id, speed)
    cut = MonoCut(id=supervision.id, start=supervision.start, duration=supervision.duration, channel=channel, recording=recording,
                  supervisions=[fastcopy(supervision, start=0.0, channel=channel, speaker=speaker)])  # fmt: skip
    if cut.sampling_rate != sample_rate:
        cut = cut.resample(sample_rate)
    if speed != 1.0:
        cut = cut.perturb_speed(speed)
    cut.custom = {"source_id": supervision.id, "speed": speed}
    return cut


def extract_cut(cut: Any, extractor: Any) -> np.ndarray:
    """Features of a cut: float32 (T, D). Raises KdError: the audio is unreadable or too short, or the features do not match the
    duration."""
    from lhotse.utils import compute_num_frames

    for source in cut.recording.sources:
        if fault := source_fault(source.to_dict()):
            raise KdError(fault)
    try:
        samples = cut.load_audio()
    except AudioFault as e:
        raise KdError(str(e).split("\n")[0]) from e  # Lhotse appends further lines
    except Exception as e:  # Lhotse's readers raise whatever their backend raises; every one means 'unreadable audio'
        paths = ", ".join(str(source.source) for source in cut.recording.sources)
        raise KdError(f"unreadable audio {paths}: {type(e).__name__} {e}") from e
    rate = extractor.config.sampling_rate
    if samples.shape[1] < WINDOW_SECONDS * rate:
        raise KdError(f"{samples.shape[1]} samples are less than one window of {WINDOW_SECONDS * rate:.0f}")
    if not np.isfinite(samples).all():
        raise KdError("audio with NaN or infinite samples")
    feats = np.ascontiguousarray(extractor.extract(samples, rate), dtype=np.float32)
    expected = compute_num_frames(cut.duration, extractor.frame_shift, rate)
    if feats.shape[0] != expected:
        raise KdError(f"{feats.shape[0]} frames, {expected} expected for {cut.duration:.4f} s")
    if not np.isfinite(feats).all():
        raise KdError("features with NaN or infinite values")
    return feats


def describe(cut: Any, feats: np.ndarray, extractor: Any, key: str) -> Any:
    """The cut with its feature manifest; storage_path is relative to the feature folder."""
    from lhotse import Features

    cut.features = Features(
        type=extractor.name, num_frames=feats.shape[0], num_features=feats.shape[1], frame_shift=extractor.frame_shift,
        sampling_rate=extractor.config.sampling_rate, start=cut.start, duration=cut.duration, storage_type="numpy_files",
        storage_path="storage", storage_key=key, recording_id=cut.recording_id, channels=cut.channel,
    )  # fmt: skip
    return cut


def run_job(
    data: Path, work: Path, kind: str, speeds: list[float], sample_rate: int, job: int, num_jobs: int, high_freq: int = 0
) -> None:
    """Extract this job's share and write its part of the index."""
    import torch
    from lhotse import RecordingSet, SupervisionSet
    from lhotse.features.io import NumpyFilesWriter

    torch.set_num_threads(1)
    use_in_lhotse(MAX_SECONDS_OFF)
    # Lhotse's from_jsonl would run a command when the path begins with 'pipe:'.
    recordings = RecordingSet.from_dicts(read_jsonl(data / "recordings.jsonl.gz"))
    supervisions = split(list(SupervisionSet.from_dicts(read_jsonl(data / "supervisions.jsonl.gz"))), job, num_jobs)
    extractor = make_extractor(kind, sample_rate, high_freq)
    writer = NumpyFilesWriter(str(work / "storage"))
    cuts, dropped, sums = [], [], [np.zeros((0, 2, KINDS[kind]))]
    rates: Counter[int] = Counter()
    for supervision in progress(supervisions, len(supervisions), f"{kind} features, job {job}"):
        if supervision.recording_id not in recordings:
            reason = f"its recording {supervision.recording_id} is not in {data.name}/recordings.jsonl.gz"
            dropped += [(copy_id(supervision.id, speed), reason) for speed in speeds]
            continue
        recording = recordings[supervision.recording_id]
        rates[recording.sampling_rate] += 1
        for speed in speeds:
            try:
                cut = make_cut(supervision, recording, speed, sample_rate)
                feats = extract_cut(cut, extractor)
            except (KdError, MemoryError) as e:
                too_large = f"too little memory for its {supervision.duration:.0f} s; cut the recording, or run fewer jobs at once"
                dropped.append((copy_id(supervision.id, speed), str(e) or too_large))
                continue
            try:
                key = writer.write(cut.id, feats)
            except OSError as e:  # numpy gives no error number when a disk is full
                raise KdError(f"{work / 'storage'}: the features of {cut.id} could not be written ({e}); free space, then run again") from e
            cuts.append(describe(cut, feats, extractor, key).to_dict())
            wide = feats.astype(np.float64)
            sums.append(np.stack([wide.sum(0), np.square(wide).sum(0)])[None])
    parts = work / "parts"
    write_jsonl(parts / f"cuts.{job}.jsonl", cuts)
    save_tensors(parts / f"sums.{job}.safetensors", {"sums": np.concatenate(sums)})
    others = {str(rate): count for rate, count in rates.items() if rate != sample_rate}
    write_json(parts / f"info.{job}.json", {"dropped": dropped, "resampled": others})


def main(argv: list[str] | None = None) -> None:
    """Command line of one job; users run steps/extract_features.sh instead."""
    positionals = [("data", "data folder"), ("work", "folder to write to")]
    paths, cfg, _ = parse_args(Config, positionals, argv, prog="python -m kdtool.features.job", description=__doc__ or "")
    speeds = [float(s) for s in cfg.speeds.split(",")]
    run_job(paths["data"], paths["work"], cfg.kind, speeds, cfg.sample_rate, cfg.job, cfg.num_jobs, cfg.high_freq)


if __name__ == "__main__":
    cli_main(main)
