"""What `kdtool align` leaves.  In: aligned files.  Out: textgrid/, json/, words.ctm, phones.ctm, Lhotse manifests, files.tsv."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kdtool.aligner.prepare import Utterance
from kdtool.aligner.textgrid import Tier, write_textgrid
from kdtool.aligner.times import Aligned, Interval
from kdtool.core.tables import open_text, write_json, write_jsonl


def write_all(work: Path, files: Sequence[Aligned], utterances: Iterable[Utterance], *, states: bool) -> None:
    """Write everything but the report and the lists of failures."""
    for one in files:
        tiers: list[Tier] = [("words", _triples(one.words)), ("phones", _triples(one.phones))]
        if states:
            tiers.append(("states", _triples(one.states)))
        for kind, suffix in (("textgrid", ".TextGrid"), ("json", ".json")):
            (work / kind / (one.name + suffix)).parent.mkdir(parents=True, exist_ok=True)
        write_textgrid(work / "textgrid" / (one.name + ".TextGrid"), one.duration, tiers)
        write_json(work / "json" / (one.name + ".json"), to_json(one, states))
    for kind in ("words", "phones"):
        with open_text(work / f"{kind}.ctm", "w") as f:
            f.writelines(line for one in files for line in ctm_lines(one.name, getattr(one, kind)))
    with open_text(work / "files.tsv", "w") as f:
        f.write("file\tseconds\twords\tconfidence\tloglike_per_frame\n")
        f.writelines(f"{a.name}\t{a.duration:.3f}\t{len(a.words)}\t{a.confidence:.4f}\t{a.loglike:.3f}\n" for a in files)
    write_lhotse(work, files, {u.item.name: u for u in utterances})


def _triples(items: Sequence[Interval]) -> list[tuple[float, float, str]]:
    return [(i.start, i.end, i.label) for i in items]


def to_json(one: Aligned, states: bool) -> dict[str, Any]:
    """One file's alignment; a phone's `word` is an index into `words`, null for silence."""

    def plain(item: Interval) -> dict[str, Any]:
        return {"label": item.label, "start": item.start, "end": item.end, "confidence": item.confidence, "loglike": item.loglike}

    phones = [{**plain(p), "word": None if p.word < 0 else p.word, "silence": p.word < 0} for p in one.phones]
    more = {"states": [{"label": s.label, "start": s.start, "end": s.end} for s in one.states]} if states else {}
    return {
        "file": one.audio, "duration": one.duration, "confidence": round(one.confidence, 4), "loglike_per_frame": one.loglike,
        "words": [{**plain(w), "key": w.key} for w in one.words], "phones": phones, **more,
    }  # fmt: skip


def ctm_lines(name: str, items: Sequence[Interval]) -> list[str]:
    """'file channel start seconds label confidence'; a CTM has no way to quote, so spaces in a name become underscores."""
    plain = "_".join(name.split())
    return [f"{plain} 1 {i.start:.3f} {i.end - i.start:.3f} {i.label} {i.confidence:.3f}\n" for i in items]


def write_lhotse(work: Path, files: Sequence[Aligned], utterances: dict[str, Utterance]) -> None:
    """recordings, supervisions with alignment items 'word' and 'phone' (score = confidence), and cuts of both."""
    from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
    from lhotse.audio import AudioSource
    from lhotse.supervision import AlignmentItem

    def items(intervals: Sequence[Interval]) -> list[Any]:
        return [AlignmentItem(i.label, i.start, round(i.end - i.start, 8), i.confidence) for i in intervals]

    recordings, supervisions = [], []
    for one in files:
        s = utterances[one.name].staged
        channels = list(range(s.channels))
        recordings.append(Recording(one.name, [AudioSource("file", channels, one.audio)], s.rate, s.length, s.seconds, channels))
        supervisions.append(
            SupervisionSegment(
                one.name, one.name, 0.0, s.seconds, channels[0] if s.channels == 1 else channels, " ".join(w.label for w in one.words),
                speaker=utterances[one.name].item.speaker, alignment={"word": items(one.words), "phone": items(one.phones)},
            )
        )  # fmt: skip
    cuts = CutSet.from_manifests(RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions))
    for kind, rows in (("recordings", recordings), ("supervisions", supervisions), ("cuts", cuts)):
        write_jsonl(work / f"{kind}.jsonl.gz", (row.to_dict() for row in rows))
