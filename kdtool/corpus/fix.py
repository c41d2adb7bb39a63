"""Fixes a data folder.  In: a data folder with faults.  Out: the same folder with valid manifests, a backup, fixed.tsv; exit status.

Fixed are order, unclean text, upper case, utterances that exceed their recording, and facts that the audio's header contradicts;
other faults drop the row with a reason. Audio is never touched. Changed files are kept in .backup.<n>; a second run
has nothing to do. Exit status 0: fixed, or nothing to fix; 1: it cannot be fixed; 2: usage.
"""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.audio.faults import AudioFault
from kdtool.audio.reader import header
from kdtool.core.cli import Parser, cli_main
from kdtool.core.digest import RECORD
from kdtool.core.errors import KdError
from kdtool.core.tables import read_jsonl, read_lines, write_jsonl, write_lines
from kdtool.core.tensors import file_digest
from kdtool.corpus.manifests import write_digests
from kdtool.corpus.utterance import Limits
from kdtool.formats.rows import MANIFESTS, RECORDING, SUPERVISION, id_fault, row_faults, source_fault
from kdtool.lang.vocab import text_fault
from kdtool.text.clean import Counts, upper
from kdtool.text.marks import transcript

FIXED = "fixed.tsv"
SHOWN = 20
Row = dict[str, Any]


@dataclass
class Changes:
    """What was done: (id, what) of the rows that were fixed and dropped; recordings whose audio differs from the manifest."""

    fixed: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    other_audio: set[str] = field(default_factory=set)
    kept: int = 0


def fix_data(folder: Path) -> Changes:
    """Fix the manifests of a data folder. Raises KdError: a manifest is missing or cannot be read to its end, or no row would be left."""
    changes = Changes()
    recordings = _recordings(_rows(folder / MANIFESTS[0]), changes)
    utterances = _utterances(_rows(folder / MANIFESTS[1]), recordings, changes)
    if not utterances:
        first = "".join(f"\n  {name}: {what}" for name, what in changes.dropped[:5])
        raise KdError(f"{folder}: no utterance would be left, so nothing was changed:{first}\nprepare the corpus again")
    used = {row["recording_id"] for row in utterances}
    changes.dropped += [(name, "a recording without an utterance") for name in recordings if name not in used]
    tables = {MANIFESTS[0]: [recordings[name] for name in sorted(used)], MANIFESTS[1]: sorted(utterances, key=lambda row: row["id"])}
    changes.kept = len(utterances)
    for name, rows in tables.items():
        old = [row["id"] for row in _rows(folder / name) if isinstance(row, dict) and "id" in row]
        new = [row["id"] for row in rows]
        if old != new and sorted(old, key=str) == new:
            changes.fixed.append((name, "rows brought into the order of their ids"))
    if changes.fixed or changes.dropped:
        _write(folder, tables, changes)
    return changes


def _rows(path: Path) -> list[Any]:
    try:
        return list(read_jsonl(path))
    except KdError as e:
        raise KdError(f"{e}\nwhat is cut or missing cannot be fixed: prepare the corpus again") from e


def _recordings(rows: list[Any], changes: Changes) -> dict[str, Row]:
    """The valid recordings by id; length and rate are taken from the audio."""
    kept: dict[str, Row] = {}
    for number, row in enumerate(rows, 1):
        name, fault = _name(row, number), "; ".join(row_faults(row, RECORDING))
        fault = fault or id_fault(row["id"]) or ("the id comes twice" if name in kept else "") or _audio_fault(row)
        if fault:
            changes.dropped.append((name, f"recording: {fault}"))
            continue
        audio = header(Path(row["sources"][0]["source"]))
        rate, samples = audio.rate, audio.samples
        facts = {"sampling_rate": rate, "num_samples": samples, "duration": audio.seconds}
        if any(abs(row[k] - v) > (0.01 if k == "duration" else 0) for k, v in facts.items()):
            before = f"{row['num_samples']} samples at {row['sampling_rate']} Hz, {row['duration']} s"
            changes.fixed.append((name, f"recording: the manifest said {before}, its audio has {samples} at {rate} Hz"))
            changes.other_audio.add(name)
            row = {**row, **facts}
        kept[name] = row
    return kept


def _audio_fault(row: Row) -> str:
    for source in row["sources"] or [None]:
        if fault := source_fault(source):
            return fault
        path = Path(source["source"])
        if not path.is_file() or path.stat().st_size == 0:
            return f"{path} is not there or empty"
        try:
            header(path)
        except AudioFault as e:
            return str(e)
    return ""


