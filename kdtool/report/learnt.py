"""What soft heads learned from their teachers, on held-out speech.  In: students, teachers, features, alignment.

Out: HTML. Three approximations p of the teacher's distributions q are compared by their mean KL(q || p) in nats per frame: the mean of q
(no context); per unit, the mean of q over its other occurrences (the unit is known, its history is not); the head's posteriors. A head
that is nearer than the second recovers from the speech what the teacher knows from the sentence. Otherwise there is no sign of it: the
head may still be uncertain about the unit itself, which the second knows, so compare heads with easy units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kdtool.ablation.tables import System, by_setting
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.lang.lang import Lang
from kdtool.pictures.page import Table, note
from kdtool.report.choice import Config, Shown, heads_of
from kdtool.student.config import HeadSpec
from kdtool.student.heads import head_specs, load_with_heads
from kdtool.student.model import Student
from kdtool.teacher.base import Teacher
from kdtool.teacher.registry import load_teacher
from kdtool.units.segments import unit_segments

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
        others = (sums[labels] - q + mean) / counts[labels, None]  # leave this occurrence out, add the overall mean as one more
        entropy = -np.sum(q * np.log(np.maximum(q, 1e-30)), axis=1)
        share = weight / weight.sum()
        return float(share @ entropy), float(share @ divergence(q, mean[None])), float(share @ divergence(q, others))


def divergence(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """KL(q || p) of each row, nats, float64 (N,)."""
    return np.asarray(np.sum(q * (np.log(np.maximum(q, 1e-30)) - np.log(np.maximum(p, 1e-30))), axis=1))


def taught(teacher: Teacher, ali: AlignmentSet, lang: Lang, ids: Sequence[str], offset: int) -> Taught:
    """The targets of a head with this offset (HeadSpec.offset) on some utterances."""
    targets = Taught({}, {}, {})
    segments = [unit_segments(ali.get(u), teacher.unit, lang) for u in ids]
    for utt, units, scores in zip(ids, segments, teacher.log_probs_many([s.ids for s in segments]), strict=True):
        frames = np.full(ali.get(utt).num_frames, -1, dtype=np.int64)
        for n, (start, length) in enumerate(zip(units.start, units.length, strict=True)):
            frames[start : start + length] = n + offset if 0 <= n + offset < len(units) else -1
        targets.rows[utt], targets.frames[utt], targets.labels[utt] = np.exp(scores), frames, units.ids.astype(np.int64)
    return targets


def head_divergence(model: Student, name: str, feats: FeatureSet, targets: Taught) -> float:
    """Mean KL(q || head) over the frames that have both an output of the head and a row, nats."""
    total, frames, stride = 0.0, 0, model.aux_shapes[name].stride
    for utt, rows in targets.rows.items():
        logits = torch.from_numpy(model.outputs(feats.get(utt), name)[::stride])
        row = targets.frames[utt][:: model.encoder.subsampling * stride][: len(logits)]
        has_row = np.flatnonzero(row >= 0)
        total += float(divergence(rows[row[has_row]].astype(np.float64), logits.double().softmax(1).numpy()[has_row]).sum())
        frames += len(has_row)
    return total / max(1, frames)


def open_speech(cfg: Config) -> tuple[FeatureSet, AlignmentSet, Lang] | None:
    """The report's features, alignment and language, None if one of them is missing."""
    if not (cfg.feats and cfg.ali and cfg.lang):
        return None
    return FeatureSet.open(cfg.feats), AlignmentSet.open(cfg.ali), Lang.load(cfg.lang)


def section(shown: Shown) -> str:
    """The table of all systems' soft heads, from their first seed."""
    soft = [(s, spec) for systems in by_setting(shown.content).values() for s in systems for spec in soft_heads(s)]
    folders = {name: shown.root / t["folder"] for name, t in shown.content["teachers"].items()}
    folders = {name: folder for name, folder in folders.items() if (folder / "teacher.json").is_file()}
    speech = open_speech(shown.cfg)
    if speech is None or not soft or not folders:
        return note("No soft head is decoded, no teacher is here, or there was no speech to look at.")
    feats, ali, lang = speech
    ids = [u for u in ali.ids if u in set(feats.ids)]
    ids = ids[:: -(-len(ids) // MOST)]
    heads: dict[tuple[str, int], list[tuple[System, HeadSpec]]] = {}
    for s, spec in soft:
        if (name := s["teachers"][spec.teacher]) in folders:
            heads.setdefault((name, spec.offset), []).append((s, spec))
    rows = []
    for (name, offset), learners in heads.items():
        targets = taught(load_teacher(folders[name]), ali, lang, ids, offset)
        figures = [name if not offset else f"{name}, {offset:+d}", *(f"{x:.3f}" for x in targets.answers())]
        for s, spec in learners:
            student = shown.root / s["students"][0]["folder"]
            if spec.name in [kept.name for kept in head_specs(student)]:
                rows.append([*figures, s["name"], spec.name, f"{head_divergence(load_with_heads(student), spec.name, feats, targets):.3f}"])
    about = (
        f"Mean KL divergence from the teacher's distribution in nats per frame, over {len(ids)} held-out utterances: for "
        "one distribution for everything; for each unit's mean over its other occurrences, which knows the unit but no context; for "
        "the head. A head that is not below each unit's mean shows no sign of the teacher's context."
    )
    head = ["teacher", "entropy", "one for all", "each unit's mean", "system", "head", "the head"]
    return f'{note(about)}<div class="scroll">{Table(head, rows, (1, 2, 3, 6)).html()}</div>'


def soft_heads(system: System) -> list[HeadSpec]:
    """Its heads with a teacher's distributions as targets, at temperature 1 (others are not comparable)."""
    specs = [HeadSpec.make(h) for h in heads_of(system)]
    return [s for s in specs if s.kind == "soft" and s.options.get("temperature", 1.0) == 1.0 and s.teacher in system["teachers"]]
