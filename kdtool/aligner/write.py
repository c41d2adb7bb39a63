"""Outputs of `kdtool align`.  In: aligned utterances.  Out: textgrid/, json/, words.ctm, phones.ctm (states.ctm), Lhotse manifests,
files.tsv, word_scores.tsv.

Times count from the start of the recording; an utterance that is part of one is shifted to its position.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.aligner.doubt import COLUMNS, doubtful, fields
from kdtool.aligner.names import ctm_names
from kdtool.aligner.prepare import Utterance
from kdtool.aligner.textgrid import Tier, write_textgrid
from kdtool.aligner.times import Aligned, Interval
from kdtool.core.tables import open_text, write_json, write_jsonl

KINDS = ("words", "phones", "states")


@dataclass(frozen=True)
class Placed:
    """An aligned utterance at its place in the recording; duration: of the recording, seconds."""

    aligned: Aligned
    utterance: Utterance
    recording: str
    offset: float
    duration: float

    @classmethod
    def of(cls, aligned: Aligned, utterance: Utterance) -> Placed:
        """Place the utterance in its recording."""
        staged = utterance.staged
        return cls(aligned, utterance, utterance.item.recording or aligned.name, staged.start / staged.rate, staged.whole / staged.rate)

    def at(self, seconds: float) -> float:
        """Time in the recording."""
        if not self.offset:
            return seconds
        return min(round(self.offset + seconds, 6), self.duration)


def write_all(work: Path, files: Sequence[Aligned], utterances: Iterable[Utterance], *, states: bool) -> None:
    """Write everything but the report and the lists of failures."""
    by_name = {u.item.name: u for u in utterances}
    placed = [Placed.of(one, by_name[one.name]) for one in files]
    recordings: dict[str, list[Placed]] = {}
    for one in placed:
        recordings.setdefault(one.recording, []).append(one)
        path = work / "json" / (one.aligned.name + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, to_json(one, states))
    for name, parts in recordings.items():
        path = work / "textgrid" / (name + ".TextGrid")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_textgrid(path, parts[0].duration, tiers_of(parts, states))
    plain = ctm_names(sorted(recordings))
    for kind in KINDS if states else KINDS[:2]:
        with open_text(work / f"{kind}.ctm", "w") as f:
            ordered = (p for name in sorted(recordings) for p in sorted(recordings[name], key=lambda p: p.offset))
            f.writelines(line for one in ordered for line in ctm_lines(one, plain[one.recording], getattr(one.aligned, kind)))
    with open_text(work / "files.tsv", "w") as f:
        f.write("\t".join(["file", "seconds", "words", "confidence", "loglike_per_frame", *COLUMNS]) + "\n")
        for a in files:
            row = [a.name, f"{a.duration:.3f}", str(len(a.words)), f"{a.confidence:.4f}", f"{a.loglike:.3f}", *fields(a)]
            f.write("\t".join(row) + "\n")
    with open_text(work / "word_scores.tsv", "w") as f:
        f.write("file\tstart\tend\tword\tconfidence\tllr_per_frame\tfit\theard\n")
        f.writelines(line for one in placed for line in score_lines(one))
    write_lhotse(work, placed, states)


def tiers_of(parts: Sequence[Placed], states: bool) -> list[Tier]:
    """Tiers of one recording; if its utterances overlap, one set of tiers per speaker, or else per utterance."""

    def clash(group: Sequence[Placed]) -> bool:
        ordered = sorted(group, key=lambda p: p.offset)
        return any(a.at(a.aligned.duration) > b.offset for a, b in itertools.pairwise(ordered))

    groups = {"": list(parts)}
    for name_of in (lambda p: p.utterance.item.speaker, lambda p: p.aligned.name):
        if any(map(clash, groups.values())):
            groups = {}
            for part in parts:
                groups.setdefault(f"{name_of(part)} - ", []).append(part)
    kinds = KINDS if states else KINDS[:2]
    return [(name + kind, _triples(group, kind)) for name, group in groups.items() for kind in kinds]


def _triples(group: Sequence[Placed], kind: str) -> list[tuple[float, float, str]]:
    ordered = sorted(group, key=lambda p: p.offset)
    return [(p.at(i.start), p.at(i.end), i.label) for p in ordered for i in getattr(p.aligned, kind)]


def to_json(one: Placed, states: bool) -> dict[str, Any]:
    """One utterance's alignment; a phone's `word` is an index into `words`, null for silence."""
    a = one.aligned

    def plain(item: Interval) -> dict[str, Any]:
        times = {"start": one.at(item.start), "end": one.at(item.end)}
        return {"label": item.label, **times, "confidence": item.confidence, "loglike": item.loglike}

    phones = [{**plain(p), "word": None if p.word < 0 else p.word, "silence": p.word < 0} for p in a.phones]
    more = {"states": [{"label": s.label, "start": one.at(s.start), "end": one.at(s.end)} for s in a.states]} if states else {}
    d = a.doubt if doubtful(a.fit) else None
    doubt = d and {"start": one.at(d.start), "end": one.at(d.end), "words": d.words, "heard": d.heard, "exchanged": d.exchanged}
    return {
        "file": a.audio, "recording": one.recording, "start": one.offset, "duration": a.duration,
        "confidence": round(a.confidence, 4), "loglike_per_frame": a.loglike, "llr_per_frame": a.llr, "fit": a.fit, "doubt": doubt,
        "words": [{**plain(w), "key": w.key, "llr": w.llr, "fit": w.fit, "heard": w.heard} for w in a.words], "phones": phones, **more,
    }  # fmt: skip


def ctm_lines(one: Placed, plain: str, items: Sequence[Interval]) -> list[str]:
    """'recording channel start seconds label confidence'; `plain`: the recording's name as a CTM can hold it."""
    channel = (one.utterance.item.channel or 0) + 1
    return [f"{plain} {channel} {one.at(i.start):.3f} {i.end - i.start:.3f} {i.label} {i.confidence:.3f}\n" for i in items]


