"""Frame losses of a student's heads: the main head's and the weighted auxiliary heads'.

In: a ``Batch`` (targets, on the CPU), then the logits of each head (B, V, n).  Out: a ``Term`` per head, in nats.
Any kind of student whose encoder has frames can have such heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdtool.core.errors import KdError
from kdtool.core.registry import Registry
from kdtool.objectives import AUX_OBJECTIVES, MAIN_OBJECTIVES, make_objective
from kdtool.objectives.targets import FrameTargets, Objective, Posteriors
from kdtool.student.batches import Batch
from kdtool.student.config import HeadSpec, StudentConfig
from kdtool.student.data import TrainingSet
from kdtool.student.kind import Inputs, Term
from kdtool.student.model import AuxShape
from kdtool.student.table import PosteriorTable


@dataclass(frozen=True)
class HeadTask:
    """One head's training: its loss, its options (None: the main head, of weight 1), index of its table of targets (-1: labels).

    ``means``: the table of the units' mean posteriors, if the head learns from them.
    """

    name: str
    objective: Objective
    spec: HeadSpec | None
    table: int
    top_k: int
    stride: int
    means: PosteriorTable | None = None


class HeadLosses:
    """The losses of all heads over one training set."""

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet) -> None:
        self.train_set = train_set
        self.aux_shapes: list[AuxShape] = []
        table = train_set.table("senone", cfg.main_posts) if MAIN_OBJECTIVES[cfg.main].uses_posteriors else -1
        main = make_objective(cfg.main, self._options(cfg.main, cfg.main_options, table, MAIN_OBJECTIVES), auxiliary=False)
        self.tasks = [HeadTask("main", main, None, table, 0, 1)]
        for spec in cfg.head_specs():
            table = train_set.table(spec.unit, spec.posts)
            if spec.offset and train_set.tables[table].per_frame:
                raise KdError(f"head {spec.name}: target {spec.target} of dump {train_set.tables[table].name}, which has a row for each "
                              "frame: its next row is the next frame, not the next unit; take target current, or a dump of rows by unit")
            objective = make_objective(spec.kind, self._options(spec.kind, spec.options, table, AUX_OBJECTIVES), auxiliary=True)
            means = train_set.tables[table].averaged() if spec.average else None
            self.tasks.append(HeadTask(spec.name, objective, spec, table, spec.top_k, spec.stride, means))
            self.aux_shapes.append(AuxShape(spec.name, spec.layer, spec.hidden, train_set.tables[table].num_units, spec.stride))
        for t in train_set.tables:
            if t.unit == "senone" and t.num_units != train_set.num_pdfs:
                raise KdError(f"the senone dump {t.name} has {t.num_units} units, the tree {train_set.num_pdfs}; dump this teacher again")

    def _options(self, kind: str, options: dict[str, Any], table: int, registry: Registry[type[Objective]]) -> dict[str, Any]:
        """A dump may have been tempered when it was made; the loss must not temper it again."""
        if not registry[kind].uses_posteriors:
            return options
        return {**options, "teacher_temperature": self.train_set.tables[table].temperature}

    def targets(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """(tensors named HEAD.labels, HEAD.row, HEAD.ids, HEAD.logp, HEAD.rest; number of frames with a loss per head).

        Labels of the main head are those of the alignment; "accuracy" counts the labelled frames.
        """
        labels = torch.from_numpy(batch.labels)
        tensors: dict[str, Tensor] = {"main.labels": labels}
        counts: dict[str, float] = {"accuracy": int((labels >= 0).sum())}
        for task in self.tasks:
            targets = self._targets(task, batch, labels)
            counts[task.name] = int(task.objective.has_loss(targets).sum())
            tensors[f"{task.name}.labels"] = targets.labels
            if targets.posteriors is not None and targets.unit_row is not None:
                parts = (targets.unit_row, targets.posteriors.ids, targets.posteriors.logp, targets.posteriors.rest_logp)
                tensors |= {f"{task.name}.{part}": t for part, t in zip(("row", "ids", "logp", "rest"), parts, strict=True)}
        return tensors, counts

    def __call__(self, logits: dict[str, Tensor], inputs: Inputs, share: float) -> dict[str, Term]:
        """The sum of each head's losses over the frames that have a target, with its weight; heads without such frames are left out.

        share: part of the updates that is done, 0 to 1, for weights that change.
        """
        terms = {}
        for task in self.tasks:
            # frames_first returns a copy, so losses may overwrite it.
            objective = getattr(task.objective, "consume", task.objective)
            losses = objective(frames_first(logits[task.name]), _read(task.name, inputs.tensors))
            if losses.numel():
                weight = task.spec.weight_at(share) if task.spec else 1.0
                terms[task.name] = Term(losses.sum(), inputs.counts[task.name], weight)
        return terms

    def _targets(self, task: HeadTask, batch: Batch, labels: Tensor) -> FrameTargets:
        if task.table < 0:
            return FrameTargets(labels)
        table = self.train_set.tables[task.table]
        rows = batch.rows[task.table].reshape(len(batch.ids), -1)[:, :: task.stride].ravel()
        rows = table.neighbours(rows, task.spec.offset if task.spec else 0)
        if task.name != "main":
            labels = torch.from_numpy(np.where(rows >= 0, table.unit_ids[rows.clip(0)], -1).astype(np.int64))
        if not task.objective.uses_posteriors:
            return FrameTargets(labels)
        if task.means is not None:
            table, rows = task.means, np.where(rows >= 0, table.unit_ids[rows.clip(0)], -1)
        used, inverse = np.unique(rows, return_inverse=True)
        if len(used) and used[0] < 0:
            used, inverse = used[1:], inverse - 1
        ids, logp, rest = (torch.from_numpy(a) for a in table.padded(used, task.top_k))
        return FrameTargets(labels, torch.from_numpy(inverse.reshape(-1)), Posteriors(ids, logp, rest))


def _read(name: str, tensors: dict[str, Tensor]) -> FrameTargets:
    """The targets of a head, under the names that ``HeadLosses.targets`` gave them."""
    if f"{name}.row" not in tensors:
        return FrameTargets(tensors[f"{name}.labels"])
    posteriors = Posteriors(*(tensors[f"{name}.{part}"] for part in ("ids", "logp", "rest")))
    return FrameTargets(tensors[f"{name}.labels"], tensors[f"{name}.row"], posteriors)


def frames_first(logits: Tensor) -> Tensor:
    """(B, V, n) -> float32 (B * n, V), contiguous, a copy (float64 stays float64)."""
    frames = logits.permute(0, 2, 1).clone(memory_format=torch.contiguous_format).flatten(0, 1)
    return frames if frames.dtype == torch.float64 else frames.float()
