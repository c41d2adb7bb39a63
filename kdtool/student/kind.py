"""The interface of a student kind.  In: options, a training set, a device.  Out: a model, its loss on a batch, its score, its files.

The trainer calls, in this order: ``Kind(cfg, train_set, compute)`` once; per update ``inputs`` and ``loss`` of each part of the batch;
occasionally ``score``; at the end ``save``. Users of the finished student call ``load``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kdtool.core.device import Compute
from kdtool.student.batches import Batch
from kdtool.student.config import StudentConfig
from kdtool.student.data import TrainingSet
from kdtool.student.encoders.base import Encoder


class Term(NamedTuple):
    """One term of a loss over a part of a batch: the sum over ``items`` (frames, tokens or utterances, as the term counts).

    The loss is weight * total / items, both summed over all parts of the update; ``weight`` None: only for the progress line.
    """

    total: Tensor
    items: float
    weight: float | None = 1.0


@dataclass
class Inputs:
    """Inputs of the loss for one part of a batch: ``tensors`` by name, all on one device; ``counts``: items of each loss term, known
    before the network runs ("frames": output frames without padding); ``ids``: the utterances, for messages."""

    tensors: dict[str, Tensor]
    counts: dict[str, float]
    ids: list[str] = field(default_factory=list)

    def to(self, device: torch.device) -> "Inputs":
        """Copy to a device: the only place where training moves a batch."""
        return Inputs({name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}, self.counts, self.ids)


@dataclass(frozen=True)
class Score:
    """The quality of a model on held-out data. ``figures``: for the learning curve, by name; ``text``: the same as text;
    ``size``: amount of scored data, by name."""

    figures: dict[str, float]
    text: str
    size: dict[str, int] = field(default_factory=dict)


class StudentKind(ABC):
    """A student in training.

    ``model``: all that is trained, averaged and resumed, on ``compute.device``, its first weights drawn from torch's generator.
    ``encoder``: its part that declares the context of a chunk, and whose hooks training calls.
    ``choice``: the figure of ``score`` that chooses the checkpoint, lowest is best; ``chosen_by``: the same in words.
    """

    choice: ClassVar[str]
    chosen_by: ClassVar[str]
    model: nn.Module
    encoder: Encoder

    @classmethod
    def usable(cls, cfg: StudentConfig, data: TrainingSet, *, dev: bool) -> TrainingSet:
        """What of the training set, or of the dev set, this kind can work with; the rest stands in its ``dropped`` with a reason. Raises
        KdError: the set does not fit what the kind's options name."""
        return data

    @abstractmethod
    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, compute: Compute) -> None: ...

    @abstractmethod
    def inputs(self, batch: Batch) -> Inputs:
        """The inputs of ``loss`` for a batch, on the CPU; draws no random number."""

    @abstractmethod
    def loss(self, inputs: Inputs, share: float, figures: bool = False) -> dict[str, Term]:
        """The terms of the loss, by name, with the counts of ``inputs``; terms without items may be left out.

        share: part of the updates that is done, 0 to 1, for weights that change. figures: also compute costly terms that are only reported.
        """

    @abstractmethod
    def score(self, model: nn.Module, dev: TrainingSet) -> Score:
        """Score a model of this kind (with other weights than those in training) on held-out utterances."""

    @abstractmethod
    def save(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """Write the files for decoding and for analysis to ``folder``; returns facts for student.json."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> nn.Module:
        """The finished student of a folder, in evaluation mode; KdError when it is missing or damaged."""
