"""A data folder: Lhotse manifests, the audio that they name, the feature folders inside.

DOOR reads the manifests and checks that the audio exists; FULL reads the audio's headers and the feature tables;
DEEP decodes all audio and reads all features.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

from kdtool.audio.faults import AudioFault
from kdtool.audio.reader import check as read_through
from kdtool.audio.reader import header
from kdtool.core.findings import Class, Level, Report
from kdtool.core.inputs import validate
from kdtool.core.tables import read_lines
from kdtool.core.tensors import file_digest
from kdtool.formats.rows import RECORDING, SUPERVISION, id_fault, source_fault
from kdtool.lang.vocab import text_fault
from kdtool.validate.checks import BROKEN, BROKEN_CLASS, check_repeated, sound_rows

FIX = "utils/fix_data.sh {folder}"
AGAIN = "prepare the corpus again (local/*/prepare_data.sh)"
CLASSES = {
    BROKEN: BROKEN_CLASS,
    "no-utterances": Class("no utterance at all", AGAIN),
    "duplicate-id": Class("an id that occurs more than once", FIX),
    "bad-id": Class("an id that cannot be a file name or a field of a table", "rename it in the corpus, then " + AGAIN),
    "no-recording": Class("an utterance whose recording is not in recordings.jsonl.gz", FIX),
    "outside-recording": Class("an utterance that does not lie inside its recording", FIX),
    "recording-length": Class("a recording whose duration is not its samples by its sampling rate", AGAIN),
    "empty-transcript": Class("an utterance without words", FIX),
    "transcript": Class("a transcript with a reserved word, invisible character, markup, or letters that are not composed (NFC)", FIX),
    "audio-source": Class("audio that is read by running a command or from the network", "write it to files, then " + AGAIN),
    "audio-missing": Class("audio that is not there or empty", "fetch it again, or " + FIX),
    "audio-differs": Class("audio of another rate, length or number of channels than its manifest says", AGAIN),
    "audio-broken": Class("audio that cannot be decoded to its end, or is silent", "fetch it again, or remove it, then " + AGAIN),
    "audio-changed": Class("audio whose content is not what the manifests were made of (audio.tsv)", AGAIN),
    "features": Class("a feature folder with problems", "utils/validate_features.sh FOLDER says which; extract the features again"),
    "lower-case": Class("a transcript that is not upper-case, which steps/prepare_lang.sh refuses", FIX, warning=True),
    "not-sorted": Class("an utterance that comes before the one it stands behind", FIX, warning=True),
    "unused-recording": Class("a recording without an utterance", FIX, warning=True),
    "no-speaker": Class("an utterance without a speaker (its recording counts as one)", "name the speakers in the corpus", warning=True),
    "same-text": Class("transcripts that are equal word by word, of five words and more", "listen whether one was copied", warning=True),
}
OTHERS: dict[str, str] = {}
SLACK = 0.01  # seconds: manifests round their times


def check(report: Report, folder: Path, level: Level, others: object) -> None:
    """Check a data folder."""
    tables = {"recordings": RECORDING, "supervisions": SUPERVISION}
    listed, utterances = (sound_rows(folder / f"{name}.jsonl.gz", fields, report) for name, fields in tables.items())
    recordings = {row["id"]: row for row in listed}
    if not utterances and not report.items(BROKEN):
        report.add("no-utterances", "supervisions.jsonl.gz", folder / "supervisions.jsonl.gz")
    for name, rows in zip(tables, (listed, utterances), strict=True):
        path, ids = folder / f"{name}.jsonl.gz", [row["id"] for row in rows]
        check_repeated(report, ids, path)
        for one in dict.fromkeys(ids):
            if fault := id_fault(one):
                report.add("bad-id", repr(one), path, fault)
        for before, one in pairwise(ids):
            if one < before:
                report.add("not-sorted", one, path, f"stands behind {before}")
    for row in utterances:
        _check_utterance(report, row, recordings.get(row["recording_id"]), folder / "supervisions.jsonl.gz")
    _check_texts(report, utterances, folder / "supervisions.jsonl.gz")
    digests = _audio_digests(folder, utterances) if level == Level.DEEP else {}
    for row in recordings.values():
        _check_recording(report, row, folder / "recordings.jsonl.gz", level, digests)
    for name in recordings.keys() - {row["recording_id"] for row in utterances}:
        report.add("unused-recording", name, folder / "recordings.jsonl.gz")
    if level > Level.DOOR:
        _check_features(report, folder, level)
    report.summary = f"{len(utterances)} utterances, {len(recordings)} recordings, {len({u['speaker'] for u in utterances})} speakers"


def _check_utterance(report: Report, row: dict[str, Any], recording: dict[str, Any] | None, path: Path) -> None:
    name = row["id"]
    if recording is None:
        report.add("no-recording", name, path, f"recording {row['recording_id']}")
    else:
        end = row["start"] + row["duration"]
        if row["start"] < 0 or row["duration"] <= 0 or end > recording["duration"] + SLACK:
            report.add("outside-recording", name, path, f"{row['start']:.3f} to {end:.3f} s", f"within 0 to {recording['duration']:.3f} s")
    if row.get("speaker") and (fault := id_fault(row["speaker"])):
        report.add("bad-id", repr(row["speaker"]), path, f"speaker of {name}: {fault}")
    elif not row.get("speaker"):
        report.add("no-speaker", name, path)


def _check_texts(report: Report, utterances: list[dict[str, Any]], path: Path) -> None:
    first: dict[str, str] = {}
    for row in utterances:
        words = (row.get("text") or "").split()
        text = " ".join(words)
        if not words:
            report.add("empty-transcript", row["id"], path)
            continue
        if fault := text_fault(text, lower_too=True):
            report.add("transcript", row["id"], path, fault)
        if text != text.upper():
            report.add("lower-case", row["id"], path, text[:60])
        if len(words) >= 5 and first.setdefault(text, row["id"]) != row["id"]:
            report.add("same-text", row["id"], path, f"same as {first[text]}")


def _check_recording(report: Report, row: dict[str, Any], path: Path, level: Level, digests: dict[str, str]) -> None:
    name = row["id"]
    if row["sampling_rate"] <= 0 or abs(row["num_samples"] / row["sampling_rate"] - row["duration"]) > SLACK:
        report.add("recording-length", name, path, f"{row['duration']} s", f"{row['num_samples']} samples at {row['sampling_rate']} Hz")
    for source in row["sources"] or [None]:
        if fault := source_fault(source):
            report.add("audio-source", name, path, fault)
            continue
        audio = Path(source["source"])
        try:
            size = audio.stat().st_size
        except OSError as e:
            report.add("audio-missing", name, audio, e.strerror or str(e))
            continue
        if size == 0:
            report.add("audio-missing", name, audio, "0 bytes")
        elif level > Level.DOOR:
            _check_audio(report, row, audio, level, digests.get(name))


def _check_audio(report: Report, row: dict[str, Any], audio: Path, level: Level, digest: str | None) -> None:
    try:
        sound = read_through(audio) if level == Level.DEEP else header(audio)
        if (sound.rate, sound.samples) != (row["sampling_rate"], row["num_samples"]):
            found, expected = f"{sound.samples} samples at {sound.rate} Hz", f"{row['num_samples']} at {row['sampling_rate']} Hz"
            report.add("audio-differs", row["id"], audio, found, expected)
        if level == Level.DEEP and sound.constant:
            report.add("audio-broken", row["id"], audio, f"all {sound.samples} samples are equal")
    except AudioFault as e:
        report.add("audio-broken", row["id"], audio, str(e))
    if digest and file_digest(audio) != digest:
        report.add("audio-changed", row["id"], audio, file_digest(audio), digest)


def _audio_digests(folder: Path, utterances: list[dict[str, Any]]) -> dict[str, str]:
    """audio.tsv of a folder that has one: recording -> digest of its audio (the table is by utterance)."""
    path = folder / "audio.tsv"
    table = dict(line.split("\t", 1) for line in read_lines(path) if "\t" in line) if path.is_file() else {}
    return {row["recording_id"]: table[row["id"]] for row in utterances if row["id"] in table}


def _check_features(report: Report, folder: Path, level: Level) -> None:
    for index in sorted(folder.glob("[!.]*/index.json")):
        if (index.parent / "cmvn.safetensors").exists():
            found = validate("features", index.parent, level, {"data": folder})
            for name in found.problems:
                report.add("features", index.parent.name, index.parent, f"{len(found.items(name))} x {name}")
