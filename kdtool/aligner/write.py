"""Outputs of `kdtool align`.  In: aligned utterances.  Out: textgrid/, json/, words.ctm, phones.ctm (states.ctm), Lhotse manifests,
files.tsv, word_scores.tsv.

Times count from the start of the recording; an utterance that is part of one is shifted to its position.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from kdtool.aligner.names import ctm_names
from kdtool.aligner.prepare import Utterance
from kdtool.aligner.times import Aligned, Interval
from kdtool.core.errors import KdError
from kdtool.core.tables import write_json, write_jsonl, write_lines

KINDS = ("words", "phones", "states")
FILE_COLUMNS = ("file", "seconds", "words", "confidence", "loglike_per_frame", "llr_per_frame", "fit", "doubtful_words", "worst_start",
                "worst_end", "worst_words", "heard")  # fmt: skip
START = attrgetter("offset")
Tier = tuple[str, Sequence[tuple[float, float, str]]]  # name, (start, end, label) in seconds


@dataclass(frozen=True)
class Placed:
    """An aligned utterance at its place in the recording; offset, duration of the recording: seconds."""

    aligned: Aligned
    utterance: Utterance

    @property
    def recording(self) -> str:
        """The recording's name."""
        return self.utterance.item.recording or self.aligned.name

    @property
    def offset(self) -> float:
        """Start in the recording."""
        return self.utterance.staged.start / self.utterance.staged.rate

    @property
    def duration(self) -> float:
        """Duration of the recording."""
        return self.utterance.staged.whole / self.utterance.staged.rate

    def at(self, seconds: float) -> float:
        """Time in the recording."""
        return min(round(self.offset + seconds, 6), self.duration) if self.offset else seconds

    def times(self, kind: str) -> list[tuple[float, float, str]]:
        """(start, end, label) of the intervals of a kind."""
        return [(self.at(i.start), self.at(i.end), i.label) for i in getattr(self.aligned, kind)]


def write_all(work: Path, files: Sequence[Aligned], utterances: Iterable[Utterance], *, states: bool) -> None:
    """Write everything but the report and the lists of failures."""
    kinds = KINDS if states else KINDS[:2]
    by_name = {u.item.name: u for u in utterances}
    placed = [Placed(one, by_name[one.name]) for one in files]
    recordings: dict[str, list[Placed]] = {}
    for one in placed:
        recordings.setdefault(one.recording, []).append(one)
        path = work / "json" / (one.aligned.name + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, to_json(one, states))
    for name, parts in recordings.items():
        path = work / "textgrid" / (name + ".TextGrid")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_textgrid(path, parts[0].duration, tiers_of(parts, kinds))
    plain = ctm_names(sorted(recordings))
    for kind in kinds:
        ordered = (p for name in sorted(recordings) for p in sorted(recordings[name], key=START))
        write_lines(work / f"{kind}.ctm", (
            f"{plain[one.recording]} {(one.utterance.item.channel or 0) + 1} {one.at(i.start):.3f} {i.end - i.start:.3f} {i.label} "
            f"{i.confidence:.3f}" for one in ordered for i in getattr(one.aligned, kind)
        ))  # fmt: skip
    write_lines(work / "files.tsv", ("\t".join(row) for row in (FILE_COLUMNS, *map(file_row, files))))
    scores = (
        f"{one.aligned.name}\t{one.at(w.start):.3f}\t{one.at(w.end):.3f}\t{w.label}\t{w.confidence:.4f}\t{w.llr:.3f}\t{w.fit:.4f}\t{w.heard}"
        for one in placed for w in one.aligned.words
    )  # fmt: skip
    write_lines(work / "word_scores.tsv", ["file\tstart\tend\tword\tconfidence\tllr_per_frame\tfit\theard", *scores])
    write_lhotse(work, placed, kinds)


def fill(intervals: Sequence[tuple[float, float, str]], duration: float) -> list[tuple[float, float, str]]:
    """The intervals, with empty ones filling the gaps, from 0 to `duration`. Raises KdError: an interval overlaps the one before, is
    empty or leaves the file."""
    full: list[tuple[float, float, str]] = []
    at = 0.0
    for start, end, label in intervals:
        if not at <= start < end <= duration:
            raise KdError(f"interval {label!r} from {start} to {end} s follows {at} s in a file of {duration} s")
        if start > at:
            full.append((at, start, ""))
        full.append((start, end, label))
        at = end
    if at < duration:
        full.append((at, duration, ""))
    return full


