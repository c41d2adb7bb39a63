"""What soft heads learned from their teachers, on held-out speech.  In: students, teachers, features, alignment.

Out: HTML. Three approximations p of the teacher's distributions q are compared by their mean KL(q || p) in nats per frame:
- one distribution for everything, the mean of q: no context;
- one per unit, the mean of q over the other occurrences of the unit: the unit is known, its history
  is not, and no acoustics can blur the identity of the unit;
- the head's posteriors.
A head that is nearer than the second recovers from the speech what the teacher knows from the sentence. Otherwise there is no sign of
it; the head may still be uncertain about the unit itself, which the second knows, so compare heads with easy units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdtool.pictures.page import esc, table
from kdtool.report.choice import System, heads_of, of_setting, settings
from kdtool.student.config import HeadSpec

if TYPE_CHECKING:
    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.lang.lang import Lang
    from kdtool.report.config import Config
    from kdtool.student.model import Student
    from kdtool.teacher.base import Teacher

MOST = 100  # utterances, spread evenly over the set


@dataclass
class Taught:
    """One teacher's rows of some utterances. ``rows``: utterance -> float32 (N, V) probabilities; ``frames``: utterance -> int64 (T,),
    the row of each 10 ms frame or -1; ``labels``: utterance -> (N,)."""

    rows: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    def answers(self) -> tuple[float, float, float]:
        """Mean entropy of q, and KL of the mean distribution and of each unit's mean over its other occurrences, nats per frame."""
        q = np.concatenate(list(self.rows.values())).astype(np.float64)
        labels = np.concatenate(list(self.labels.values()))
        weight = np.concatenate([np.bincount(f[f >= 0], minlength=len(self.rows[u])) for u, f in self.frames.items()]).astype(np.float64)
        total = (weight[:, None] * q).sum(0)
        mean = total / total.sum()
        sums, counts = np.zeros((q.shape[1], q.shape[1])), np.zeros(q.shape[1])
        np.add.at(sums, labels, q)
        np.add.at(counts, labels, 1.0)
        own = (sums[labels] - q + mean) / counts[labels, None]  # leave this occurrence out, add the overall mean as one more
        entropy = -np.sum(q * np.log(np.maximum(q, 1e-30)), axis=1)
        share = weight / weight.sum()
        return float(share @ entropy), float(share @ divergence(q, mean[None])), float(share @ divergence(q, own))


