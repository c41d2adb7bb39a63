"""Frame cross-entropy and accuracy on a held-out set.

In: a model and ``TrainingSet``.  Out: nats a frame, share of frames whose best senone is the aligned one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from kdtool.student.batches import make_batch
from kdtool.student.data import TrainingSet
from kdtool.student.losses import frames_first
from kdtool.student.model import Student


@dataclass(frozen=True)
class Score:
    """ce: mean cross-entropy in nats a frame; accuracy 0 to 1; frames counted."""

    ce: float
    accuracy: float
    frames: int


@torch.no_grad()
def evaluate(model: Student, data: TrainingSet) -> Score:
    """Score the main head on one frame in ``subsampling`` of each utterance; the starting frame changes from one to the next."""
    was_training = model.training
    model.eval()
    step, left = model.encoder.subsampling, model.encoder.left
    ce, hits, frames = 0.0, 0, 0
    for number, group in enumerate(data.groups):
        copy = data.copies[group[0]]
        start = min(number % step, len(copy.labels) - 1)
        outputs = -(-(len(copy.labels) - start) // step)
        batch = make_batch(data, [(group[0], start)], outputs=outputs, subsampling=step, left=left,
                           input_frames=model.encoder.input_frames(outputs))  # fmt: skip
        logits = frames_first(model.main(model.encoder(torch.from_numpy(batch.feats))[-1]))
        labels = torch.from_numpy(batch.labels)
        ce += float(F.cross_entropy(logits, labels, reduction="sum"))
        hits += int((logits.argmax(1) == labels).sum())
        frames += len(labels)
    model.train(was_training)
    return Score(ce / max(1, frames), hits / max(1, frames), int(np.int64(frames)))
