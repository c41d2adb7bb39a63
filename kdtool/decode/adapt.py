"""Speaker adaptation in decoding: transforms from the results of a first search.

In: a speaker's lattices. Out: fMLLR statistics, each frame counted for the pdfs of all paths by their posterior.
"""

from collections.abc import Iterable

import numpy as np

from kdtool.core.errors import KdError
from kdtool.features.store import FeatureSet
from kdtool.gmm import fmllr
from kdtool.gmm.feats import log_det, transform_features
from kdtool.gmm.folder import Gmm
from kdtool.graph.lattice import Lattice, pdf_posteriors

PRUNE = 0.01  # posterior below which a pdf is left out of a frame


class SpeakerAdapter:
    """Scores by a GMM of speaker-adapted features; ``transforms``: of the learned speakers."""

    def __init__(self, gmm: Gmm) -> None:
        if gmm.first is None or gmm.adaptation is None:
            raise KdError("speaker adaptation needs a GMM that steps/train_sat.sh has trained")
        self._gmm, self._first, self._how = gmm, gmm.first, gmm.adaptation
        self.transforms: dict[str, np.ndarray] = {}

    def scores(self, features: FeatureSet, utterance: str) -> np.ndarray:
        """Log-likelihoods float32 (T, num_pdfs) on the unadapted features; the first-pass model serves unknown speakers."""
        transform = self.transforms.get(features.info(utterance).speaker)
        if transform is None:
            return self._first.log_likelihood(self._gmm.front.features(features, utterance))
        return self._gmm.model.log_likelihood(self._gmm.front.features(features, utterance, transform)) + np.float32(log_det(transform))

    def learn(self, features: FeatureSet, found: Iterable[tuple[str, Lattice]], weights: np.ndarray) -> None:
        """Estimate a speaker's transform from lattices of their utterances, paths weighted by the scores parts @ weights."""
        stats, speaker = fmllr.RowStats.zeros(self._gmm.model.dim), ""
        for utterance, lattice in found:
            speaker = features.info(utterance).speaker
            raw, transform = self._gmm.front.features(features, utterance), self.transforms.get(speaker)
            frames, pdf, mass = pdf_posteriors(lattice, weights, PRUNE)
            weight = mass * self._how.weights(self._gmm.silence[pdf])
            judge, seen = (self._first, raw) if transform is None else (self._gmm.model, transform_features(transform, raw))
            fmllr.accumulate(self._gmm.model, raw[frames], pdf, weight, stats, judge=judge, judged=seen[frames])
        if speaker:
            self.transforms[speaker] = self._how.estimate(stats, speaker)[0]
