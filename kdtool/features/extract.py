"""Step: extract features.  In: data/<set> (Lhotse manifests).  Out: data/<set>/<kind>.

The folder: cuts.jsonl.gz (Lhotse MonoCuts with features, paths relative to the folder), storage/ (numpy files),
index.json (what kdtool.features.store reads), cmvn.safetensors (per-speaker mean and std), dropped.tsv.
"""

import dataclasses
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.digest import RECORD
from kdtool.core.dropped import account
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.jobs import run_array
from kdtool.core.step import run_step
from kdtool.core.tables import read_json, read_jsonl, write_json, write_jsonl
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.features.store import MIN_STD, FeatureKind, FeatureSet, parse_label

KINDS = ("mfcc", "fbank")
AUTO_RATES = (16000, 8000)
LOWEST_TOP = 3000  # Hz; below, some of 80 mel filters hold no bin of the spectrum
JOB_MB = 1000  # of one job: libraries, and one recording


@dataclass(frozen=True)
class Config:
    """Options of the feature step."""

    kind: str = field(default="mfcc", metadata={"help": "mfcc (13 cepstra with C0) or fbank (80 log mel energies)"})
    speeds: str = field(default="1.0", metadata={"help": "comma-separated speed factors, one copy each, e.g. 0.9,1.0,1.1"})
    sample_rate: int = field(default=0, metadata={"help": "Hz, a multiple of 100; 0 for 16000, or 8000 when a recording of the set has "
                                                          "less than 16000"})  # fmt: skip
    high_freq: int = field(default=0, metadata={"help": "Hz, upper edge of the mel filters, where recordings hold nothing above; "
                                                        "0: 400 below half the rate"})  # fmt: skip
    like: Path | None = field(default=None, metadata={"help": "feature folder whose sampling rate and band to take: of training, for a "
                                                              "test set"})  # fmt: skip
    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})


def parse_speeds(text: str) -> list[float]:
    """'0.9,1.0' -> [0.9, 1.0]; UsageError unless all differ and lie in 0.5 to 2."""
    try:
        speeds = [float(s) for s in text.split(",")]
    except ValueError as e:
        raise UsageError(f"--speeds {text!r}: numbers separated by commas expected, as in 0.9,1.0,1.1") from e
    if len(set(speeds)) != len(speeds) or not all(0.5 <= s <= 2.0 for s in speeds):
        raise UsageError(f"--speeds {text!r}: every factor once, each between 0.5 and 2")
    return speeds


def choose_rate(data: Path, rate: int) -> int:
    """The features' sampling rate: the given one, or for 0 the higher of 16 and 8 kHz that no recording lies below.

    Features above a recording's rate have an empty upper band, which a model takes for a property of speech: never unasked.

    Raises:
        KdError: no rate is given, and a recording lies below 8 kHz.
        UsageError: the given rate has no whole number of samples in 10 ms.
    """
    if rate:
        if rate < 1000 or rate % 100:
            raise UsageError(f"--sample-rate {rate}: a multiple of 100 Hz, at least 1000, so that 10 ms are whole samples; 0 chooses")
        return rate
    lowest = min(read_jsonl(data / "recordings.jsonl.gz"), key=lambda row: int(row["sampling_rate"]), default=None)
    if lowest is None:
        raise KdError(f"{data}/recordings.jsonl.gz: no recordings; prepare the corpus again")
    if (auto := [r for r in AUTO_RATES if lowest["sampling_rate"] >= r]):
        return auto[0]
    raise KdError(f"{data}: recording {lowest['id']} has {lowest['sampling_rate']} Hz, less than {AUTO_RATES[-1]}; "
                  "remove it, or choose the features' rate with --sample-rate")  # fmt: skip


