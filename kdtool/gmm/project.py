"""LDA and MLLT during training: they replace the shards' front end.

In: a pool of shards with an alignment. Out: a front end with a matrix, models moved into its space.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from kdtool.formats.alignment import AlignmentSet
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.lda import LdaStats, estimate_lda
from kdtool.gmm.mllt import MlltStats, estimate_mllt
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool
from kdtool.gmm.trainer import say


class Projection:
    """The front end of a pool's shards. silence: phone ids that LDA and MLLT ignore."""

    def __init__(self, pool: ShardPool, front: FrontEnd, silence: Collection[int]) -> None:
        self.pool, self.front, self.silence = pool, front, sorted(silence)

    def _set(self, matrix: np.ndarray) -> None:
        self.front = dataclasses.replace(self.front, matrix=matrix.astype(np.float32))
        self.pool.call("set_front", self.front)

    def lda(self, alignments: AlignmentSet, dim: int) -> None:
        """Project to at most `dim` dimensions; classes are the tied states of the shards' alignment."""
        phones = np.zeros(int(alignments.meta["num_pdfs"]), np.int64)
        for utterance in alignments.ids:
            ali = alignments.get(utterance)
            phones[ali.pdf] = ali.phone
        stats = LdaStats.zeros(len(phones), self.front.dim)
        for part in self.pool.call("accumulate_lda", len(phones), np.isin(phones, self.silence)):
            stats.add(part)
        wide = self.front.dim
        self._set(estimate_lda(stats, min(dim, wide)))
        say(f"LDA: {stats.count.sum():.0f} frames of {int((stats.count > 0).sum())} tied states, {wide} to {self.front.dim} dimensions")

    def mllt(self, model: DiagGmm, silence: np.ndarray) -> tuple[DiagGmm, dict[str, float]]:
        """Rotate the space so that diagonal covariances fit better; the model's means follow. silence: bool (num_pdfs,)."""
        assert self.front.matrix is not None
        stats = MlltStats.zeros(model.dim)
        for part in self.pool.call("accumulate_mllt", model, silence):
            stats.add(part)
        turn, gain = estimate_mllt(stats)
        self._set(turn @ self.front.matrix)
        moved = DiagGmm(model.means @ turn.T, model.variances, model.weights, model.offsets, model.tree_digest)
        return moved, {"mllt": gain}
