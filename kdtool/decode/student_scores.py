"""Scores of a student.  In: a student's folder, features.  Out: per frame and senone a log-posterior and the log-priors; of an LF-MMI
student one row of scores per 30 ms and no priors, as the criterion was trained beside an LM."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdtool.decode.acoustic import Acoustic
from kdtool.formats.tree import CHAIN_SUBSAMPLING
from kdtool.student.encoders import code_of

if TYPE_CHECKING:
    from kdtool.features.store import FeatureSet
    from kdtool.formats.system import System


class StudentScores(Acoustic):
    """Log-posteriors of a student's main head."""

    scores_are = "posterior"

    def __init__(self, folder: Path) -> None:
        from kdtool.student.model import Student

        super().__init__(folder)
        self._model = Student.load(folder)
        self.feature_kind, self.num_pdfs = self._model.feature_kind, self._model.num_pdfs
        self.tree_digest = self._model.shape.tree_digest
        if self.scores_are == "posterior":
            self.log_prior = self._model.log_priors.numpy().astype(np.float32)

    @classmethod
    def code(cls, system: "System") -> tuple[str, ...]:
        """The code of its encoder."""
        return code_of(system)

    def unchecked(self, features: "FeatureSet", utterance: str) -> np.ndarray:
        """Log-posteriors (nats)."""
        return self._model.log_posteriors(features.get(utterance))


class LfmmiScores(StudentScores):
    """Outputs of an LF-MMI student's main head."""

    subsampling, scores_are = CHAIN_SUBSAMPLING, "mmi"

    def unchecked(self, features: "FeatureSet", utterance: str) -> np.ndarray:
        """Outputs (nats, up to a constant for each row)."""
        return self._model.outputs(features.get(utterance))
