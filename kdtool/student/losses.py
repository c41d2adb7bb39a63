"""The student's whole loss: the main head's objective and the weighted auxiliary heads'.

In: logits of each head (B, V, n) and a ``Batch``.  Out: the scalar to minimise, and each head's own mean loss in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdtool.core.errors import KdError
from kdtool.objectives import AUX_OBJECTIVES, MAIN_OBJECTIVES, FrameTargets, Objective, Posteriors, make_objective
from kdtool.student.batches import Batch
from kdtool.student.config import HeadSpec, StudentConfig
from kdtool.student.data import TrainingSet, UnitTable
from kdtool.student.model import AuxShape


@dataclass(frozen=True)
class Task:
    """One head's training: objective, its head (None: the main one, of weight 1), index of its targets' table (-1: labels).

    ``means``: where the head learns each unit's mean posterior, the table of those.
    """

    name: str
    objective: Objective
    spec: HeadSpec | None
    table: int
    top_k: int
    stride: int
    means: UnitTable | None = None


class Losses:
    """All heads' objectives over one train_set."""

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet) -> None:
        self.train_set = train_set
        self.aux_shapes: list[AuxShape] = []
        main = make_objective(cfg.main, self._teacher_options(cfg.main, cfg.main_options, "senone", MAIN_OBJECTIVES), auxiliary=False)
        self.tasks = [Task("main", main, None, train_set.table("senone") if main.uses_posteriors else -1, 0, 1)]
        for spec in cfg.head_specs():
            table = train_set.table(spec.unit)
            objective = make_objective(spec.kind, self._teacher_options(spec.kind, spec.options, spec.unit, AUX_OBJECTIVES), auxiliary=True)
            means = train_set.tables[table].averaged() if spec.average else None
            self.tasks.append(Task(spec.name, objective, spec, table, spec.top_k, spec.stride, means))
            self.aux_shapes.append(AuxShape(spec.name, spec.layer, spec.hidden, train_set.tables[table].num_units, spec.stride))
        senones = [t for t in train_set.tables if t.unit == "senone"]
        if senones and senones[0].num_units != train_set.num_pdfs:
            raise KdError(f"the senone dump has {senones[0].num_units} units, the tree {train_set.num_pdfs}; dump this teacher again")

    def _teacher_options(self, kind: str, options: dict[str, Any], unit: str, registry: dict[str, type]) -> dict[str, Any]:
        """A dump may have been tempered when it was made; the objective must not do it twice."""
        if not getattr(registry.get(kind), "uses_posteriors", False):
            return options
        made_at = self.train_set.tables[self.train_set.table(unit)].temperature
        return {**options, "teacher_temperature": made_at}

    def __call__(self, logits: dict[str, Tensor], batch: Batch, share: float) -> tuple[Tensor, dict[str, float]]:
        """(sum of the heads' weighted mean losses, mean loss of each head over the frames that have a target).

        share: part of the updates that is done, 0 to 1, for weights that change.
        """
        labels = torch.from_numpy(batch.labels)
        total, means = labels.new_zeros((), dtype=torch.float32), {}
        for task in self.tasks:
            # An objective that can work in the logits' memory may: frames_first has made them for it.
            objective = getattr(task.objective, "consume", task.objective)
            losses = objective(frames_first(logits[task.name]), self._targets(task, batch, labels))
            if losses.numel() == 0:
                continue
            mean = losses.mean()
            means[task.name] = float(mean.detach())
            total = total + (task.spec.weight_at(share) if task.spec else 1.0) * mean
        return total, means

    def _targets(self, task: Task, batch: Batch, labels: Tensor) -> FrameTargets:
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
        wanted, inverse = np.unique(rows, return_inverse=True)
        if len(wanted) and wanted[0] < 0:
            wanted, inverse = wanted[1:], inverse - 1
        ids, logp, rest = (torch.from_numpy(a) for a in table.padded(wanted, task.top_k))
        return FrameTargets(labels, torch.from_numpy(inverse.reshape(-1)), Posteriors(ids, logp, rest))


def frames_first(logits: Tensor) -> Tensor:
    """(B, V, n) -> float32 (B * n, V), contiguous and in memory of its own."""
    return logits.permute(0, 2, 1).clone(memory_format=torch.contiguous_format).flatten(0, 1).float()