def score_lines(one: Placed) -> list[str]:
    """One line of word_scores.tsv per word."""
    return [
        f"{one.aligned.name}\t{one.at(w.start):.3f}\t{one.at(w.end):.3f}\t{w.label}\t{w.confidence:.4f}\t{w.llr:.3f}\t{w.fit:.4f}\t{w.heard}\n"
        for w in one.aligned.words
    ]


def write_lhotse(work: Path, placed: Sequence[Placed], states: bool) -> None:
    """recordings, supervisions with alignment items 'word', 'phone' (and 'state'; score = confidence), and cuts, one per utterance.

    A supervision's custom fields: fit and llr_per_frame; word_fit, word_llr and word_heard, each a list.
    """
    from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
    from lhotse.audio import AudioSource
    from lhotse.supervision import AlignmentItem

    def custom(a: Aligned) -> dict[str, Any]:
        each = {f"word_{name}": [getattr(w, name) for w in a.words] for name in ("llr", "fit", "heard")}
        return {"llr_per_frame": a.llr, "fit": a.fit, **each}

    def items(one: Placed, intervals: Sequence[Interval]) -> list[Any]:
        return [AlignmentItem(i.label, one.at(i.start), round(i.end - i.start, 8), i.confidence) for i in intervals]

    recordings, supervisions = {}, []
    for one in placed:
        a, item, s = one.aligned, one.utterance.item, one.utterance.staged
        channels = list(range(s.channels))
        recordings[one.recording] = Recording(
            one.recording, [AudioSource("file", channels, a.audio)], s.rate, s.whole, s.whole / s.rate, channels
        )
        channel = item.channel if item.channel is not None else channels[0] if s.channels == 1 else channels
        supervisions.append(
            SupervisionSegment(
                a.name, one.recording, one.offset, a.duration, channel, " ".join(w.label for w in a.words), speaker=item.speaker,
                custom=custom(a), alignment={k.removesuffix("s"): items(one, getattr(a, k)) for k in (KINDS if states else KINDS[:2])},
            )
        )  # fmt: skip
    both = RecordingSet.from_recordings(recordings.values()), SupervisionSet.from_segments(supervisions)
    cuts = CutSet.from_manifests(*both).trim_to_supervisions(keep_overlapping=False)
    for kind, rows in (("recordings", recordings.values()), ("supervisions", supervisions), ("cuts", cuts)):
        write_jsonl(work / f"{kind}.jsonl.gz", (row.to_dict() for row in rows))
