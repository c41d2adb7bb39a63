"""Student kind "hybrid": one senone per frame of an alignment, with auxiliary heads that decoding does not use.

In: chunks of features, the alignment's senones, rows of teachers' dumps.  Out: ``model.safetensors`` (encoder, main head, priors: for
decoding) and ``heads.safetensors`` (the whole network with its auxiliary heads, for analysis).
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdtool.core.device import Compute
from kdtool.core.tensors import save_tensors
from kdtool.student.batches import Batch, make_batch, speaker_weights
from kdtool.student.config import StudentConfig
from kdtool.student.data import TrainingSet
from kdtool.student.kind import Inputs, Score, StudentKind, Term
from kdtool.student.losses import HeadLosses, frames_first
from kdtool.student.model import HEADS_FILE, Shape, Student, log_priors


class Hybrid(StudentKind):
    """Frame cross-entropy of senones (or label interpolation), plus the weighted losses of the auxiliary heads."""

    choice, chosen_by = "ce", "dev frame cross-entropy"
    model: Student

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, compute: Compute) -> None:
        self.compute = compute
        self.losses = HeadLosses(cfg, train_set)
        shape = Shape(cfg.encoder, dict(cfg.encoder_options), train_set.input_dim, train_set.num_pdfs, cfg.hidden, train_set.feature_kind,
                      train_set.tree_digest)  # fmt: skip
        self.model = Student(shape, self.losses.aux_shapes, cfg.head_dropout)
        self.encoder = self.model.encoder
        self.model.log_priors.copy_(log_priors(train_set.counts(speaker_weights(train_set, cfg.balance))))
        self.model.to(compute.device)

    def inputs(self, batch: Batch) -> Inputs:
        tensors = {"feats": torch.from_numpy(batch.feats)}
        if batch.pad is not None:
            tensors["pad"] = torch.from_numpy(batch.pad)
        targets, counts = self.losses.targets(batch)
        return Inputs({**tensors, **targets}, {**counts, "frames": batch.frames}, batch.ids)

    def loss(self, inputs: Inputs, share: float, figures: bool = False) -> dict[str, Term]:
        with self.compute.autocast():
            logits = self.model(inputs.tensors["feats"], inputs.tensors.get("pad"))
        terms = self.losses(logits, inputs, share)
        if figures:
            labels = inputs.tensors["main.labels"]
            terms["accuracy"] = Term(_hits(logits["main"].detach(), labels), inputs.counts["accuracy"], None)
        return terms

    @torch.no_grad()
    def score(self, model: nn.Module, dev: TrainingSet) -> Score:
        """Frame cross-entropy (nats per frame) and accuracy of the main head on one frame in ``subsampling`` of each utterance; the
        starting frame varies between utterances."""
        assert isinstance(model, Student)
        was_training = model.training
        model.eval()
        step, left = model.encoder.subsampling, model.encoder.left
        ce, hits, frames = 0.0, 0, 0
        for number, group in enumerate(dev.groups):
            copy = dev.copies[group[0]]
            start = min(number % step, len(copy.labels) - 1)
            outputs = -(-(len(copy.labels) - start) // step)
            batch = make_batch(dev, [(group[0], start)], outputs=outputs, subsampling=step, left=left,
                               input_frames=model.encoder.input_frames(outputs))  # fmt: skip
            feats, labels = (torch.from_numpy(a).to(self.compute.device) for a in (batch.feats, batch.labels))
            logits = model.main(model.encoder(feats)[-1])
            ce += float(F.cross_entropy(frames_first(logits), labels, reduction="sum"))
            hits += int(_hits(logits, labels))
            frames += len(labels)
        model.train(was_training)
        ce, accuracy = ce / max(1, frames), hits / max(1, frames)
        return Score({"ce": ce, "accuracy": accuracy}, f"cross-entropy {ce:.4f}, accuracy {accuracy:.2%}", {"frames": frames})

    def save(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        assert isinstance(model, Student)
        model.save(folder)
        if model.aux:
            save_tensors(folder / HEADS_FILE, model.state_dict())
        kept = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("aux."))
        return {"parameters": kept, "auxiliary_parameters": sum(p.numel() for p in model.aux.parameters())}

    @classmethod
    def load(cls, folder: Path) -> Student:
        return Student.load(folder)


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Number of frames of logits (B, V, n) whose likeliest senone is their label (B * n,)."""
    return (logits.argmax(1) == labels.view(logits.shape[0], -1)).sum()