def write_textgrid(path: Path, duration: float, tiers: Sequence[Tier]) -> None:
    """Write a TextGrid; gaps in a tier become empty intervals, as Praat requires."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {duration!r}",
             "tiers? <exists>", f"size = {len(tiers)}", "item []:"]  # fmt: skip
    for number, (name, intervals) in enumerate(tiers, 1):
        full = fill(intervals, duration)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}", "        xmin = 0",
                  f"        xmax = {duration!r}", f"        intervals: size = {len(full)}"]  # fmt: skip
        for n, (start, end, label) in enumerate(full, 1):
            lines += [f"        intervals [{n}]:", f"            xmin = {start or 0!r}", f"            xmax = {end!r}",
                      f"            text = {_quoted(label)}"]  # fmt: skip
    write_lines(path, lines)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def file_row(a: Aligned) -> list[str]:
    """Values of FILE_COLUMNS; the last four are empty unless the file looks wrong."""
    worst = [f"{d.start:.2f}", f"{d.end:.2f}", d.words, d.heard] if (d := a.wrong) else [""] * 4
    return [a.name, f"{a.duration:.3f}", str(len(a.words)), f"{a.confidence:.4f}", f"{a.loglike:.3f}", f"{a.llr:.3f}", f"{a.fit:.4f}",
            str(a.wrong_words), *worst]  # fmt: skip


def tiers_of(parts: Sequence[Placed], kinds: Sequence[str]) -> list[Tier]:
    """Tiers of one recording; if its utterances overlap, one set of tiers per speaker, or else per utterance."""
    groups = {"": sorted(parts, key=START)}
    for name_of in (lambda p: p.utterance.item.speaker, lambda p: p.aligned.name):
        if any(a.at(a.aligned.duration) > b.offset for group in groups.values() for a, b in itertools.pairwise(group)):
            names = dict.fromkeys(map(name_of, parts))
            groups = {f"{name} - ": sorted((p for p in parts if name_of(p) == name), key=START) for name in names}
    return [(name + kind, [row for part in group for row in part.times(kind)]) for name, group in groups.items() for kind in kinds]


def to_json(one: Placed, states: bool) -> dict[str, Any]:
    """One utterance's alignment; a phone's `word` is an index into `words`, null for silence."""
    a = one.aligned

    def plain(item: Interval) -> dict[str, Any]:
        times = {"start": one.at(item.start), "end": one.at(item.end)}
        return {"label": item.label, **times, "confidence": item.confidence, "loglike": item.loglike}

    phones = [{**plain(p), "word": None if p.word < 0 else p.word, "silence": p.word < 0} for p in a.phones]
    more = {"states": [{"label": label, "start": start, "end": end} for start, end, label in one.times("states")]} if states else {}
    d = a.wrong
    doubt = d and {"start": one.at(d.start), "end": one.at(d.end), "words": d.words, "heard": d.heard, "exchanged": d.exchanged}
    return {
        "file": a.audio, "recording": one.recording, "start": one.offset, "duration": a.duration,
        "confidence": round(a.confidence, 4), "loglike_per_frame": a.loglike, "llr_per_frame": a.llr, "fit": a.fit, "doubt": doubt,
        "words": [{**plain(w), "key": w.key, "llr": w.llr, "fit": w.fit, "heard": w.heard} for w in a.words], "phones": phones, **more,
    }  # fmt: skip


def write_lhotse(work: Path, placed: Sequence[Placed], kinds: Sequence[str]) -> None:
    """recordings, supervisions with alignment items 'word', 'phone' (and 'state'; score = confidence), and cuts, one per utterance.

    A supervision's custom fields: fit and llr_per_frame; word_fit, word_llr and word_heard, each a list.
    """
    from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
    from lhotse.audio import AudioSource
    from lhotse.supervision import AlignmentItem

    recordings, supervisions = {}, []
    for one in placed:
        a, item, s = one.aligned, one.utterance.item, one.utterance.staged
        channels = list(range(s.channels))
        source = [AudioSource("file", channels, a.audio)]
        recordings[one.recording] = Recording(one.recording, source, s.rate, s.whole, one.duration, channels)
        channel = item.channel if item.channel is not None else channels[0] if s.channels == 1 else channels
        each = {f"word_{name}": [getattr(w, name) for w in a.words] for name in ("llr", "fit", "heard")}
        alignment = {
            kind.removesuffix("s"): [
                AlignmentItem(i.label, one.at(i.start), round(i.end - i.start, 8), i.confidence) for i in getattr(a, kind)
            ]
            for kind in kinds
        }
        supervisions.append(
            SupervisionSegment(
                a.name, one.recording, one.offset, a.duration, channel, " ".join(w.label for w in a.words), speaker=item.speaker,
                custom={"llr_per_frame": a.llr, "fit": a.fit, **each}, alignment=alignment,
            )
        )  # fmt: skip
    both = RecordingSet.from_recordings(recordings.values()), SupervisionSet.from_segments(supervisions)
    cuts = CutSet.from_manifests(*both).trim_to_supervisions(keep_overlapping=False)
    for kind, rows in (("recordings", recordings.values()), ("supervisions", supervisions), ("cuts", cuts)):
        write_jsonl(work / f"{kind}.jsonl.gz", (row.to_dict() for row in rows))
