"""Step: triphone GMM on spliced features, projected by LDA and MLLT.

In: a feature folder, a lang folder, an alignment of these features. Out: a GMM folder (see ``kdtool.gmm.folder``),
questions.txt and dropped.tsv. LDA's classes are the alignment's tied states.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.gmm.triphone import TriphoneConfig

if TYPE_CHECKING:
    import numpy as np

    from kdtool.gmm.model import DiagGmm


@dataclass(frozen=True)
class LdaMlltConfig(TriphoneConfig):
    """Options of the LDA + MLLT training."""

    context: int = field(default=3, metadata={"help": "frames spliced to each side"})
    dim: int = field(default=40, metadata={"help": "number of dimensions after LDA (at most the spliced dimension)"})
    mllt: list[int] = field(default_factory=lambda: [2, 4, 6, 12], metadata={"help": "iterations that start with an MLLT estimate"})


def train_lda_mllt(paths: dict[str, Path], work: Path, cfg: LdaMlltConfig, nj: int) -> None:
    """LDA, tree, training with MLLT; the GMM folder goes into `work`. paths: feats, lang, ali."""
    from kdtool.core.dropped import account
    from kdtool.formats.system import GMM, System
    from kdtool.gmm.feats import FrontEnd
    from kdtool.gmm.folder import save_gmm
    from kdtool.gmm.pool import ShardPool
    from kdtool.gmm.project import Projection
    from kdtool.gmm.shard import Shard
    from kdtool.gmm.triphone import grow_and_train, open_sources, shard_arguments, take_alignments

    sources = open_sources(paths["feats"], paths["lang"], paths["ali"])
    front = FrontEnd(sources.features.kind, sources.features.dim, context=cfg.context)
    with ShardPool(Shard, shard_arguments(sources, front, [[u] for u in sources.ids]), nj) as pool:
        missing = take_alignments(pool, paths["ali"])
        projection = Projection(pool, front, sources.lang.silence_ids)
        projection.lda(sources.alignments, cfg.dim)

        def refine(it: int, model: DiagGmm, _: np.ndarray, silence: np.ndarray) -> tuple[DiagGmm, dict[str, float]] | None:
            return projection.mllt(model, silence) if it in cfg.mllt else None

        made = grow_and_train(pool, sources.lang, cfg, "LDA + MLLT", work, refine)
    save_gmm(work, made.model, made.tree, sources.lang, projection.front, made.history)
    System(GMM, cfg.seed, "train_lda_mllt").write(work)
    account(len(sources.ids), made.kept, missing + made.dropped, max_share=cfg.max_dropped, where="train_lda_mllt", work=work)


def main(argv: Sequence[str] | None = None) -> None:
    paths, cfg, common = parse_args(
        LdaMlltConfig,
        [
            ("feats", "MFCC feature folder"),
            ("lang", "lang folder"),
            ("ali", "alignment folder of these features"),
            ("out", "GMM folder to make"),
        ],
        argv,
        prog="steps/train_lda_mllt.sh",
        description="Train a triphone GMM on spliced features with LDA and MLLT.",
    )
    run(paths, cfg, common)


def run(paths: dict[str, Any], cfg: LdaMlltConfig, common: Common) -> None:
    run_step(
        "train_lda_mllt",
        out=paths["out"],
        inputs={"features": paths["feats"], "lang": paths["lang"], "alignment": paths["ali"]},
        options=cfg,
        code=("kdtool.gmm.train_lda_mllt",),
        body=lambda work: train_lda_mllt(paths, work, cfg, common.nj),
        common=common,
        doors=[door("features", paths["feats"]), door("lang", paths["lang"]), door("ali", paths["ali"], feats=paths["feats"])],
    )


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
