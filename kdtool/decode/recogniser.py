"""Interface of a recogniser.  In: a model folder, features, options.  Out: candidates with their scores for each utterance.

Each kind of system (system.json) has one recogniser: GMMs and hybrid students search a decoding graph. Scoring, scales and tables
depend on candidates and ``Setting`` only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdtool.core.registry import Registry
from kdtool.features.store import FeatureSet
from kdtool.formats.system import read_system

if TYPE_CHECKING:
    from kdtool.decode.candidates import Candidate
    from kdtool.decode.config import Config


@dataclass(frozen=True)
class Setting:
    """Facts of a decode. ``meta``: reported unit ("word", "phone"), ``lm``: name of the LM, ``silence_words``:
    outputs that are not reported; ``grid``: scales to choose from, ``weights`` (G, 4) their weights of a candidate's parts; ``centre``: LM
    scale of the search; ``options``: what the jobs need, as JSON."""

    meta: dict[str, Any]
    grid: list[dict[str, float]]
    weights: np.ndarray
    centre: float
    options: dict[str, Any]


class Recogniser(ABC):
    """Recognises with one model. ``seconds``: CPU time per kind of work, and seconds of audio; ``transforms``: by speaker, if it adapts."""

    features: FeatureSet
    seconds: dict[str, float]
    transforms: dict[str, np.ndarray]

    def __init__(self, model: Path, feats: Path, options: dict[str, Any]) -> None:
        """options: those of ``Setting``."""
        self.features, self.options = FeatureSet.open(feats), options

    @classmethod
    def resolved(cls, cfg: "Config") -> "Config":
        """The options as resolved on this machine, for the record; UsageError on a wrong one."""
        return cfg

    @classmethod
    @abstractmethod
    def inputs(cls, cfg: "Config") -> dict[str, Path]:
        """Folders and files beside model, features and lang that it reads, by name; UsageError if one is missing."""

    @classmethod
    @abstractmethod
    def setting(cls, paths: dict[str, Path], cfg: "Config") -> Setting:
        """Check that model, features, lang and the recogniser's inputs fit together; KdError if not."""

    @classmethod
    @abstractmethod
    def megabytes(cls, cfg: "Config") -> int:
        """Estimate of the memory of one job."""

    @abstractmethod
    def groups(self, utterances: Sequence[str]) -> list[list[str]]:
        """The utterances in its preferred groups; jobs do not share a group."""

    @abstractmethod
    def recognise(self, group: Sequence[str]) -> "Iterator[tuple[str, list[Candidate] | None]]":
        """Candidates of each utterance of a group, None without result."""


# Kinds of systems as named in system.json.
RECOGNISERS: Registry[type[Recogniser]] = Registry("recogniser", {
    "gmm": "kdtool.decode.graph_recogniser:GraphRecogniser",
    "hybrid": "kdtool.decode.graph_recogniser:GraphRecogniser",
    "lfmmi": "kdtool.decode.graph_recogniser:GraphRecogniser",
})  # fmt: skip


def recogniser_of(model: Path) -> type[Recogniser]:
    """The recogniser of a model folder's kind."""
    return RECOGNISERS[read_system(model).kind]
