"""Frame losses of a student's heads: the main head's and the weighted auxiliary heads'.

In: a ``Batch`` (targets, on the CPU), then the logits of each head (B, V, n).  Out: a ``Term`` per head, in nats.
Any kind of student whose encoder has frames can have such heads.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdtool.core.errors import KdError
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
    """One head's training: its loss and its options, index of its table of targets (-1: labels of the alignment alone).

    ``means``: the table of the units' mean posteriors, if the head learns from them.
    """

    name: str
    spec: HeadSpec
    objective: Objective
    table: int
    means: PosteriorTable | None = None


class HeadLosses:
    """The losses of all heads over one training set. ``main``: whether there is a main head over senones."""

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, *, main: bool = True) -> None:
        self.train_set = train_set
        self.tasks: list[HeadTask] = []
        self.aux_shapes: list[AuxShape] = []
        for name, spec in [*([("main", cfg.main_spec())] if main else []), *((s.name, s) for s in cfg.head_specs())]:
            registry = MAIN_OBJECTIVES if name == "main" else AUX_OBJECTIVES
            taught = registry[spec.kind].uses_posteriors
            index = train_set.table(spec.unit, spec.posts) if taught or name != "main" else -1
            table = train_set.tables[index] if index >= 0 else None
            if spec.offset and table and table.per_frame:
                raise KdError(f"head {name}: target {spec.target} of dump {table.name}, which has a row for each "
                              "frame: its next row is the next frame, not the next unit; take target current, or a dump of rows by unit")
            # A dump may have been tempered when it was made; the loss must not temper it again.
            options = {**spec.options, "teacher_temperature": table.temperature} if taught and table else spec.options
            objective = make_objective(spec.kind, options, auxiliary=name != "main")
            self.tasks.append(HeadTask(name, spec, objective, index, table.averaged() if spec.average and table else None))
            if name != "main" and table:
                self.aux_shapes.append(AuxShape(name, spec.layer, spec.hidden, table.num_units, spec.stride))
        for t in train_set.tables:
            if t.unit == "senone" and t.num_units != train_set.num_pdfs:
                raise KdError(f"the senone dump {t.name} has {t.num_units} units, the tree {train_set.num_pdfs}; dump this teacher again")

    def targets(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """(tensors named HEAD.labels, HEAD.row, HEAD.ids, HEAD.logp, HEAD.rest; number of frames with a loss per head).

        Labels of the main head are those of the alignment; "accuracy" counts the labelled frames.
        """
        labels = torch.from_numpy(batch.labels)
        tensors: dict[str, Tensor] = {"main.labels": labels}
        counts: dict[str, float] = {"accuracy": int((labels >= 0).sum())}
        for task in self.tasks:
            name, targets = task.name, self._targets(task, batch, labels)
            counts[name] = int(task.objective.has_loss(targets).sum())
            tensors[f"{name}.labels"] = targets.labels
            if targets.posteriors is not None and targets.unit_row is not None:
                p = targets.posteriors
                tensors |= {f"{name}.row": targets.unit_row, f"{name}.ids": p.ids, f"{name}.logp": p.logp, f"{name}.rest": p.rest_logp}
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
                terms[task.name] = Term(losses.sum(), inputs.counts[task.name], task.spec.weight_at(share))
        return terms

    def _targets(self, task: HeadTask, batch: Batch, labels: Tensor) -> FrameTargets:
        if task.table < 0:
            return FrameTargets(labels)
        table = self.train_set.tables[task.table]
        rows = batch.rows[task.table].reshape(len(batch.ids), -1)[:, :: task.spec.stride].ravel()
        rows = table.neighbours(rows, task.spec.offset)
        units = np.where(rows >= 0, table.unit_ids[rows.clip(0)], -1)
        if task.name != "main":
            labels = torch.from_numpy(units.astype(np.int64))
        if not task.objective.uses_posteriors:
            return FrameTargets(labels)
        if task.means is not None:
            table, rows = task.means, units
        used, inverse = np.unique(rows, return_inverse=True)
        if len(used) and used[0] < 0:
            used, inverse = used[1:], inverse - 1
        ids, logp, rest = (torch.from_numpy(a) for a in table.padded(used, task.spec.top_k))
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
