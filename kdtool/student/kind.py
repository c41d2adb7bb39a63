"""What a student kind is.  In: options, a training set, a device.  Out: a model, its loss on a batch, its score, its files.

The trainer calls, in this order: ``Kind(cfg, train_set, compute)`` once; per update ``inputs`` and ``loss`` of each part of the batch;
now and then ``score``; at the end ``save``. Whoever uses the finished student calls ``load``.
"""

from __future__ import annotations

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
    """One term of a loss over a part of a batch.

    ``total``: scalar, the sum over ``items`` (frames, tokens, utterances: the term's own); the loss is weight * total / items, both
    summed over all parts and processes of the update. ``weight`` None: a figure for the progress line, not a part of the loss.
    """

    total: Tensor
    items: float
    weight: float | None = 1.0


@dataclass
class Inputs:
    """What the loss of one part of a batch reads.

    ``tensors``: by name, all on one device. ``counts``: of each term of the loss, known before the network runs; "frames" is the
    number of output frames without padding. ``ids``: the utterances, for messages.
    """

    tensors: dict[str, Tensor]
    counts: dict[str, float]
    ids: list[str] = field(default_factory=list)

    def to(self, device: torch.device) -> Inputs:
        """The same on a device: the one place where training moves a batch."""
        return Inputs({name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}, self.counts, self.ids)


@dataclass(frozen=True)
class Score:
    """How good a model is on held-out data. ``figures``: by name, those of the learning curve; ``text``: the same in words;
    ``size``: how much was scored, by name."""

    figures: dict[str, float]
    text: str
    size: dict[str, int] = field(default_factory=dict)


class StudentKind(ABC):
    """A student in training.

    ``model``: all that is trained, averaged and resumed, on ``compute.device``, its first weights drawn from torch's generator.
    ``encoder``: the part of it that says how much context a chunk needs, and whose hooks training calls.
    ``choice``: the figure of ``score`` by which weights are chosen, the lowest is best; ``chosen_by``: the same in words.
    """

    choice: ClassVar[str]
    chosen_by: ClassVar[str]
    model: nn.Module
    encoder: Encoder

    @abstractmethod
    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, compute: Compute) -> None: ...

    @abstractmethod
    def inputs(self, batch: Batch) -> Inputs:
        """The views of a batch that ``loss`` needs, on the CPU; draws no random number."""

    @abstractmethod
    def loss(self, inputs: Inputs, share: float, figures: bool = False) -> dict[str, Term]:
        """The terms of the loss, by name, with the counts of ``inputs``; a term without any item may be left out.

        share: part of the updates that is done, 0 to 1, for weights that change. figures: also terms that cost time and are only
        looked at.
        """

    @abstractmethod
    def score(self, model: nn.Module, dev: TrainingSet) -> Score:
        """The score of a model of this kind (other weights than those in training) on held-out utterances."""

    @abstractmethod
    def save(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """Write what decoding needs, and what analysis needs, to ``folder``; returns facts for student.json."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> nn.Module:
        """The finished student of a folder, in evaluation mode; KdError when there is none or it is damaged."""
