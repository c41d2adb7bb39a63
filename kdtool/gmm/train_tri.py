"""Step: decision tree and triphone GMM.

In: a feature folder, a lang folder, an alignment of these features. Out: a GMM folder (see ``kdtool.gmm.folder``),
questions.txt, splits.jsonl (utils/show_tree.sh) and dropped.tsv.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.gmm.triphone import TriphoneConfig


@dataclass(frozen=True)
class TriConfig(TriphoneConfig):
    """Options of the triphone training."""

    deltas: int = field(default=2, metadata={"help": "order of the time derivatives (deltas)"})


def train_tri(paths: dict[str, Path], work: Path, cfg: TriConfig, nj: int) -> None:
    """Build the tree, train, and write the GMM folder into `work`. paths: feats, lang, ali."""
    from kdtool.core.dropped import account
    from kdtool.formats.system import GMM, System
    from kdtool.gmm.feats import FrontEnd
    from kdtool.gmm.folder import save_gmm
    from kdtool.gmm.pool import ShardPool
    from kdtool.gmm.shard import Shard
    from kdtool.gmm.triphone import grow_and_train, open_sources, shard_arguments, take_alignments

    sources = open_sources(paths["feats"], paths["lang"], paths["ali"])
    front = FrontEnd(sources.features.kind, sources.features.dim, cfg.deltas)
    with ShardPool(Shard, shard_arguments(sources, front, [[u] for u in sources.ids]), nj) as pool:
        missing = take_alignments(pool, paths["ali"])
        made = grow_and_train(pool, sources.lang, cfg, "triphone", work)
    save_gmm(work, made.model, made.tree, sources.lang, front, made.history)
    System(GMM, cfg.seed, "train_tri").write(work)
    account(len(sources.ids), made.kept, missing + made.dropped, max_share=cfg.max_dropped, where="train_tri", work=work)


def main(argv: Sequence[str] | None = None) -> None:
    paths, cfg, common = parse_args(
        TriConfig,
        [
            ("feats", "MFCC feature folder"),
            ("lang", "lang folder"),
            ("ali", "alignment folder of these features"),
            ("out", "GMM folder to make"),
        ],
        argv,
        prog="steps/train_tri.sh",
        description="Build a decision tree and train a triphone GMM.",
    )
    run(paths, cfg, common)


def run(paths: dict[str, Any], cfg: TriConfig, common: Common) -> None:
    run_step(
        "train_tri",
        out=paths["out"],
        inputs={"features": paths["feats"], "lang": paths["lang"], "alignment": paths["ali"]},
        options=cfg,
        code=("kdtool.gmm.train_tri",),
        body=lambda work: train_tri(paths, work, cfg, common.nj),
        common=common,
        doors=[door("features", paths["feats"]), door("lang", paths["lang"]), door("ali", paths["ali"], feats=paths["feats"])],
    )


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
