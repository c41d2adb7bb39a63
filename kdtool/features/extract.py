"""Step: extract features.  In: data/<set> (Lhotse manifests).  Out: data/<set>/<kind>.

The folder: cuts.jsonl.gz (Lhotse MonoCuts with features, paths relative to the folder), storage/ (numpy files),
index.json (what kdtool.features.store reads), cmvn.safetensors (per-speaker mean and std), dropped.tsv.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.digest import RECORD
from kdtool.core.dropped import account
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.jobs import run_array
from kdtool.core.step import run_step
from kdtool.core.tables import read_json, read_jsonl, write_json, write_jsonl
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.features.store import FeatureKind, FeatureSet, parse_label

KINDS = ("mfcc", "fbank")
AUTO_RATES = (16000, 8000)
LOWEST_TOP = 3000  # Hz; below, some of 80 mel filters hold no bin of the spectrum
JOB_MB = 1000  # of one job: libraries, and one recording


@dataclass(frozen=True)
class Config:
    """Options of the feature step."""

    kind: str = field(default="mfcc", metadata={"help": "mfcc (13 cepstra with C0) or fbank (80 log mel energies)"})
    speeds: str = field(default="1.0", metadata={"help": "comma-separated speed factors, one copy each, e.g. 0.9,1.0,1.1"})
    sample_rate: int = field(
        default=0, metadata={"help": "Hz, a multiple of 100; 0 for 16000, or 8000 when a recording of the set has less than 16000"}
    )
    high_freq: int = field(
        default=0, metadata={"help": "Hz, upper edge of the mel filters, where recordings hold nothing above; 0: 400 below half the rate"}
    )
    like: Path | None = field(
        default=None, metadata={"help": "feature folder whose sampling rate and band to take: of training, for a test set"}
    )
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


def count_utterances(data: Path) -> int:
    """Number of utterances in a data folder, which the step's door has checked."""
    return sum(1 for _ in read_jsonl(data / "supervisions.jsonl.gz"))


def choose_rate(data: Path, wanted: int) -> int:
    """The features' sampling rate: the wanted one, else the higher of 16 and 8 kHz that no recording lies below.

    Features above a recording's rate have an empty upper band, which a model takes for a property of speech: never unasked.

    Raises:
        KdError: without a wish, a recording lies below 8 kHz.
        UsageError: the wish gives no whole number of samples in 10 ms.
    """
    if wanted:
        if wanted < 1000 or wanted % 100:
            raise UsageError(f"--sample-rate {wanted}: a multiple of 100 Hz, at least 1000, so that 10 ms are whole samples; 0 chooses")
        return wanted
    lowest = min(read_jsonl(data / "recordings.jsonl.gz"), key=lambda row: int(row["sampling_rate"]), default=None)
    if lowest is None:
        raise KdError(f"{data}/recordings.jsonl.gz: no recordings; prepare the corpus again")
    for rate in AUTO_RATES:
        if lowest["sampling_rate"] >= rate:
            return rate
    raise KdError(f"{data}: recording {lowest['id']} has {lowest['sampling_rate']} Hz, less than {AUTO_RATES[-1]}; "
                  "remove it, or choose the features' rate with --sample-rate")  # fmt: skip


def as_in(like: Path, data: Path, cfg: Config) -> Config:
    """The options with the sampling rate and the band of another set's features.

    Raises:
        UsageError: another rate or band is asked for.
        KdError: a recording of this set lies below the rate, and nobody asked for features with an empty band.
    """
    other, wanted = parse_label(FeatureSet.open(like).kind), cfg.sample_rate
    rate = other.sample_rate
    if cfg.high_freq not in (0, other.high_freq):
        raise UsageError(f"--high-freq {cfg.high_freq}: the features of --like {like} reach up to {other.top} Hz; "
                         "give the same for both sets")  # fmt: skip
    if wanted not in (0, rate):
        raise UsageError(f"--sample-rate {wanted}: the features of --like {like} are at {rate} Hz; give the same for both sets")
    for row in read_jsonl(data / "recordings.jsonl.gz"):
        if row["sampling_rate"] < rate and not wanted:
            raise KdError(f"{data}: recording {row['id']} has {row['sampling_rate']} Hz, the features of {like} are at {rate} Hz and "
                          f"want as much; remove it, or make both with --sample-rate {row['sampling_rate'] // 100 * 100}")  # fmt: skip
    return dataclasses.replace(cfg, sample_rate=rate, high_freq=other.high_freq)


def check_band(high_freq: int, sample_rate: int) -> None:
    """UsageError unless the filters' upper edge lies between LOWEST_TOP and half the sampling rate; 0 is the default edge."""
    if high_freq and not LOWEST_TOP <= high_freq <= sample_rate // 2:
        raise UsageError(f"--high-freq {high_freq}: from {LOWEST_TOP} to {sample_rate // 2} Hz for features at {sample_rate} Hz "
                         "(below, filters would be narrower than the spectrum's steps); 0 for the default")  # fmt: skip


