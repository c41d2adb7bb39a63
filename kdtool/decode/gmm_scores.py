"""Scores of a GMM.  In: a GMM folder, features.  Out: per frame and pdf a log-likelihood."""

from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.decode.acoustic import Acoustic

if TYPE_CHECKING:
    import numpy as np

    from kdtool.features.store import FeatureSet


class GmmScores(Acoustic):
    """Log-likelihoods of a DiagGmm."""

    scores_are = "gmm"

    def __init__(self, folder: Path) -> None:
        from kdtool.decode.adapt import SpeakerAdapter
        from kdtool.gmm.folder import open_gmm

        super().__init__(folder)
        self._gmm = open_gmm(folder)
        self.feature_kind = self._gmm.front.kind
        self.num_pdfs, self.tree_digest = self._gmm.model.num_pdfs, self._gmm.model.tree_digest
        self.adapter = SpeakerAdapter(self._gmm) if self._gmm.front.adapted else None

    def unchecked(self, features: "FeatureSet", utterance: str) -> "np.ndarray":
        """Log-likelihoods (nats)."""
        if self.adapter:
            return self.adapter.scores(features, utterance)
        return self._gmm.model.log_likelihood(self._gmm.front.features(features, utterance))
