"""Step: monophone GMM from a flat start.

In: a feature folder, a lang folder. Out: a GMM folder (see ``kdtool.gmm.folder``) and dropped.tsv.
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


@dataclass(frozen=True)
class MonoConfig:
    """Options of the monophone training."""

    iterations: int = field(default=34, metadata={"help": "EM iterations"})
    realign: list[int] = field(
        default_factory=lambda: [2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30],
        metadata={"help": "iterations that start with a realignment"},
    )
    gaussians: int = field(default=1000, metadata={"help": "final number of Gaussians"})
    grow_until: int = field(default=26, metadata={"help": "iteration at which the final number of Gaussians is reached"})
    power: float = field(default=0.25, metadata={"help": "exponent of a pdf's frame count for its share of the Gaussians"})
    boost_silence: float = field(default=1.0, metadata={"help": "factor on the likelihoods of silence when realigning"})
    deltas: int = field(default=2, metadata={"help": "order of the time derivatives (deltas)"})
    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})
    seed: int = field(default=0, metadata={"help": "random seed (directions in which Gaussians are split)"})


def train_mono(feat_dir: Path, lang_dir: Path, work: Path, cfg: MonoConfig, nj: int) -> None:
    """Train and write the GMM folder into `work`."""
    import numpy as np

    from kdtool.core.dropped import account
    from kdtool.features.store import FeatureSet
    from kdtool.formats.system import GMM, System
    from kdtool.formats.tree import Tree
    from kdtool.gmm.em import MIN_OCCUPANCY, VARIANCE_FLOOR, pdf_occupancies, single_gaussians
    from kdtool.gmm.feats import FrontEnd
    from kdtool.gmm.folder import original_ids, save_gmm, silence_pdfs, used_words
    from kdtool.gmm.model import DiagGmm
    from kdtool.gmm.pool import ShardPool
    from kdtool.gmm.shard import Shard
    from kdtool.gmm.trainer import NUM_SHARDS, Schedule, e_step, gather_moments, say, train
    from kdtool.lang.lang import Lang

    lang, features = Lang.load(lang_dir), FeatureSet.open(feat_dir)
    ids = original_ids(features)
    tree = Tree.monophone(lang.num_states, lang.family)
    words = used_words(lang, features, ids)
    front = FrontEnd(features.kind, features.dim, cfg.deltas)
    shards = [(str(feat_dir), ids[s::NUM_SHARDS], words, front) for s in range(NUM_SHARDS)]
    with ShardPool(Shard, shards, nj) as pool:
        dropped, unknown = merge_tree_answers(pool.call("set_tree", tree))
        say(f"monophone: {len(ids)} utterances, {unknown} words outside the lexicon are aligned as {lang.oov}")
        mean, var = gather_moments(pool)
        pool.call("align_equally")
        flat = DiagGmm(
            np.tile(mean, (tree.num_pdfs, 1)), np.tile(var, (tree.num_pdfs, 1)),
            np.ones(tree.num_pdfs), np.arange(tree.num_pdfs + 1), tree.digest,
        )  # fmt: skip
        stats = e_step(pool, flat)
        unseen = int((stats.gamma < MIN_OCCUPANCY).sum())
        say(f"monophone: flat start, log-likelihood per frame {stats.loglike / stats.frames:.3f}, {unseen} states hardly seen")
        model = single_gaussians(stats, VARIANCE_FLOOR * var, (mean, var), tree.digest)
        plan = Schedule(cfg.iterations, tuple(cfg.realign), cfg.gaussians, cfg.grow_until, cfg.power, cfg.seed, cfg.boost_silence)
        model, _, history, lost = train(pool, model, pdf_occupancies(flat, stats), silence_pdfs(tree, lang), plan, "monophone")
        kept = sum(pool.call("count"))
    dropped += lost
    save_gmm(work, model, tree, lang, front, history)
    System(GMM, cfg.seed, "train_mono").write(work)
    account(len(ids), kept, dropped, max_share=cfg.max_dropped, where="train_mono", work=work)


def merge_tree_answers(parts: Sequence[tuple[list[tuple[str, str]], int]]) -> tuple[list[tuple[str, str]], int]:
    """Answers of Shard.set_tree from all shards: utterances dropped, unknown words in total."""
    return [item for part in parts for item in part[0]], sum(part[1] for part in parts)


def main(argv: Sequence[str] | None = None) -> None:
    paths, cfg, common = parse_args(
        MonoConfig,
        [("feats", "MFCC feature folder"), ("lang", "lang folder"), ("out", "GMM folder to make")],
        argv,
        prog="steps/train_mono.sh",
        description="Train a monophone GMM from a flat start.",
    )
    run(paths, cfg, common)


def run(paths: dict[str, Any], cfg: MonoConfig, common: Common) -> None:
    run_step(
        "train_mono",
        out=paths["out"],
        inputs={"features": paths["feats"], "lang": paths["lang"]},
        options=cfg,
        code=("kdtool.gmm.train_mono",),
        body=lambda work: train_mono(paths["feats"], paths["lang"], work, cfg, common.nj),
        common=common,
        doors=[door("features", paths["feats"]), door("lang", paths["lang"])],
    )


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
