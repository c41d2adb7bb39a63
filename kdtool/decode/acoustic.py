"""Acoustic scores for decoding, for any kind of model.

In: a model folder (GMM or student) and features. Out: per frame and pdf a log-likelihood, or a log-posterior together with the
model's log-priors. A new kind of model is a file with a class and one line in ``MODELS``.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.registry import Registry
from kdtool.features.store import FeatureSet
from kdtool.formats.system import MODEL_FILES, System, read_system

if TYPE_CHECKING:
    from kdtool.decode.adapt import SpeakerAdapter


class Acoustic(ABC):
    """A loaded model; its scores are checked.

    ``tree_digest``: of the pdfs' tree, '' if the model does not say.
    ``log_prior``: float32 (num_pdfs,) to be subtracted with a scale, or None if the scores are likelihoods.
    ``subsampling``: 10 ms frames per row of scores. ``scores_are``: "gmm", "posterior" or "mmi", for the scales to try.
    ``adapter``: learns each speaker before the last search, None for models without adaptation.
    """

    feature_kind: str
    num_pdfs: int
    tree_digest: str
    log_prior: np.ndarray | None = None
    subsampling: int = 1
    scores_are: str
    adapter: "SpeakerAdapter | None" = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def code(cls, system: System) -> tuple[str, ...]:
        """The system's chosen registry entries, for the code version of a step that decodes with it."""
        return ()

    @abstractmethod
    def unchecked(self, features: FeatureSet, utterance: str) -> np.ndarray:
        """(T, num_pdfs), T being the utterance's 10 ms frames, or one in ``subsampling``; nats, no prior subtracted."""

    def check_features(self, features: FeatureSet) -> None:
        """KdError unless the features have the kind of the model's training features."""
        if features.kind != self.feature_kind:
            raise KdError(f"{self.folder} wants {self.feature_kind} features, {features.folder} holds {features.kind}; "
                          "give it the other folder")  # fmt: skip

    def raw_scores(self, features: FeatureSet, utterance: str) -> np.ndarray:
        """float32 (T, num_pdfs) without any prior subtracted; KdError when the model returns anything else."""
        scores = self.unchecked(features, utterance)
        shape = (-(-features.info(utterance).num_frames // self.subsampling), self.num_pdfs)
        if scores.shape != shape or not np.all(np.isfinite(scores)):
            raise KdError(f"{self.folder}: utterance {utterance} got scores of shape {scores.shape} instead of {shape}, or not finite; "
                          "the model is damaged or diverged: train it again")  # fmt: skip
        return np.ascontiguousarray(scores, dtype=np.float32)

    def scores(self, features: FeatureSet, utterance: str, prior_scale: float) -> np.ndarray:
        """float32 (T, num_pdfs) log-likelihoods: log-posteriors minus ``prior_scale`` x log-priors; GMMs ignore the scale."""
        raw = self.raw_scores(features, utterance)
        return raw if self.log_prior is None else raw - np.float32(prior_scale) * self.log_prior


# Kinds of models as named in system.json.
MODELS: Registry[type[Acoustic]] = Registry("kind of model", {
    "gmm": "kdtool.decode.gmm_scores:GmmScores",
    "hybrid": "kdtool.decode.student_scores:StudentScores",
    "lfmmi": "kdtool.decode.student_scores:LfmmiScores",
})  # fmt: skip


def load_acoustic(folder: Path) -> Acoustic:
    """Open a model folder of any kind.

    Raises:
        KdError: no model, or a damaged one.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in MODEL_FILES):
        raise KdError(f"{folder}: no model here (none of {', '.join(MODEL_FILES)}); train it first")
    model = MODELS[read_system(folder).kind](folder)
    if (prior := model.log_prior) is not None and not (prior.shape == (model.num_pdfs,) and np.all(np.isfinite(prior))):
        raise KdError(f"{folder}: log-priors of shape {prior.shape} for {model.num_pdfs} pdfs, or not finite; train it again")
    return model


def code_of(folder: Path) -> tuple[str, ...]:
    """Code of a model for a step that uses it: its kind, and the kind's chosen entries; empty without a folder."""
    if not Path(folder).is_dir():
        return ()
    system = read_system(folder)
    return (*MODELS.code(system.kind), *MODELS[system.kind].code(system))