def divergence(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """KL(q || p) of each row, nats, float64 (N,)."""
    return np.asarray(np.sum(q * (np.log(np.maximum(q, 1e-30)) - np.log(np.maximum(p, 1e-30))), axis=1))


def taught(teacher: Teacher, ali: AlignmentSet, lang: Lang, ids: Sequence[str], offset: int) -> Taught:
    """The targets of a head with this offset (HeadSpec.offset) on some utterances."""
    from kdtool.units.segments import unit_segments

    found = Taught({}, {}, {})
    segments = [unit_segments(ali.get(u), teacher.unit, lang) for u in ids]
    for utt, own, scores in zip(ids, segments, teacher.log_probs_many([s.ids for s in segments]), strict=True):
        frames = np.full(ali.get(utt).num_frames, -1, dtype=np.int64)
        for n, (start, length) in enumerate(zip(own.start, own.length, strict=True)):
            frames[start : start + length] = n + offset if 0 <= n + offset < len(own) else -1
        found.rows[utt], found.frames[utt], found.labels[utt] = np.exp(scores), frames, own.ids.astype(np.int64)
    return found


def head_divergence(model: Student, name: str, feats: FeatureSet, own: Taught) -> float:
    """Mean KL(q || head) over the frames that have both an output of the head and a row, nats."""
    total, frames = 0.0, 0
    for utt, rows in own.rows.items():
        step, log_p = head_log_probs(model, name, feats.get(utt))
        row = own.frames[utt][::step][: len(log_p)]
        there = np.flatnonzero(row >= 0)
        total += float(divergence(rows[row[there]].astype(np.float64), np.exp(log_p[there])).sum())
        frames += len(there)
    return total / max(1, frames)


def head_log_probs(model: Student, name: str, feats: np.ndarray) -> tuple[int, np.ndarray]:
    """Frames between two outputs of a head, and its log-posteriors float64 (n, V), the first output at frame 0."""
    import torch

    encoder = model.encoder
    outputs = -(-len(feats) // encoder.subsampling)
    index = np.arange(-encoder.left, -encoder.left + encoder.input_frames(outputs)).clip(0, len(feats) - 1)
    with torch.no_grad():
        logits = model(torch.from_numpy(np.ascontiguousarray(feats[index].T, dtype=np.float32))[None])[name][0]
        return encoder.subsampling * model.aux_shapes[name].stride, torch.log_softmax(logits.double(), 0).T.numpy()


def opened(cfg: Config) -> tuple[FeatureSet, AlignmentSet, Lang] | None:
    """The report's features, alignment and language, None if one of them is missing."""
    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.lang.lang import Lang

    if not (cfg.feats and cfg.ali and cfg.lang):
        return None
    return FeatureSet.open(cfg.feats), AlignmentSet.open(cfg.ali), Lang.load(cfg.lang)


def section(root: Path, content: dict[str, Any], speech: tuple[FeatureSet, AlignmentSet, Lang] | None) -> str:
    """The table of all systems' soft heads, from their first seed."""
    title = '<h2 id="learnt">What the soft heads learnt of their teachers</h2>'
    systems = [s for setting in settings(content) for s in of_setting(content, setting) if soft_heads(s)]
    there = [t for t in content["teachers"].values() if (root / t["folder"] / "teacher.json").is_file()]
    if speech is None or not systems or not there:
        return f'{title}<p class="note">No soft head is decoded, no teacher is here, or there was no speech to look at.</p>'
    feats, ali, lang = speech
    ids = [u for u in ali.ids if u in set(feats.ids)]
    ids = ids[:: -(-len(ids) // MOST)]
    rows = _rows(root, content, systems, (feats, ali, lang), ids)
    about = (
        f"Mean KL divergence from the teacher's distribution in nats per frame, over {len(ids)} held-out utterances: for "
        "one distribution for everything; for each unit's mean over its other occurrences, which knows the unit but no context; for "
        "the head. A head that is not below each unit's mean shows no sign of the teacher's context."
    )
    head = ["teacher", "entropy", "one for all", "each unit's mean", "system", "head", "the head"]
    return f'{title}<p class="note">{esc(about)}</p><div class="scroll">{table(head, rows, numbers=(1, 2, 3, 6))}</div>'


def _rows(
    root: Path, content: dict[str, Any], systems: Sequence[System], speech: tuple[FeatureSet, AlignmentSet, Lang], ids: Sequence[str]
) -> list[list[str]]:
    from kdtool.student.heads import head_specs, load_with_heads
    from kdtool.teacher.registry import load_teacher

    feats, ali, lang = speech
    wanted: dict[tuple[str, int], list[tuple[System, HeadSpec]]] = {}
    for s in systems:
        for spec in soft_heads(s):
            wanted.setdefault((s["teachers"][spec.teacher], spec.offset), []).append((s, spec))
    rows = []
    for (name, offset), pairs in wanted.items():
        if not (root / content["teachers"][name]["folder"] / "teacher.json").is_file():
            continue
        own = taught(load_teacher(root / content["teachers"][name]["folder"]), ali, lang, ids, offset)
        entropy, one, each = own.answers()
        for s, spec in pairs:
            folder = root / s["students"][0]["folder"]
            if spec.name not in [kept.name for kept in head_specs(folder)]:
                continue  # not kept
            model = load_with_heads(folder)
            known = [name if not offset else f"{name}, {offset:+d}", *(f"{x:.3f}" for x in (entropy, one, each))]
            rows.append([*known, s["name"], spec.name, f"{head_divergence(model, spec.name, feats, own):.3f}"])
    return rows


def soft_heads(system: System) -> list[HeadSpec]:
    """Its heads with a teacher's distributions as targets, at temperature 1 (others are not comparable)."""
    specs = [HeadSpec.make(h) for h in heads_of(system)]
    return [s for s in specs if s.kind == "soft" and s.options.get("temperature", 1.0) == 1.0 and s.teacher in system["teachers"]]
