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
    from kdtool.features.store import FeatureSet
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
    """The names that are rows of the maps, and the sums of phones and senones over them."""

    def __init__(self, lang: Lang, tree: Tree) -> None:
        self.lang, self.tree = lang, tree
        self.names = list(dict.fromkeys(lang.plain_names[p] for p in sorted(lang.num_states)))
        self.index = {name: n for n, name in enumerate(self.names)}
        self.silent = {self.index[lang.plain_names[p]] for p in lang.silence_ids}

    def row(self, phones: np.ndarray) -> np.ndarray:
        """Phone ids -> indices of names, int64; -1 for ids that are no phone."""
        table = np.full(len(self.lang.plain_names), -1, dtype=np.int64)
        for p in self.lang.num_states:
            table[p] = self.index[self.lang.plain_names[p]]
        return table[phones]

    def sum_phones(self, probs: np.ndarray) -> np.ndarray:
        """(T, V) over phone ids -> (T, N)."""
        return self._sum(probs, np.arange(probs.shape[1]))

    def sum_senones(self, probs: np.ndarray) -> np.ndarray:
        """(T, num_pdfs) -> (T, N)."""
        if probs.shape[1] != self.tree.num_pdfs:
            raise KdError(f"posteriors of {probs.shape[1]} senones, the tree has {self.tree.num_pdfs}; give the students' own (--gmm)")
        return self._sum(probs, self.tree.pdf_phone)

    def _sum(self, probs: np.ndarray, phones: np.ndarray) -> np.ndarray:
        rows = self.row(phones)
        found = np.zeros((len(probs), len(self.names)), dtype=np.float32)
        for n in range(len(self.names)):
            found[:, n] = probs[:, rows == n].sum(axis=1)
        return found


def teacher_map(folder: Path, ali: Alignment, phones: Phones, name: str) -> Map:
    """A phone teacher's distribution for each phone of the alignment given its true context, on all the phone's frames."""
    from kdtool.teacher.base import read_meta
    from kdtool.teacher.registry import load_teacher
    from kdtool.units.segments import unit_segments
    from kdtool.units.table import units_digest

    teacher = load_teacher(folder)
    if teacher.unit != "phone":
        raise KdError(f"{folder} is a teacher of {teacher.unit}s; the picture wants one of phones")
    if read_meta(folder)["units_digest"] != units_digest("phone", phones.lang, None):
        raise KdError(f"{folder} was trained with other phones than {phones.lang.folder}; train it again")
    segments = unit_segments(ali, "phone", phones.lang)
    probs = np.full((ali.num_frames, len(phones.names)), np.nan, dtype=np.float32)
    rows = phones.sum_phones(np.exp(teacher.log_probs(segments.ids)))
    for row, start, length in zip(rows, segments.start, segments.length, strict=True):
        probs[start : start + length] = row
    context = "the phones before" if teacher.context == "causal" else "all other phones"
    return Map(f"{name}, given {context}", probs)


def head_map(folder: Path, feats: FeatureSet, utterance: str, phones: Phones, name: str) -> Map | None:
    """A student's lowest auxiliary head over phones, else over senones; None if it has or kept neither."""
    from kdtool.student.heads import head_specs, load_head

    specs = sorted((s for s in head_specs(folder) if s.unit in ("phone", "senone")), key=lambda s: (s.unit != "phone", s.layer))
    if not specs:
        return None
    probs = np.exp(load_head(folder, specs[0].name).log_posteriors(feats.get(utterance)))
    summed = phones.sum_phones(probs) if specs[0].unit == "phone" else phones.sum_senones(probs)
    return Map(f"{name}, auxiliary {specs[0].unit} head on layer {specs[0].layer}, {specs[0].kind} targets", summed)


def main_map(folder: Path, feats: FeatureSet, utterance: str, phones: Phones, name: str) -> Map:
    """A student's main head, senones summed to phones."""
    from kdtool.student.model import Student

    probs = np.exp(Student.load(folder).log_posteriors(feats.get(utterance)))
    return Map(f"{name}, main head, senones summed to phones", phones.sum_senones(probs))
