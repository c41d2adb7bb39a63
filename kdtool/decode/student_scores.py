"""Scores of a student.  In: a student's folder, features.  Out: per frame and senone a log-posterior; the log-priors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdtool.student.encoders import code_of

if TYPE_CHECKING:
    from kdtool.decode.adapt import SpeakerAdapter
    from kdtool.features.store import FeatureSet
    from kdtool.formats.system import System


class StudentScores:
    """Log-posteriors of a student's main head."""

    adapter: SpeakerAdapter | None = None
    subsampling, scores_are = 1, "posterior"

    def __init__(self, folder: Path) -> None:
        from kdtool.student.model import Student

        self._model = Student.load(folder)
        self.feature_kind, self.num_pdfs = self._model.feature_kind, self._model.num_pdfs
        self.tree_digest = self._model.shape.tree_digest
        self.log_prior: np.ndarray | None = self._model.log_priors.numpy().astype(np.float32)

    @classmethod
    def code(cls, system: System) -> tuple[str, ...]:
        """The code of its encoder."""
        return code_of(system)

    def raw_scores(self, features: FeatureSet, utterance: str) -> np.ndarray:
        """Log-posteriors (nats)."""
        return self._model.log_posteriors(features.get(utterance))
