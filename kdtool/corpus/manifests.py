"""Lhotse manifests of a set.  In: utterances.  Out: recordings.jsonl.gz, supervisions.jsonl.gz, audio.tsv; others in dropped.tsv."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdtool.audio.faults import tell_audio
from kdtool.audio.reader import Sound
from kdtool.core.dropped import Dropped, account
from kdtool.core.progress import threaded
from kdtool.core.tables import write_jsonl, write_lines
from kdtool.core.tensors import file_digest
from kdtool.core.walk import file_fault
from kdtool.corpus.utterance import Limits, Utterance, check_utterance
from kdtool.formats.rows import MANIFESTS
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
    work: Path, utterances: Sequence[Utterance], faults: Dropped, limits: Limits, *, max_dropped: float, nj: int, where: str
) -> None:
    """Check the utterances and write the manifests, sorted by id. Raises KdError: more were dropped than allowed.

    utterances: all with an audio file and a transcript; ids are unique; faults: (id, reason) of those that lack either.
    max_dropped: largest share that may be dropped, 0 to 1; nj: decoding threads; where: name of the set, for messages.
    """
    counts = Counts()
    ordered = [replace(u, text=transcript(u.text, counts)) for u in sorted(utterances, key=lambda u: u.id)]
    tell(where, counts)

    def check(utt: Utterance) -> tuple[str, Sound | None]:
        fault = file_fault(utt.audio)
        return (f"{utt.audio}: {fault}", None) if fault else check_utterance(utt, limits)

    results = threaded(check, ordered, nj, f"{where}: reading audio")
    kept = [(utt, audio) for utt, (_, audio) in zip(ordered, results, strict=True) if audio]
    dropped = [*faults, *((utt.id, fault) for utt, (fault, audio) in zip(ordered, results, strict=True) if not audio)]
    tell_audio((str(utt.audio), note) for utt, audio in kept for note in audio.notes)
    account(len(ordered) + len(faults), len(kept), dropped, max_share=max_dropped, where=where, work=work)
    write_manifests(work, *whole_files(kept))
    write_digests(work, {utt.id: file_digest(utt.audio) for utt, _ in kept})
    summary(where, [(utt.speaker, audio.seconds) for utt, audio in kept])


def write_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """audio.tsv: utterance, digest of its audio. The manifests hold paths only: without this table, replaced audio of the same length
    would leave the features 'up to date'."""
    write_lines(folder / "audio.tsv", (f"{name}\t{digest}" for name, digest in digests.items()))


def summary(where: str, utterances: Sequence[tuple[str, float]]) -> None:
    """Print how much speech there is. utterances: (speaker, seconds)."""
    minutes = sum(seconds for _, seconds in utterances) / 60
    print(f"{where}: {len(utterances)} utterances, {len({speaker for speaker, _ in utterances})} speakers, {minutes:.1f} minutes")


def whole_files(utterances: Sequence[tuple[Utterance, Sound]]) -> tuple[list[Any], list[Any]]:
    """Lhotse recordings and supervisions of utterances that are one file each."""
    from lhotse import SupervisionSegment

    recordings = [recording(utt.id, utt.audio, audio) for utt, audio in utterances]
    supervisions = [
        SupervisionSegment(utt.id, utt.id, 0.0, audio.seconds, 0, " ".join(utt.text.split()), "English", utt.speaker)
        for utt, audio in utterances
    ]
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
    for name, rows in zip(MANIFESTS, (recordings, supervisions), strict=True):
        write_jsonl(work / name, (row.to_dict() for row in rows))
