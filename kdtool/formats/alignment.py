"""Alignments in memory and on disk.

In: one ``Alignment`` per utterance (senone, HMM state and phone per frame, word spans).
Out: ``ali.safetensors`` (all utterances, concatenated) and ``index.jsonl`` in one folder, read back by
``AlignmentSet``. Frames are 10 ms frames of the original utterance.
"""

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_jsonl, write_json, write_jsonl
from kdtool.core.tensors import file_digest, load_metadata, load_tensors, save_tensors

KINDS = {"pdf": np.int32, "state": np.int16, "phone": np.int16, "phone_start": np.int32}
FIELDS = {"id", "offset", "num_frames", "phone_offset", "phones", "words"}
ALI_FILE, INDEX_FILE, META_FILE = "ali.safetensors", "index.jsonl", "meta.json"


@dataclass
class Segments:
    """Runs of frames that share one unit: ``ids``, ``start`` frame and ``length`` in frames, int32 (N,) each."""

    ids: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Alignment:
    """The alignment of one utterance's frames.

    ``pdf`` int32 (T,), ``state`` int16 (T,) (0 is a phone's first state), ``phone`` int16 (T,);
    ``phone_start`` int32 (N,): first frame of each phone, ascending from 0, so that two equal neighbouring phones
    are separate; ``words``: (word, start frame, number of frames), without silence.
    """

    id: str
    pdf: np.ndarray
    state: np.ndarray
    phone: np.ndarray
    phone_start: np.ndarray
    words: list[tuple[str, int, int]]

    @property
    def num_frames(self) -> int:
        return len(self.pdf)

    def phone_segments(self) -> Segments:
        """One segment per phone (ids are phone ids); they cover all frames."""
        start = self.phone_start.astype(np.int32)
        return Segments(self.phone[start].astype(np.int32), start, _lengths(start, self.num_frames))

    def senone_segments(self) -> Segments:
        """One segment per visited HMM state of a phone (ids are pdfs), including its self-loop frames."""
        new = np.zeros(self.num_frames, dtype=bool)
        new[self.phone_start] = True
        new[1:] |= self.state[1:] != self.state[:-1]
        start = np.flatnonzero(new).astype(np.int32)
        return Segments(self.pdf[start].astype(np.int32), start, _lengths(start, self.num_frames))

    def fault(self) -> tuple[str, str]:
        """("", "") if the parts are consistent, else the kind of fault ("frames", "phones", "words") and its description."""
        frames, start = self.num_frames, self.phone_start
        if frames == 0 or not len(self.state) == len(self.phone) == frames:
            return "frames", f"{frames} pdfs, {len(self.state)} states, {len(self.phone)} phones; each frame needs one of each"
        if len(start) == 0 or start[0] != 0 or start[-1] >= frames or np.any(np.diff(start) <= 0):
            return "phones", f"phone starts must rise from 0 to below {frames}"
        if np.any(np.repeat(self.phone[start], _lengths(start, frames)) != self.phone):
            return "phones", "a frame's phone differs from its segment's"
        end = 0
        for word, first, length in self.words:
            if first < end or length <= 0 or first + length > frames:
                return "words", f"word {word} at {first}+{length} overlaps or passes {frames} frames"
            end = first + length
        return "", ""

    def check(self) -> None:
        """Raise KdError unless the parts are consistent."""
        if fault := self.fault()[1]:
            raise KdError(f"alignment of {self.id}: {fault}; align again")


def _lengths(start: np.ndarray, total: int) -> np.ndarray:
    return np.diff(start, append=total).astype(np.int32)


def save_alignments(folder: Path, alignments: Iterable[Alignment], meta: dict[str, Any] | None = None) -> int:
    """Write all alignments (checked, in the given order) and ``meta.json`` to ``folder``; returns their number."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept, rows, offset, phone_offset = [], [], 0, 0
    for ali in alignments:
        ali.check()
        kept.append(ali)
        rows.append({
            "id": ali.id, "offset": offset, "num_frames": ali.num_frames,
            "phone_offset": phone_offset, "phones": len(ali.phone_start), "words": [list(w) for w in ali.words],
        })  # fmt: skip
        offset += ali.num_frames
        phone_offset += len(ali.phone_start)
    if len({row["id"] for row in rows}) != len(rows):
        raise KdError(f"{folder}: an utterance id occurs twice among {len(rows)} alignments; make ids unique")
    tensors = {name: np.concatenate([getattr(a, name) for a in kept] or [np.zeros(0)]).astype(kind) for name, kind in KINDS.items()}
    write_jsonl(folder / INDEX_FILE, rows)
    save_tensors(folder / ALI_FILE, tensors, {"utterances": str(len(rows)), "index": file_digest(folder / INDEX_FILE)})
    write_json(folder / META_FILE, meta or {})
    return len(rows)


class AlignmentSet:
    """All alignments of one folder, by supervision id."""

    def __init__(self, folder: Path, tensors: dict[str, np.ndarray], rows: list[dict[str, Any]], meta: dict[str, Any]):
        self.folder, self.meta = Path(folder), meta
        self.ids = [row["id"] for row in rows]
        self._tensors = tensors
        self._rows = {row["id"]: row for row in rows}

    @classmethod
    def open(cls, folder: Path) -> "AlignmentSet":
        """Open an alignment folder; KdError if its files contradict each other."""
        folder = Path(folder)
        tensors = load_tensors(folder / ALI_FILE)
        rows = list(read_jsonl(folder / INDEX_FILE))
        if not all(isinstance(r, dict) and set(r) >= FIELDS for r in rows):
            raise KdError(f"{folder / INDEX_FILE}: a line lacks one of {', '.join(sorted(FIELDS))}; make the alignment again")
        frames, phones = sum(r["num_frames"] for r in rows), sum(r["phones"] for r in rows)
        if set(tensors) != set(KINDS):
            raise KdError(f"{folder / ALI_FILE} is not an alignment file; make the alignment again")
        if len(tensors["pdf"]) != frames or len(tensors["phone_start"]) != phones:
            raise KdError(f"{folder}: {INDEX_FILE} counts {frames} frames and {phones} phones, {ALI_FILE} holds "
                          f"{len(tensors['pdf'])} and {len(tensors['phone_start'])}; make the alignment again")  # fmt: skip
        expected, found = load_metadata(folder / ALI_FILE).get("index"), file_digest(folder / INDEX_FILE)
        if expected not in (None, found):  # None: a folder by another program
            raise KdError(f"{folder / INDEX_FILE}: digest is {found}, {ALI_FILE} was written with {expected}; make the alignment again")
        return cls(folder, tensors, rows, read_json(folder / META_FILE))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._rows

    def get(self, utterance: str) -> Alignment:
        """The alignment of one supervision id; KdError if it was dropped or never existed."""
        if utterance not in self._rows:
            raise KdError(f"{self.folder} has no alignment of {utterance}; see dropped.tsv there, or align this set")
        row = self._rows[utterance]
        frames = slice(row["offset"], row["offset"] + row["num_frames"])
        phones = slice(row["phone_offset"], row["phone_offset"] + row["phones"])
        arrays = {name: self._tensors[name][phones if name == "phone_start" else frames] for name in KINDS}
        return Alignment(id=utterance, words=[(word, start, length) for word, start, length in row["words"]], **arrays)

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the alignment's content (both files)."""
        parts = file_digest(self.folder / ALI_FILE) + file_digest(self.folder / INDEX_FILE)
        return hashlib.sha256(parts.encode()).hexdigest()