def _utterances(rows: list[Any], recordings: dict[str, Row], changes: Changes) -> list[Row]:
    kept: dict[str, Row] = {}
    for number, row in enumerate(rows, 1):
        name, fault = _name(row, number), "; ".join(row_faults(row, SUPERVISION))
        if not fault:
            written = " ".join((row.get("text") or "").split())
            text = transcript(written, Counts())
            recording = recordings.get(row["recording_id"])
            fault = (
                id_fault(row["id"]) or (id_fault(row["speaker"]) if row.get("speaker") else "")
                or ("the id comes twice" if name in kept else "") or ("" if text else "its transcript is empty")
                or text_fault(text, lower_too=True) or ("" if recording else f"its recording {row['recording_id']} is not there")
            )  # fmt: skip
        if fault:
            changes.dropped.append((name, fault))
            continue
        assert recording is not None
        if text != written:
            changes.fixed.append((name, f"transcript {written[:60]!r} put in its clean form"))
            row = {**row, "text": text}
        if text != upper(text):
            changes.fixed.append((name, "transcript put in upper case"))
            row = {**row, "text": upper(text)}
        start, end, seconds = row["start"], row["start"] + row["duration"], recording["duration"]
        if start < 0 or row["duration"] <= 0 or end > seconds + 0.01:
            start, end = max(0.0, start), min(end, seconds)
            if end - start < Limits.min_seconds:
                changes.dropped.append((name, f"{max(0.0, end - start):.3f} s of it lie inside its recording"))
                continue
            changes.fixed.append((name, f"{row['start']:.3f}+{row['duration']:.3f} s clipped to {start:.3f}+{end - start:.3f} s"))
            row = {**row, "start": start, "duration": round(end - start, 8)}
        kept[name] = row
    return list(kept.values())


def _name(row: Any, number: int) -> str:
    return str(row["id"]) if isinstance(row, dict) and row.get("id") else f"line {number}"


def _write(folder: Path, tables: dict[str, list[Row]], changes: Changes) -> None:
    number = 1 + max((int(p.suffix[1:]) for p in folder.glob(".backup.*") if p.suffix[1:].isdigit()), default=0)
    backup = folder / f".backup.{number}"
    backup.mkdir()
    for name in (*MANIFESTS, "audio.tsv", FIXED, RECORD):
        if (folder / name).is_file():
            shutil.copy2(folder / name, backup / name)
    # An old record would report an altered folder; without one the folder counts by its content.
    (folder / RECORD).unlink(missing_ok=True)
    for name, rows in tables.items():
        write_jsonl(folder / name, rows)
    if (folder / "audio.tsv").is_file():
        digests = dict(line.split("\t", 1) for line in read_lines(folder / "audio.tsv") if "\t" in line)
        audio = {row["id"]: row["sources"][0]["source"] for row in tables[MANIFESTS[0]] if row["id"] in changes.other_audio}
        for row in tables[MANIFESTS[1]]:
            if row["recording_id"] in audio:
                digests[row["id"]] = file_digest(audio[row["recording_id"]])
        write_digests(folder, {row["id"]: digests[row["id"]] for row in tables[MANIFESTS[1]] if digests.get(row["id"])})
    entries = [*(("fixed", *item) for item in changes.fixed), *(("dropped", *item) for item in changes.dropped)]
    write_lines(folder / FIXED, ("\t".join(" ".join(cell.split()) for cell in entry) for entry in entries))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = Parser(prog="utils/fix_data.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="data folder to fix; changed files are kept in its .backup.<n>")
    folder = parser.parse_args(sys.argv[1:] if argv is None else argv).folder
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; check the path")
    made = (folder / RECORD).is_file()
    changes = fix_data(folder)
    for kind, rows in (("fixed", changes.fixed), ("dropped", changes.dropped)):
        for name, what in rows[:SHOWN]:
            print(f"{kind}: {name}: {what}")
        if len(rows) > SHOWN:
            print(f"{kind}: {len(rows) - SHOWN} more, all in {folder / FIXED}")
    if not changes.fixed and not changes.dropped:
        print(f"{folder}: nothing to fix")
        return
    print(f"{folder}: {changes.kept} utterances kept, {len(changes.fixed)} changes, {len(changes.dropped)} dropped; "
          f"what was there before is in {max(folder.glob('.backup.*'), key=lambda p: int(p.suffix[1:]))}")  # fmt: skip
    if made:
        print("note: the folder has no record any more, so the stage that made it will not replace it: go on with the stage behind it "
              "(--stage), or move the folder away and fix the corpus instead")  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
