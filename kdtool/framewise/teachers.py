"""Teachers of frames: an ensemble of students, or the lattices of an acoustic model and a graph.

In: model folders, features, and for lattices a decoding graph.  Out: a ``FrameRows`` over senones or phones, p(unit | audio) or
p(unit | audio, LM).  Sums over members, paths and senones are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.decode.acoustic import Acoustic, load_acoustic
from kdtool.decode.graph_recogniser import GraphRecogniser
from kdtool.features.store import FeatureSet
from kdtool.graph.lattice import Lattice, best_arcs, pdf_posteriors, scale_weights
from kdtool.posteriors.source import FrameRows

ENSEMBLE, LATTICE = "ensemble", "lattice"
KINDS = (ENSEMBLE, LATTICE)


@dataclass(frozen=True)
class Plan:
    """What makes the rows, as JSON for the jobs.

    ``phones``: the phone of each senone, for rows over phones, else empty; ``search``, ``weights``: the recogniser's options and the
    weights (4,) of an arc's scores, for lattices; ``crossfit``: the speakers that each member was trained on, [] for no cross-fitting.
    """

    kind: str
    models: list[str]
    feats: str
    unit: str
    num_units: int
    frames_per_row: int
    phones: list[int] = field(default_factory=list)
    search: dict[str, Any] = field(default_factory=dict)
    weights: list[float] = field(default_factory=list)
    crossfit: list[list[str]] = field(default_factory=list)


def frame_rows(plan: Plan) -> FrameRows:
    """The rows of all utterances of the features, without speed copies."""
    features = FeatureSet.open(plan.feats)
    frames = {u: i.num_frames for u in features.ids if (i := features.info(u)).speed == 1.0}
    teacher = (Ensemble if plan.kind == ENSEMBLE else Lattices)(plan, features)
    rows = FrameRows(plan.unit, plan.num_units, frames, teacher.log_probs, frames_per_row=plan.frames_per_row, labels=teacher.labels)
    rows.name, rows.again = f"{plan.feats} ({plan.kind})", "check the models and the graph"
    return rows


class Ensemble:
    """The mean of members' posteriors; the likeliest unit is the label."""

    def __init__(self, plan: Plan, features: FeatureSet) -> None:
        self.plan, self.features = plan, features
        self.members = [load_acoustic(Path(m)) for m in plan.models]
        check_members(self.members)

    def log_probs(self, utterance: str) -> np.ndarray:
        """float32 (R, V) in nats; KdError if every member was trained on the speaker."""
        scores = [member.raw_scores(self.features, utterance) for member in self._members(utterance)]
        self._found = to_units(mean_posterior(scores), self.plan)[:: self.plan.frames_per_row]
        return log_of(self._found)

    def labels(self, utterance: str) -> np.ndarray:
        """(R,) of the utterance that ``log_probs`` was asked for."""
        return self._found.argmax(axis=1)

    def _members(self, utterance: str) -> list[Acoustic]:
        if not self.plan.crossfit:
            return self.members
        speaker = self.features.info(utterance).speaker
        fit = [m for m, heard in zip(self.members, self.plan.crossfit, strict=True) if speaker not in heard]
        if not fit:
            raise KdError(f"all {len(self.members)} members were trained on speaker {speaker}")
        return fit


class Lattices:
    """Posteriors of units over all paths of a lattice; labels are those of its best path."""

    def __init__(self, plan: Plan, features: FeatureSet) -> None:
        self.plan, self.features = plan, features
        self.recogniser = GraphRecogniser(Path(plan.models[0]), Path(plan.feats), plan.search)
        self.every = plan.frames_per_row // self.recogniser.acoustic.subsampling

    def log_probs(self, utterance: str) -> np.ndarray:
        """float32 (R, V) in nats; KdError if no path reaches the graph's end."""
        lattice = self.recogniser.lattice(utterance)
        if lattice is None:
            raise KdError(f"no path through the graph ({self.features.info(utterance).num_frames} frames)")
        probs, self._best = lattice_posteriors(lattice, np.array(self.plan.weights), self.recogniser.acoustic.num_pdfs)
        return log_of(to_units(probs[:: self.every], self.plan))

    def labels(self, utterance: str) -> np.ndarray:
        """(R,) of the utterance that ``log_probs`` was asked for."""
        best = self._best[:: self.every]
        return np.array(self.plan.phones)[best] if self.plan.phones else best


def mean_posterior(log_probs: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (T, V): the mean probability of float32 log-posteriors (T, V) in nats."""
    total = np.zeros(log_probs[0].shape)
    for one in log_probs:
        total += np.exp(one.astype(np.float64))
    mean: np.ndarray = total / total.sum(axis=1, keepdims=True)  # float32 rows sum to 1 within 1e-6
    return mean


def path_weights(lm_scale: float, prior_scale: float, acoustic_scale: float) -> np.ndarray:
    """Weights (4,) of an arc's scores that make the log-probability of a path, in nats: acoustic_scale * (acoustic - prior_scale * prior +
    lm_scale * graph); at 1 / lm_scale the graph's own log-probabilities count in full."""
    return acoustic_scale * scale_weights(prior_scale, lm_scale)


def lattice_posteriors(lattice: Lattice, weights: np.ndarray, num_pdfs: int) -> tuple[np.ndarray, np.ndarray]:
    """(float64 (T, num_pdfs) posteriors of all paths, int32 (T,) pdfs of the best path)."""
    frames, pdfs, mass = pdf_posteriors(lattice, weights)
    probs = np.zeros((len(lattice.first) - 2, num_pdfs))
    probs[frames, pdfs] = mass
    return probs, lattice.pdf[best_arcs(lattice, weights[None])[0][:-1]]


def to_units(probs: np.ndarray, plan: Plan) -> np.ndarray:
    """Probabilities of the plan's units (T, V) of those of senones (T, S): a phone is the sum of its senones."""
    if not plan.phones:
        return probs
    belongs = np.zeros((len(plan.phones), plan.num_units))
    belongs[np.arange(len(plan.phones)), plan.phones] = 1.0
    return probs @ belongs


def log_of(probs: np.ndarray) -> np.ndarray:
    """float32 log-probabilities, -inf for nothing."""
    with np.errstate(divide="ignore"):
        return np.log(probs).astype(np.float32)


def check_members(members: Sequence[Acoustic]) -> None:
    """KdError unless all members give posteriors of the same senones."""
    first = members[0]
    for member in members:
        if member.scores_are != "posterior":
            raise KdError(f"{member.folder}: its scores are no posteriors ({member.scores_are}); an ensemble takes students of kind hybrid")
        if not member.tree_digest or member.tree_digest != first.tree_digest:
            raise KdError(f"{member.folder} has {member.num_pdfs} senones of tree {member.tree_digest[:12]}, {first.folder} "
                          f"{first.num_pdfs} of tree {first.tree_digest[:12]}; take students of one tree")  # fmt: skip