def as_in(like: Path, data: Path, cfg: Config) -> Config:
    """The options with the sampling rate and the band of another set's features.

    Raises:
        UsageError: another rate or band is asked for.
        KdError: a recording of this set lies below the rate, and nobody asked for features with an empty band.
    """
    other = parse_label(FeatureSet.open(like).kind)
    rate = other.sample_rate
    if cfg.high_freq not in (0, other.high_freq):
        raise UsageError(f"--high-freq {cfg.high_freq}: the features of --like {like} reach up to {other.top} Hz; "
                         "give the same for both sets")  # fmt: skip
    if cfg.sample_rate not in (0, rate):
        raise UsageError(f"--sample-rate {cfg.sample_rate}: the features of --like {like} are at {rate} Hz; give the same for both sets")
    for row in read_jsonl(data / "recordings.jsonl.gz"):
        if row["sampling_rate"] < rate and not cfg.sample_rate:
            raise KdError(f"{data}: recording {row['id']} has {row['sampling_rate']} Hz, the features of {like} are at {rate} Hz and "
                          f"want as much; remove it, or make both with --sample-rate {row['sampling_rate'] // 100 * 100}")  # fmt: skip
    return dataclasses.replace(cfg, sample_rate=rate, high_freq=other.high_freq)


def data_inputs(data: Path) -> dict[str, Path]:
    """What a data folder counts by: its record; a folder made by other means by its manifests.

    Its other content does not count, because feature folders are made inside it.
    """
    if (data / RECORD).is_file():
        return {"data": data}
    return {name: data / f"{name}.jsonl.gz" for name in ("recordings", "supervisions")}


def collect(work: Path, features: FeatureKind, speeds: list[float], nj: int, total: int, max_dropped: float) -> None:
    """Join the jobs' parts into one index, in the order of the data set whatever the number of jobs."""
    cuts: list[dict[str, Any]] = []
    dropped: list[tuple[str, str]] = []
    stats = []
    resampled: Counter[str] = Counter()
    for job in range(1, nj + 1):
        part = list(read_jsonl(work / "parts" / f"cuts.{job}.jsonl"))
        sums = load_tensors(work / "parts" / f"sums.{job}.safetensors")["sums"]
        stats += [(cut["supervisions"][0]["speaker"], cut["features"]["num_frames"], s) for cut, s in zip(part, sums, strict=True)]
        info = read_json(work / "parts" / f"info.{job}.json")
        dropped += [(utt, reason) for utt, reason in info["dropped"]]
        resampled.update(info["resampled"])
        cuts += part
    for rate, count in sorted(resampled.items()):
        band = f"; above {int(rate) // 2} Hz they hold nothing" if int(rate) < features.sample_rate else ""
        print(f"note: {count} recordings of {rate} Hz were resampled to {features.sample_rate} Hz{band}", file=sys.stderr)
    account(total * len(speeds), len(cuts), dropped, max_share=max_dropped, where=f"{features.kind} features", work=work)
    write_jsonl(work / "cuts.jsonl.gz", cuts)
    save_tensors(work / "cmvn.safetensors", speaker_stats(stats))
    facts: dict[str, Any] = {"kind": features.kind, "sample_rate": features.sample_rate, "dim": cuts[0]["features"]["num_features"],
                             "speeds": speeds}  # fmt: skip
    if features.high_freq:  # an index without a band reads as before there were any
        facts["high_freq"] = features.high_freq
    write_json(work / "index.json", {**facts, "utterances": [index_row(c) for c in cuts]})
    shutil.rmtree(work / "parts")


def speaker_stats(rows: Iterable[tuple[str, int, np.ndarray]]) -> dict[str, np.ndarray]:
    """Mean and standard deviation per speaker, float32 (D,), under '<speaker>.mean' and '<speaker>.std' (at least MIN_STD).

    rows: (speaker, num_frames, float64 (2, D): sum and sum of squares over time) of all utterances, added in their order, so that the
    result does not depend on the number of processes.
    """
    totals: dict[str, np.ndarray] = {}
    counts: Counter[str] = Counter()
    for speaker, frames, sums in rows:
        totals[speaker] = totals[speaker] + sums if speaker in totals else sums.astype(np.float64)
        counts[speaker] += frames
    out = {}
    for speaker, (first, second) in totals.items():
        if counts[speaker] < 1:
            raise KdError(f"speaker {speaker}: no frames to normalise with; remove the speaker's empty utterances")
        mean = first / counts[speaker]
        variance = second / counts[speaker] - mean**2
        out[f"{speaker}.mean"] = mean.astype(np.float32)
        out[f"{speaker}.std"] = np.sqrt(np.maximum(variance, MIN_STD**2)).astype(np.float32)
    return out


