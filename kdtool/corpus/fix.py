"""Fixes a data folder.  In: a data folder with faults.  Out: the same folder with valid manifests, a backup, fixed.tsv.

Fixed are order, unclean text, upper case, utterances that exceed their recording, and facts that the audio's header contradicts;
other faults drop the row with a reason. Audio is never touched. Changed files are kept in .backup.<n>; a second run
has nothing to do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.audio.faults import AudioFault
from kdtool.audio.reader import header
from kdtool.core.digest import RECORD
from kdtool.core.errors import KdError
from kdtool.core.tables import open_text, read_jsonl, read_lines, write_jsonl
from kdtool.core.tensors import file_digest
from kdtool.corpus.ids import id_fault
from kdtool.corpus.sources import source_fault
from kdtool.corpus.utterance import Limits
from kdtool.text.clean import Counts, upper
from kdtool.text.marks import transcript

MANIFESTS = ("recordings.jsonl.gz", "supervisions.jsonl.gz")
FIXED = "fixed.tsv"
Row = dict[str, Any]


@dataclass
class Changes:
    """What was done: (id, what) of the rows that were fixed and dropped; recordings whose audio differs from the manifest."""

    fixed: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    other_audio: set[str] = field(default_factory=set)
    kept: int = 0


def fix_data(folder: Path, faults: Callable[[Any, bool], str]) -> Changes:
    """Fix the manifests of a data folder.

    Args:
    faults: describes what is wrong with the fields of a row (True: a recording, False: an utterance), '' for nothing.

    Raises:
        KdError: a manifest is missing or cannot be read to its end, or no row would be left.
    """
    changes = Changes()
    recordings = _recordings(_rows(folder / MANIFESTS[0]), faults, changes)
    utterances = _utterances(_rows(folder / MANIFESTS[1]), recordings, faults, changes)
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


def _recordings(rows: list[Any], faults: Callable[[Any, bool], str], changes: Changes) -> dict[str, Row]:
    """The valid recordings by id; length and rate are taken from the audio."""
    kept: dict[str, Row] = {}
    for number, row in enumerate(rows, 1):
        name, fault = _name(row, number), faults(row, True)
        fault = fault or id_fault(row["id"]) or ("the id comes twice" if name in kept else "") or _audio_fault(row)
        if fault:
            changes.dropped.append((name, f"recording: {fault}"))
            continue
        audio = header(Path(row["sources"][0]["source"]))
        rate, samples = audio.rate, audio.samples
        facts = {"sampling_rate": rate, "num_samples": samples, "duration": audio.seconds}
        if any(abs(row[k] - v) > (0.01 if k == "duration" else 0) for k, v in facts.items()):
            said = f"{row['num_samples']} samples at {row['sampling_rate']} Hz, {row['duration']} s"
            changes.fixed.append((name, f"recording: the manifest said {said}, its audio has {samples} at {rate} Hz"))
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


def _utterances(rows: list[Any], recordings: dict[str, Row], faults: Callable[[Any, bool], str], changes: Changes) -> list[Row]:
    from kdtool.lang.vocab import text_fault

    kept: dict[str, Row] = {}
    for number, row in enumerate(rows, 1):
        name, fault = _name(row, number), faults(row, False)
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
        if clipped := _clip(row, recording["duration"]):
            start, end = clipped
            if end - start < Limits.min_seconds:
                changes.dropped.append((name, f"{max(0.0, end - start):.3f} s of it lie inside its recording"))
                continue
            changes.fixed.append((name, f"{row['start']:.3f}+{row['duration']:.3f} s clipped to {start:.3f}+{end - start:.3f} s"))
            row = {**row, "start": start, "duration": round(end - start, 8)}
        kept[name] = row
    return list(kept.values())


def _clip(row: Row, seconds: float) -> tuple[float, float] | None:
    """(start, end) inside the recording; None when the utterance lies inside already."""
    start, end = row["start"], row["start"] + row["duration"]
    if start >= 0 and row["duration"] > 0 and end <= seconds + 0.01:
        return None
    return max(0.0, start), min(end, seconds)


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
        with open_text(folder / "audio.tsv", "w") as f:
            for row in tables[MANIFESTS[1]]:
                new = file_digest(audio[row["recording_id"]]) if row["recording_id"] in audio else digests.get(row["id"])
                f.write(f"{row['id']}\t{new}\n" if new else "")
    with open_text(folder / FIXED, "w") as f:
        for kind, items in (("fixed", changes.fixed), ("dropped", changes.dropped)):
            f.writelines("\t".join([kind, *(" ".join(cell.split()) for cell in item)]) + "\n" for item in items)
