"""Step: triphone GMM on spliced features, projected by LDA and MLLT.

In: a feature folder, a lang folder, an alignment of these features. Out: a GMM folder (see ``kdtool.gmm.folder``),
questions.txt and dropped.tsv. LDA's classes are the alignment's tied states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from kdtool.core.cli import cli_main
from kdtool.core.main import step_main
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.lda import estimate_lda
from kdtool.gmm.mllt import estimate_mllt
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool
from kdtool.gmm.trainer import say
from kdtool.gmm.triphone import INPUTS, Method, Sources, TriphoneConfig, open_sources, train_triphone


@dataclass(frozen=True)
class LdaMlltConfig(TriphoneConfig):
    """Options of the LDA + MLLT training."""

    context: int = field(default=3, metadata={"help": "frames spliced to each side"})
    dim: int = field(default=40, metadata={"help": "number of dimensions after LDA (at most the spliced dimension)"})
    mllt: list[int] = field(default_factory=lambda: [2, 4, 6, 12], metadata={"help": "iterations that start with an MLLT estimate"})


class Projection(Method):
    """LDA, then MLLT during training; both ignore silence."""

    def __init__(self, pool: ShardPool, sources: Sources, front: FrontEnd, cfg: LdaMlltConfig) -> None:
        """Project to at most cfg.dim dimensions; classes are the tied states of the shards' alignment."""
        super().__init__(pool, sources, front)
        self.iterations = cfg.mllt
        phones = np.zeros(int(sources.alignments.meta["num_pdfs"]), np.int64)
        for utterance in sources.alignments.ids:
            ali = sources.alignments.get(utterance)
            phones[ali.pdf] = ali.phone
        stats = pool.total("accumulate_lda", len(phones), np.isin(phones, sorted(sources.lang.silence_ids)))
        self._set(estimate_lda(stats, min(cfg.dim, front.dim)))
        seen = int((stats.count > 0).sum())
        say(f"LDA: {stats.count.sum():.0f} frames of {seen} tied states, {front.dim} to {self.front.dim} dimensions")

    def _set(self, matrix: np.ndarray) -> None:
        self.front = replace(self.front, matrix=matrix.astype(np.float32))
        self.pool.call("set_front", self.front)

    def refine(self, it: int, model: DiagGmm, occupancy: np.ndarray, silence: np.ndarray) -> tuple[DiagGmm, dict[str, float]] | None:
        """Rotate the space so that diagonal covariances fit better; the model's means follow. silence: bool (num_pdfs,)."""
        if it not in self.iterations:
            return None
        assert self.front.matrix is not None
        turn, gain = estimate_mllt(self.pool.total("accumulate_mllt", model, silence))
        self._set(turn @ self.front.matrix)
        return DiagGmm(model.means @ turn.T, model.variances, model.weights, model.offsets, model.tree_digest), {"mllt": gain}


def train_lda_mllt(paths: dict[str, Path], work: Path, cfg: LdaMlltConfig, nj: int) -> None:
    """LDA, tree, training with MLLT; the GMM folder goes into `work`. paths: feats, lang, ali."""
    sources = open_sources(paths)
    front = FrontEnd(sources.features.kind, sources.features.dim, context=cfg.context)
    train_triphone(sources, front, cfg, work, nj, step="train_lda_mllt", label="LDA + MLLT", method=partial(Projection, cfg=cfg))


def main(argv: Sequence[str] | None = None) -> None:
    step_main(
        "train_lda_mllt", LdaMlltConfig, INPUTS, "GMM folder to make", train_lda_mllt, argv, code="kdtool.gmm.train_lda_mllt",
        description="Train a triphone GMM on spliced features with LDA and MLLT.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
