"""Scores of an LF-MMI student.  In: a student's folder, features.  Out: one row of scores per 30 ms; no priors, as the criterion was
trained beside an LM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.formats.tree import CHAIN_SUBSAMPLING
from kdtool.student.encoders import code_of

if TYPE_CHECKING:
    import numpy as np

    from kdtool.decode.adapt import SpeakerAdapter
    from kdtool.features.store import FeatureSet
    from kdtool.formats.system import System


class LfmmiScores:
    """Outputs of an LF-MMI student's main head."""

    adapter: SpeakerAdapter | None = None
    log_prior: np.ndarray | None = None
    subsampling, scores_are = CHAIN_SUBSAMPLING, "mmi"

    def __init__(self, folder: Path) -> None:
        from kdtool.student.model import Student

        self._model = Student.load(folder)
        self.feature_kind, self.num_pdfs = self._model.feature_kind, self._model.num_pdfs
        self.tree_digest = self._model.shape.tree_digest

    @classmethod
    def code(cls, system: System) -> tuple[str, ...]:
        """Its encoder."""
        return code_of(system)

    def raw_scores(self, features: FeatureSet, utterance: str) -> np.ndarray:
        """Outputs (nats, up to a constant for each row)."""
        return self._model.outputs(features.get(utterance))