def index_row(cut: dict[str, Any]) -> dict[str, Any]:
    """What store.UttInfo holds, and the file."""
    supervision, features = cut["supervisions"][0], cut["features"]
    return {"id": cut["id"], "source_id": cut["custom"]["source_id"], "speaker": supervision["speaker"],
            "text": supervision.get("text") or "", "speed": cut["custom"]["speed"], "num_frames": features["num_frames"],
            "file": array_file(features)}  # fmt: skip


def array_file(features: dict[str, Any]) -> str:
    """The path of a cut's array in the feature folder, from its feature manifest."""
    return f"{features['storage_path']}/{features['storage_key']}"


def made(work: Path, job: int) -> list[Path]:
    """The files of one job: its part of the index, and the arrays that this names."""
    cuts, sums, info = (work / "parts" / name for name in (f"cuts.{job}.jsonl", f"sums.{job}.safetensors", f"info.{job}.json"))
    return [cuts, sums, info, *(work / array_file(cut["features"]) for cut in read_jsonl(cuts))]


def extract(data: Path, work: Path, features: FeatureKind, speeds: list[float], *, nj: int, max_dropped: float = 0.05) -> None:
    """Extract the features of a data folder, which has been checked, into `work` with nj processes; a sampling rate of 0 lets
    `choose_rate` choose; UsageError when the filters' upper edge does not lie between LOWEST_TOP and half the sampling rate."""
    total = sum(1 for _ in read_jsonl(data / "supervisions.jsonl.gz"))
    features = features._replace(sample_rate=choose_rate(data, features.sample_rate))
    rate, high_freq = features.sample_rate, features.high_freq
    if high_freq and not LOWEST_TOP <= high_freq <= rate // 2:
        raise UsageError(f"--high-freq {high_freq}: from {LOWEST_TOP} to {rate // 2} Hz for features at {rate} Hz "
                         "(below, filters would be narrower than the spectrum's steps); 0 for the default")  # fmt: skip
    nj = min(nj, total)
    (work / "parts").mkdir()
    (work / "storage").mkdir()
    # repr round-trips a float, so the jobs see the very same factors
    argv = [str(data), str(work), "--kind", features.kind, "--speeds", ",".join(map(repr, speeds)), "--sample-rate", str(rate),
            "--high-freq", str(high_freq)]  # fmt: skip
    run_array("kdtool.features.job", argv, nj=nj, log_dir=work / "log", name=f"extract_{features.kind}", mem=JOB_MB,
              outputs=lambda job: made(work, job))  # fmt: skip
    collect(work, features, speeds, nj, total, max_dropped)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("data", "data folder with recordings and supervisions"), ("out", "feature folder to make")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/extract_features.sh", description=__doc__ or "")
    if cfg.kind not in KINDS:
        raise UsageError(f"--kind {cfg.kind}: known are {', '.join(KINDS)}")
    speeds, data = parse_speeds(cfg.speeds), paths["data"]
    if cfg.like is not None:
        door("data", data)()
        cfg = as_in(cfg.like, data, cfg)
    features = FeatureKind(cfg.kind, cfg.sample_rate, cfg.high_freq)
    run_step(
        f"{cfg.kind} features of {data.name}", out=paths["out"], inputs=data_inputs(data), options=cfg, code=("kdtool.features.extract",),
        body=lambda work: extract(data, work, features, speeds, nj=common.nj, max_dropped=cfg.max_dropped), common=common,
        doors=[door("data", data)],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