def data_inputs(data: Path) -> dict[str, Path]:
    """What a data folder counts by: its record; a folder made by other means by its manifests.

    Its other content does not count, because feature folders are made inside it.
    """
    if (data / RECORD).is_file():
        return {"data": data}
    return {name: data / f"{name}.jsonl.gz" for name in ("recordings", "supervisions")}


def note_rates(rates: Counter[str], sample_rate: int) -> None:
    """Say which recordings were resampled, and that those from a lower rate lack the upper band."""
    for rate, count in sorted(rates.items()):
        band = f"; above {int(rate) // 2} Hz they hold nothing" if int(rate) < sample_rate else ""
        print(f"note: {count} recordings of {rate} Hz were resampled to {sample_rate} Hz{band}", file=sys.stderr)


def collect(
    work: Path, kind: str, speeds: list[float], sample_rate: int, nj: int, total: int, max_dropped: float, high_freq: int = 0
) -> None:
    """Join the jobs' parts into one index, in the order of the data set whatever the number of jobs."""
    from kdtool.features.cmvn import speaker_stats

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
    note_rates(resampled, sample_rate)
    account(total * len(speeds), len(cuts), dropped, max_share=max_dropped, where=f"{kind} features", work=work)
    write_jsonl(work / "cuts.jsonl.gz", cuts)
    save_tensors(work / "cmvn.safetensors", speaker_stats(stats))
    facts: dict[str, Any] = {"kind": kind, "sample_rate": sample_rate, "dim": cuts[0]["features"]["num_features"], "speeds": speeds}
    if high_freq:  # an index without a band reads as before there were any
        facts["high_freq"] = high_freq
    index = {**facts, "utterances": [index_row(c) for c in cuts]}
    write_json(work / "index.json", index)
    shutil.rmtree(work / "parts")


def index_row(cut: dict[str, Any]) -> dict[str, Any]:
    """What store.UttInfo holds, and the file."""
    supervision, features = cut["supervisions"][0], cut["features"]
    return {
        "id": cut["id"],
        "source_id": cut["custom"]["source_id"],
        "speaker": supervision["speaker"],
        "text": supervision.get("text") or "",
        "speed": cut["custom"]["speed"],
        "num_frames": features["num_frames"],
        "file": f"{features['storage_path']}/{features['storage_key']}",
    }


def made(work: Path, job: int) -> list[Path]:
    """The files of one job: its part of the index, and the arrays that this names."""
    parts = work / "parts"
    cuts = parts / f"cuts.{job}.jsonl"
    arrays = [work / cut["features"]["storage_path"] / cut["features"]["storage_key"] for cut in read_jsonl(cuts)]
    return [cuts, parts / f"sums.{job}.safetensors", parts / f"info.{job}.json", *arrays]


def extract(data: Path, work: Path, features: FeatureKind, speeds: list[float], *, nj: int, max_dropped: float = 0.05) -> None:
    """Extract the features of a data folder into `work` with nj processes; a sampling rate of 0 lets `choose_rate` choose."""
    total = count_utterances(data)
    kind, high_freq = features.kind, features.high_freq
    sample_rate = choose_rate(data, features.sample_rate)
    check_band(high_freq, sample_rate)
    nj = min(nj, total)
    (work / "parts").mkdir()
    (work / "storage").mkdir()
    # repr round-trips a float, so the jobs see the very same factors
    argv = [str(data), str(work), "--kind", kind, "--speeds", ",".join(map(repr, speeds)), "--sample-rate", str(sample_rate),
            "--high-freq", str(high_freq)]  # fmt: skip
    run_array("kdtool.features.job", argv, nj=nj, log_dir=work / "log", name=f"extract_{kind}", mem=JOB_MB,
              outputs=lambda job: made(work, job))  # fmt: skip
    collect(work, kind, speeds, sample_rate, nj, total, max_dropped, high_freq)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("data", "data folder with recordings and supervisions"), ("out", "feature folder to make")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/extract_features.sh", description=__doc__ or "")
    if cfg.kind not in KINDS:
        raise UsageError(f"--kind {cfg.kind}: known are {', '.join(KINDS)}")
    speeds = parse_speeds(cfg.speeds)
    if cfg.like is not None:
        door("data", paths["data"])()
        cfg = as_in(cfg.like, paths["data"], cfg)
    run_step(
        f"{cfg.kind} features of {paths['data'].name}",
        out=paths["out"],
        inputs=data_inputs(paths["data"]),
        options=cfg,
        code=("kdtool.features.extract",),
        body=lambda work: extract(
            paths["data"], work, FeatureKind(cfg.kind, cfg.sample_rate, cfg.high_freq), speeds, nj=common.nj, max_dropped=cfg.max_dropped
        ),
        common=common,
        doors=[door("data", paths["data"])],
    )


if __name__ == "__main__":
    cli_main(main)
