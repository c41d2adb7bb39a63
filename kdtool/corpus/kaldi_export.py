"""Step: export.  In: data/<set>.  Out: a Kaldi data folder: wav.scp, text, utt2spk, spk2utt, utt2dur, reco2dur, segments.

Files are sorted like 'LC_ALL=C sort'. Utterances must sort in the order of their speakers, as Kaldi demands. Times
are rounded up at the ninth decimal: Kaldi truncates to samples, the import rounds, so both find the same sample.
Lhotse's export is not used: its times are a sample off, and it writes an ffmpeg command per FLAC file.
"""

import os
import shlex
import sys
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.core.tables import read_jsonl, write_lines
from kdtool.formats.rows import MANIFESTS, id_fault

NANO = Decimal("1e-9")
# Formats that Kaldi cannot read directly, by their first bytes, and the command of its recipes; the import knows them and runs nothing.
DECODERS = {b"fLaC": "flac -c -d -s {}", b"NIST": "sph2pipe -f wav {}"}


@dataclass(frozen=True)
class Config:
    """Options of the export."""

    prefix_speakers: bool = field(default=False, metadata={"help": "put 'speaker-' before each utterance id, to sort them by speaker"})


@dataclass(frozen=True)
class Row:
    """One utterance; start and end in samples at the recording's rate."""

    id: str
    speaker: str
    text: str
    recording: str
    start: int
    end: int
    channel: int


def read_rows(data: Path, recordings: dict[str, dict[str, Any]], *, prefix: bool) -> list[Row]:
    """All utterances, sorted by id; KdError when Kaldi cannot use an id, or the speakers are not sorted then, as its tools assume."""
    rows: dict[str, Row] = {}
    where = data / MANIFESTS[1]
    for row in read_jsonl(where):
        speaker = row.get("speaker") or row["recording_id"]
        name = f"{speaker}-{row['id']}" if prefix else str(row["id"])
        for kind, value in (("utterance", name), ("speaker", speaker), ("recording", row["recording_id"])):
            if fault := id_fault(value):
                raise KdError(f"{where}: {kind} id {fault}; rename it")
        rate, total = (recordings[row["recording_id"]][key] for key in ("sampling_rate", "num_samples"))
        start = round(row["start"] * rate)
        end = min(total, start + round(row["duration"] * rate))
        channel = row["channel"][0] if isinstance(row["channel"], list) else row["channel"]
        rows[name] = Row(name, speaker, " ".join((row.get("text") or "").split()), row["recording_id"], start, end, channel)
    ordered = [rows[name] for name in sorted(rows)]
    for before, after in pairwise(ordered):
        if before.speaker > after.speaker:
            remedy = "rename the speakers" if prefix else "put the speakers before the ids with --prefix-speakers true"
            raise KdError(f"{data}: utterance {before.id} of speaker {before.speaker} sorts before {after.id} of {after.speaker}: Kaldi "
                          f"wants utterances sorted by speaker; {remedy}")  # fmt: skip
    return ordered


def decimal_seconds(samples: int, rate: int) -> str:
    """Seconds with nine decimals at most, rounded up: '1.5', '0.333333334'."""
    up = (Decimal(samples) / Decimal(rate)).quantize(NANO, ROUND_CEILING)
    if int(float(up) * rate) < samples:  # the decimals are exact, but the nearest float lies below
        up += NANO
    return f"{up:f}".rstrip("0").rstrip(".") or "0"


def wav_entry(recording: dict[str, Any], data: Path) -> str:
    """A recording's value in wav.scp: its absolute path, or the command with which Kaldi's recipes decode it."""
    sources, name = recording["sources"], recording["id"]
    if len(sources) != 1 or recording.get("transforms"):
        raise KdError(f"{data / MANIFESTS[0]}: recording {name} is not one audio file as it is; write it to one first")
    path = os.path.abspath(sources[0]["source"])
    if path != path.strip() or path.endswith("|") or not path.isprintable():
        raise KdError(f"{data / MANIFESTS[0]}: recording {name}: the path {path!r} cannot stand in wav.scp; rename the file")
    with open(path, "rb") as file:
        decoder = DECODERS.get(file.read(4))
    return f"{decoder.format(shlex.quote(path))} |" if decoder else path


def write_dir(data: Path, work: Path, cfg: Config) -> None:
    """Write all files to `work`."""
    recordings = {row["id"]: row for row in read_jsonl(data / MANIFESTS[0])}
    rows = read_rows(data, recordings, prefix=cfg.prefix_speakers)
    if not rows:
        raise KdError(f"{data / MANIFESTS[1]}: no utterances; make the set again")
    used = sorted({row.recording for row in rows})
    rates = {name: recordings[name]["sampling_rate"] for name in used}
    speakers: dict[str, list[str]] = {}
    for row in rows:
        speakers.setdefault(row.speaker, []).append(row.id)
    tables = {
        "wav.scp": [f"{name} {wav_entry(recordings[name], data)}" for name in used],
        "text": [f"{row.id} {row.text}" for row in rows],
        "utt2spk": [f"{row.id} {row.speaker}" for row in rows],
        "spk2utt": [f"{speaker} {' '.join(utterances)}" for speaker, utterances in sorted(speakers.items())],
        "utt2dur": [f"{row.id} {decimal_seconds(row.end - row.start, rates[row.recording])}" for row in rows],
        "reco2dur": [f"{name} {decimal_seconds(recordings[name]['num_samples'], rates[name])}" for name in used],
    }
    if segments := _segments(rows, recordings):
        tables["segments"] = segments
    for name, lines in tables.items():
        write_lines(work / name, lines)
    print(f"export: {len(rows)} utterances, {len(speakers)} speakers, {len(used)} recordings", file=sys.stderr)


def _segments(rows: list[Row], recordings: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of segments; none when each utterance is a whole recording with one channel."""
    whole = all(
        row.id == row.recording and (row.start, row.end) == (0, recordings[row.id]["num_samples"]) and row.channel == 0
        and len(recordings[row.id]["sources"][0]["channels"]) == 1
        for row in rows
    )  # fmt: skip
    if whole:
        return []

    def line(row: Row) -> str:
        recording = recordings[row.recording]
        times = " ".join(decimal_seconds(at, recording["sampling_rate"]) for at in (row.start, row.end))
        return f"{row.id} {row.recording} {times}" + f" {row.channel}" * (len(recording["sources"][0]["channels"]) > 1)

    return [line(row) for row in rows]


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("data", "data folder with recordings and supervisions"), ("kaldi", "Kaldi data folder to make")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="utils/export_kaldi_data.sh", description=__doc__ or "")
    data = paths["data"]
    for name in MANIFESTS:
        if not (data / name).is_file():
            raise KdError(f"{data}: {name} is missing; give a data folder, or prepare the corpus first (local/*/prepare_data.sh)")
    run_step(
        f"export {data.name}", out=paths["kaldi"], inputs={name: data / name for name in MANIFESTS}, options=cfg, common=common,
        code=("kdtool.corpus.kaldi_export",), body=lambda work: write_dir(data, work, cfg), doors=[door("data", data)],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
