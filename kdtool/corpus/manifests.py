"""Lhotse manifests of a set.  In: utterances.  Out: recordings.jsonl.gz, supervisions.jsonl.gz, audio.tsv, dropped.tsv.

Every utterance goes into the manifests or, with its reason, into dropped.tsv.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdtool.audio.faults import tell_audio
from kdtool.audio.reader import Sound
from kdtool.core.dropped import account
from kdtool.core.progress import progress
from kdtool.core.tables import open_text, write_jsonl
from kdtool.core.tensors import file_digest
from kdtool.core.walk import file_fault
from kdtool.corpus.utterance import Limits, Utterance, check_utterance
from kdtool.text.clean import Counts, tell
from kdtool.text.marks import transcript


def choose(utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """The first `count` utterances, taken from the speakers in turn so that a small set has many speakers; 0 for all."""
    if not count:
        return list(utterances)
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utt in sorted(utterances, key=lambda u: u.id):
        by_speaker[utt.speaker].append(utt)
    turns = sorted((turn, speaker) for speaker, theirs in by_speaker.items() for turn in range(len(theirs)))
    return [by_speaker[speaker][turn] for turn, speaker in turns[:count]]


def write_set(
    work: Path,
    utterances: Sequence[Utterance],
    faults: Sequence[tuple[str, str]],
    limits: Limits,
    *,
    max_dropped: float,
    nj: int,
    where: str,
) -> None:
    """Check the utterances and write the manifests, sorted by id.

    Args:
        work: folder to write to.
        utterances: all with an audio file and a transcript; ids are unique.
        faults: (id, reason) of utterances that lack either.
        max_dropped: largest share that may be dropped, 0 to 1.
        nj: decoding threads.
        where: name of the set, for messages.

    Raises:
        KdError: more utterances were dropped than allowed.
    """
    counts = Counts()
    ordered = [replace(u, text=transcript(u.text, counts)) for u in sorted(utterances, key=lambda u: u.id)]
    tell(where, counts)
    with ThreadPoolExecutor(nj) as pool:
        checks = pool.map(lambda u: _check(u, limits), ordered)
        results = list(progress(checks, len(ordered), f"{where}: reading audio"))
    dropped = list(faults)
    kept: list[tuple[Utterance, Sound]] = []
    for utt, (fault, audio) in zip(ordered, results, strict=True):
        if audio is None:
            dropped.append((utt.id, fault))
        else:
            kept.append((utt, audio))
    tell_audio((str(utt.audio), note) for utt, audio in kept for note in audio.notes)
    account(len(ordered) + len(faults), len(kept), dropped, max_share=max_dropped, where=where, work=work)
    write_manifests(work, *whole_files(kept))
    # The manifests hold paths only: without this table, replaced audio of the same length would leave the features 'up to date'.
    with open_text(work / "audio.tsv", "w") as f:
        f.writelines(f"{utt.id}\t{file_digest(utt.audio)}\n" for utt, _ in kept)
    summary(where, [(utt.speaker, audio.seconds) for utt, audio in kept])


def _check(utt: Utterance, limits: Limits) -> tuple[str, Sound | None]:
    fault = file_fault(utt.audio)
    return (f"{utt.audio}: {fault}", None) if fault else check_utterance(utt, limits)


def summary(where: str, utterances: Sequence[tuple[str, float]]) -> None:
    """Print how much speech there is. utterances: (speaker, seconds)."""
    minutes = sum(seconds for _, seconds in utterances) / 60
    print(f"{where}: {len(utterances)} utterances, {len({speaker for speaker, _ in utterances})} speakers, {minutes:.1f} minutes")


def whole_files(utterances: Sequence[tuple[Utterance, Sound]]) -> tuple[list[Any], list[Any]]:
    """Lhotse recordings and supervisions of utterances that are one file each."""
    from lhotse import SupervisionSegment

    recordings, supervisions = [], []
    for utt, audio in utterances:
        recordings.append(recording(utt.id, utt.audio, audio))
        supervisions.append(
            SupervisionSegment(
                id=utt.id, recording_id=utt.id, start=0.0, duration=audio.seconds, channel=0, text=" ".join(utt.text.split()),
                language="English", speaker=utt.speaker,
            )
        )  # fmt: skip
    return recordings, supervisions


def recording(name: str, path: Path, audio: Sound) -> Any:
    """A Lhotse recording of one file."""
    from lhotse import Recording
    from lhotse.audio import AudioSource

    source = AudioSource(type="file", channels=list(range(audio.channels)), source=str(path))
    return Recording(name, [source], audio.rate, audio.samples, audio.seconds)


def write_manifests(work: Path, recordings: Sequence[Any], supervisions: Sequence[Any]) -> None:
    """Validate both manifests by Lhotse and write them."""
    from lhotse import RecordingSet, SupervisionSet, validate_recordings_and_supervisions

    validate_recordings_and_supervisions(RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions))
    write_jsonl(work / "recordings.jsonl.gz", (r.to_dict() for r in recordings))
    write_jsonl(work / "supervisions.jsonl.gz", (s.to_dict() for s in supervisions))
