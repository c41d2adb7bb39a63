"""Posteriors of teacher, auxiliary head and main head per frame of one utterance.  In: their folders.  Out: (T, names) of phones.

Phones that differ only by their position in the word are merged (Lang.plain_names); senones are summed to their phones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdtool.core.errors import KdError

if TYPE_CHECKING:
    from kdtool.formats.alignment import Alignment
    from kdtool.formats.tree import Tree
    from kdtool.lang.lang import Lang


@dataclass
class Map:
    """One heat map: ``probs`` float32 (T, N) over the N names, rows of NaN for frames without output (silence has no unit)."""

    title: str
    probs: np.ndarray

    def of_aligned(self, aligned: np.ndarray, spoken: np.ndarray) -> float:
        """Mean probability of the aligned phone (T,) over spoken frames with a row; NaN without any."""
        rows = np.flatnonzero(spoken & ~np.isnan(self.probs[:, 0]))
        return float(self.probs[rows, aligned[rows]].mean()) if len(rows) else float("nan")


class Phones:
    """The N names that are rows of the maps, and sums of phones and senones over them. ``row``: phone id -> index of its name, or -1."""

    def __init__(self, lang: Lang, tree: Tree) -> None:
        self.lang, self.tree = lang, tree
        self.names = list(dict.fromkeys(lang.plain_names[p] for p in sorted(lang.num_states)))
        self.row = np.full(len(lang.plain_names), -1, dtype=np.int64)
        for phone in lang.num_states:
            self.row[phone] = self.names.index(lang.plain_names[phone])
        self.silent = {int(self.row[phone]) for phone in lang.silence_ids}

    def sum(self, probs: np.ndarray, unit: str) -> np.ndarray:
        """Probabilities of phone ids (T, V) or of senones (T, num_pdfs) -> float32 (T, N)."""
        if unit == "senone" and probs.shape[1] != self.tree.num_pdfs:
            raise KdError(f"posteriors of {probs.shape[1]} senones, the tree has {self.tree.num_pdfs}; give the students' own (--gmm)")
        rows = self.row[self.tree.pdf_phone if unit == "senone" else np.arange(probs.shape[1])]
        return np.stack([probs[:, rows == n].sum(axis=1) for n in range(len(self.names))], axis=1).astype(np.float32)


def teacher_map(folder: Path, ali: Alignment, phones: Phones, name: str) -> Map:
    """A phone teacher's distribution for each phone of the alignment given its true context, on all the phone's frames."""
    from kdtool.teacher.base import read_meta
    from kdtool.teacher.registry import load_teacher
    from kdtool.units.segments import unit_segments
    from kdtool.units.table import units_digest

    teacher = load_teacher(folder)
    if teacher.unit != "phone":
        raise KdError(f"{folder} is a teacher of {teacher.unit}s; the picture needs one of phones")
    if read_meta(folder)["units_digest"] != units_digest("phone", phones.lang, None):
        raise KdError(f"{folder} was trained with other phones than {phones.lang.folder}; train it again")
    segments = unit_segments(ali, "phone", phones.lang)
    probs = np.full((ali.num_frames, len(phones.names)), np.nan, dtype=np.float32)
    rows = phones.sum(np.exp(teacher.log_probs(segments.ids)), "phone")
    for row, start, length in zip(rows, segments.start, segments.length, strict=True):
        probs[start : start + length] = row
    context = "the phones before" if teacher.context == "causal" else "all other phones"
    return Map(f"{name}, given {context}", probs)


def head_map(folder: Path, feats: np.ndarray, phones: Phones, name: str) -> Map | None:
    """A student's lowest auxiliary head over phones, else over senones; None if it has or kept neither."""
    from kdtool.student.heads import head_specs, load_with_heads

    specs = sorted((s for s in head_specs(folder) if s.unit in ("phone", "senone")), key=lambda s: (s.unit != "phone", s.layer))
    if not specs:
        return None
    spec = specs[0]
    probs = np.exp(load_with_heads(folder).log_posteriors(feats, spec.name))
    return Map(f"{name}, auxiliary {spec.unit} head on layer {spec.layer}, {spec.kind} targets", phones.sum(probs, spec.unit))


def main_map(folder: Path, feats: np.ndarray, phones: Phones, name: str) -> Map:
    """A student's main head, senones summed to phones."""
    from kdtool.student.model import Student

    return Map(f"{name}, main head, senones summed to phones", phones.sum(np.exp(Student.load(folder).log_posteriors(feats)), "senone"))
