"""Alignments in the formats of other tools.

In: an alignment folder's content and the feature folder's Lhotse cuts. Out: words.ctm, phones.ctm, and cuts.jsonl.gz with
Lhotse alignment items "word" and "phone" on each supervision.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text, read_jsonl, write_jsonl
from kdtool.features.store import FRAME_SHIFT
from kdtool.formats.alignment import Alignment, AlignmentSet


def phone_items(ali: Alignment, names: Sequence[str]) -> list[tuple[str, int, int]]:
    """(phone, start frame, frames), silence included."""
    s = ali.phone_segments()
    return [(names[p], a, n) for p, a, n in zip(s.ids.tolist(), s.start.tolist(), s.length.tolist(), strict=True)]


def export(work: Path, cuts_file: Path, names: Sequence[str]) -> None:
    """Write words.ctm, phones.ctm and cuts.jsonl.gz beside the alignment in `work`. names: phone by id.

    CTM lines are "recording channel start seconds symbol", times from the recording's start. The cuts keep the order of
    `cuts_file`, without unaligned utterances and without the features, whose paths are valid in their own folder only.
    """
    alignments = AlignmentSet.open(work)
    rows = [row for row in read_jsonl(cuts_file) if row["id"] in alignments]
    if len(rows) != len(alignments):
        raise KdError(f"{cuts_file} has cuts for {len(rows)} of {len(alignments)} aligned utterances; extract the features again")
    with open_text(work / "words.ctm", "w") as words, open_text(work / "phones.ctm", "w") as phones:
        for row in sorted(rows, key=lambda r: (r["recording"]["id"], r["start"])):
            ali = alignments.get(row["id"])
            words.writelines(_ctm(row, ali.words))
            phones.writelines(_ctm(row, phone_items(ali, names)))
    write_jsonl(work / "cuts.jsonl.gz", (_with_items(row, alignments.get(row["id"]), names) for row in rows))


def _seconds(item: tuple[str, int, int], limit: float) -> tuple[float, float]:
    """Start and duration; the last frame may exceed the audio by less than a frame, which is cut off."""
    start = item[1] * FRAME_SHIFT
    return round(start, 4), round(max(0.0, min(item[2] * FRAME_SHIFT, limit - start)), 4)


def _ctm(row: dict[str, Any], items: list[tuple[str, int, int]]) -> Iterator[str]:
    for item in items:
        start, duration = _seconds(item, row["duration"])
        yield f"{row['recording']['id']} {row['channel'] + 1} {row['start'] + start:.3f} {duration:.3f} {item[0]}\n"


def _with_items(row: dict[str, Any], ali: Alignment, names: Sequence[str]) -> dict[str, Any]:
    kinds = {"word": ali.words, "phone": phone_items(ali, names)}
    cut = {k: v for k, v in row.items() if k != "features"}
    supervision = dict(row["supervisions"][0])
    supervision["alignment"] = {
        kind: [[item[0], *_seconds(item, row["duration"])] for item in items] for kind, items in kinds.items()
    }
    return {**cut, "supervisions": [supervision]}
