"""Step: import.  In: a Kaldi data folder.  Out: data/<set> with Lhotse manifests: recordings, supervisions, audio.tsv, dropped.tsv.

Recordings may have any sampling rate from 8 to 192 kHz and any format that kdtool.audio reads.
Every utterance goes into the manifests or, with its reason, into dropped.tsv; times are kept to the sample.
Lhotse's loader is not used: it takes one rate for all recordings, truncates durations to milliseconds, accepts
duplicate ids, and keeps wav.scp's commands in the manifests, where every later reading of the audio would run them.
"""

import os
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kdtool.audio.faults import tell_audio
from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.dropped import account
from kdtool.core.errors import KdError, UsageError
from kdtool.core.names import printable
from kdtool.core.progress import threaded
from kdtool.core.step import run_step
from kdtool.core.tensors import file_digest
from kdtool.core.walk import file_fault
from kdtool.corpus.kaldi_audio import Entry, read_entries, refuse_commands, run_command
from kdtool.corpus.kaldi_dir import KaldiDir, read_dir, spans
from kdtool.corpus.kaldi_parts import Faulty, Recorded, place
from kdtool.corpus.manifests import recording, summary, write_digests, write_manifests
from kdtool.corpus.utterance import Limits, check_audio
from kdtool.formats.rows import read_utterances
from kdtool.text.clean import Counts, tell, upper
from kdtool.text.marks import transcript

AUDIO = "audio"  # folder for the output of commands


@dataclass(frozen=True)
class Config:
    """Options of the import."""

    allow_pipes: bool = field(default=False, metadata={"help": "run wav.scp's commands and keep their output in the data folder"})
    relative_to: Path | None = field(
        default=None, metadata={"help": "folder at which relative paths in wav.scp start (default: the current one, as in Kaldi)"}
    )
    apart_from: Path | None = field(
        default=None, metadata={"help": "data folder that must share no utterance with this one, such as the training set"}
    )
    upper: bool = field(default=False, metadata={"help": "make the transcripts upper-case, as lexicon and LM text are"})
    max_overshoot: float = field(default=0.5, metadata={"help": "a segment may exceed its recording by this (s); it is cut there"})
    max_dropped: float = field(default=0.0, metadata={"help": "largest share of the utterances that may be dropped"})
    max_chars_per_second: float = field(default=30.0, metadata={"help": "refuse utterances with more transcript characters per second"})


def read_recordings(entries: list[Entry], base: Path, work: Path, out: Path, nj: int) -> dict[str, Recorded]:
    """Decode the recordings to their end; commands are run, their output goes to `work`/audio."""
    limits = Limits(sampling_rate=None, mono=False)

    def read(numbered: tuple[int, Entry]) -> Recorded:
        number, entry = numbered
        file = final = entry.file
        if file is None:
            name = f"{number:06d}.flac"  # no file is named after an id, which is foreign input
            file, final = work / AUDIO / name, out / AUDIO / name
            if fault := run_command(entry.command, file, base):
                return Recorded(f"{entry.where}: {fault}")
        elif fault := file_fault(file):
            hint = f"relative paths count from {base}: choose another folder with --relative-to" if entry.relative else (
                "fix the path, or remove the recording and its utterances")  # fmt: skip
            missing = fault.startswith("no such file")
            return Recorded(f"{entry.where}: " + (f"no such file {file}; {hint}" if missing else f"{printable(str(file))}: {fault}"))
        assert final is not None
        fault, audio = check_audio(file, limits)
        return Recorded(fault and f"{entry.where}: {fault}", file, final, audio)

    if any(entry.file is None for entry in entries):
        (work / AUDIO).mkdir()
    results = threaded(read, list(enumerate(entries, 1)), nj, f"import {out.name}: reading audio")
    return {entry.id: recorded for entry, recorded in zip(entries, results, strict=True)}


