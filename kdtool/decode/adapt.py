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
from kdtool.graph.lattice import Lattice

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
            frames, pdf, mass = pdf_posteriors(lattice, weights)
            weight = mass * self._how.weights(self._gmm.silence[pdf])
            judge, seen = (self._first, raw) if transform is None else (self._gmm.model, transform_features(transform, raw))
            fmllr.accumulate(self._gmm.model, raw[frames], pdf, weight, stats, judge=judge, judged=seen[frames])
        if speaker:
            self.transforms[speaker] = self._how.estimate(stats, speaker)[0]


def pdf_posteriors(lattice: Lattice, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, pdf and posterior of the lattice's arcs under the scores parts @ weights: int64, int32, float64, (N,) each.

    Arcs of a frame with the same pdf are merged; those below PRUNE are dropped and the rest of the frame is scaled to sum to 1.
    """
    score = lattice.parts @ weights
    forward = np.full(lattice.num_states, -np.inf)
    backward = np.full(lattice.num_states, -np.inf)
    forward[0] = backward[-1] = 0.0
    spans = [(a, b) for a, b in zip(lattice.first[:-1], lattice.first[1:], strict=True) if a < b]
    for a, b in spans:
        np.logaddexp.at(forward, lattice.dst[a:b], forward[lattice.src[a:b]] + score[a:b])
    for a, b in reversed(spans):
        np.logaddexp.at(backward, lattice.src[a:b], score[a:b] + backward[lattice.dst[a:b]])
    post = np.exp(forward[lattice.src] + score + backward[lattice.dst] - forward[-1])
    frame = np.repeat(np.arange(len(lattice.first) - 1), np.diff(lattice.first))
    spoken = np.flatnonzero(lattice.pdf >= 0)
    pairs, where = np.unique(np.stack([frame[spoken], lattice.pdf[spoken]]), axis=1, return_inverse=True)
    mass = np.bincount(where.reshape(-1), weights=post[spoken])
    keep = mass >= PRUNE
    frames, pdfs, mass = pairs[0][keep], pairs[1][keep], mass[keep]
    total = np.bincount(frames, weights=mass)
    return frames, pdfs, mass / total[frames]