def convert(kaldi: KaldiDir, entries: list[Entry], base: Path, work: Path, out: Path, cfg: Config, nj: int) -> None:
    """Write the data folder to `work`, which will become `out`."""
    from lhotse import SupervisionSegment

    where = f"import {out.name}"
    utterances, faults = spans(kaldi)
    channels = {e.id: e.channel for e in entries if e.channel is not None}
    used = {span.recording for span in utterances}
    recordings = read_recordings([e for e in entries if e.id in used], base, work, out, nj)
    dropped, supervisions, cut, changed = list(faults), list[Any](), 0, Counts()
    for raw in utterances:
        span, recorded = replace(raw, text=transcript(raw.text, changed)), recordings[raw.recording]
        try:
            part = place(span, recorded, channels.get(span.recording), kaldi, cfg.max_overshoot, cfg.max_chars_per_second)
        except Faulty as e:
            dropped.append((span.id, str(e)))
            continue
        cut += part.cut
        times = part.start / part.rate, (part.end - part.start) / part.rate
        text = upper(span.text) if cfg.upper else span.text
        supervisions.append(SupervisionSegment(span.id, span.recording, *times, part.channel, text, speaker=span.speaker))
    notes = [*kaldi.notes, *([f"{cut} segments end after their recording and were cut there"] * (cut > 0))]
    if unused := sorted({e.id for e in entries} - used):
        notes.append(f"{len(unused)} of {len(entries)} recordings have no utterance and are left out, the first is {unused[0]}")
    print(*(f"note: {note}" for note in notes), sep="\n", end="\n" * bool(notes), file=sys.stderr)
    tell(where, changed)
    tell_audio((str(f.file), note) for f in recordings.values() if f.audio for note in f.audio.notes)
    account(len(utterances) + len(faults), len(supervisions), dropped, max_share=cfg.max_dropped, where=where, work=work)
    kept = {s.recording_id: recordings[s.recording_id] for s in supervisions}
    write_manifests(work, [recording(name, f.final, f.audio) for name, f in sorted(kept.items()) if f.audio], supervisions)
    digests = {name: file_digest(f.file) for name, f in kept.items()}
    write_digests(work, {s.id: digests[s.recording_id] for s in supervisions})
    summary(where, [(s.speaker, s.duration) for s in supervisions])


def check_apart(kaldi: KaldiDir, other: Path) -> None:
    """KdError when an utterance is in both sets; a note when a speaker is."""
    manifest = other / "supervisions.jsonl.gz"
    if not manifest.is_file():
        raise UsageError(f"--apart-from {other}: no data folder (supervisions.jsonl.gz is missing); prepare it first")
    rows = list(read_utterances(other))
    speakers = kaldi.tables["utt2spk"].rows
    if both := sorted({row["id"] for row in rows} & set(speakers)):
        raise KdError(f"{kaldi.folder}: utterance {both[0]} is in {other} too ({len(both)} such), so figures on one of the sets would be "
                      "worth nothing; keep them apart")  # fmt: skip
    if voices := sorted({row.get("speaker") or "" for row in rows} & {row.value for row in speakers.values()}):
        kaldi.notes.append(f"speaker {voices[0]} is in {other} too ({len(voices)} such): the figures are not those of unknown speakers")


def import_dir(folder: Path, out: Path, cfg: Config, common: Common) -> None:
    """Run the step."""
    kaldi = read_dir(folder)
    if cfg.apart_from is not None:
        check_apart(kaldi, cfg.apart_from)
    base = Path(os.path.abspath(cfg.relative_to or Path.cwd()))
    entries = read_entries(kaldi.tables["wav.scp"], base)
    if not cfg.allow_pipes:
        refuse_commands(entries)
    inputs = {name: table.path for name, table in kaldi.tables.items()}
    # Missing or unreadable files are reported per recording, in the body.
    inputs.update({f"audio of {e.id}": e.file for e in entries if e.file is not None and not file_fault(e.file)})
    place_counts = str(base) if any(e.relative for e in entries) else ""
    counted = {k: v for k, v in asdict(cfg).items() if k not in ("relative_to", "apart_from")}
    options = {**counted, "relative_to": place_counts, "out": os.path.abspath(out)}
    run_step(
        f"import {out.name}", out=out, inputs=inputs, options=options, code=("kdtool.corpus.kaldi_import",), common=common,
        body=lambda work: convert(kaldi, entries, base, work, Path(os.path.abspath(out)), cfg, common.nj),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("kaldi", "Kaldi data folder with wav.scp, text, utt2spk"), ("out", "data folder to make")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="utils/import_kaldi_data.sh", description=__doc__ or "")
    if not 0 <= cfg.max_dropped < 1:
        raise UsageError(f"--max-dropped {cfg.max_dropped}: a share from 0 to less than 1")
    if cfg.max_overshoot < 0 or cfg.max_chars_per_second <= 0:
        raise UsageError("--max-overshoot: 0 or more; --max-chars-per-second: more than 0")
    if cfg.relative_to is not None and not cfg.relative_to.is_dir():
        raise UsageError(f"--relative-to {cfg.relative_to}: no such folder")
    import_dir(paths["kaldi"], paths["out"], cfg, common)


if __name__ == "__main__":
    cli_main(main)
