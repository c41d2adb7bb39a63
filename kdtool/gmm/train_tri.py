"""Step: decision tree and triphone GMM.

In: a feature folder, a lang folder, an alignment of these features. Out: a GMM folder (see ``kdtool.gmm.folder``),
questions.txt and dropped.tsv.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.step import run_step
from kdtool.gmm.train_mono import merge_tree_answers
from kdtool.validate.registry import door


@dataclass(frozen=True)
class TriConfig:
    """Options of the triphone training."""

    leaves: int = field(default=800, metadata={"help": "tied states (pdfs) at most"})
    min_count: float = field(default=100.0, metadata={"help": "frames that a tied state must have"})
    min_gain: float = field(default=100.0, metadata={"help": "log-likelihood (nats) that a split must gain"})
    iterations: int = field(default=28, metadata={"help": "EM iterations"})
    realign: list[int] = field(
        default_factory=lambda: [6, 11, 16, 21], metadata={"help": "iterations that start with a realignment"}
    )
    gaussians: int = field(default=5000, metadata={"help": "Gaussians in the end"})
    grow_until: int = field(default=21, metadata={"help": "iteration at which that number is reached"})
    power: float = field(default=0.25, metadata={"help": "a pdf's share of Gaussians goes with its frames to this power"})
    deltas: int = field(default=2, metadata={"help": "orders of time derivatives beside the features"})
    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})
    seed: int = field(default=0, metadata={"help": "for the directions in which Gaussians are split"})


def train_tri(feat_dir: Path, lang_dir: Path, ali_dir: Path, work: Path, cfg: TriConfig, nj: int) -> None:
    """Build the tree, train, and write the GMM folder into `work`."""
    from kdtool.ali.store import AlignmentSet
    from kdtool.core.dropped import account
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.em import VARIANCE_FLOOR, Stats, single_gaussians
    from kdtool.gmm.folder import check_alignment, original_ids, save_gmm, used_words
    from kdtool.gmm.pool import ShardPool
    from kdtool.gmm.shard import Shard
    from kdtool.gmm.trainer import NUM_SHARDS, Schedule, gather_moments, say, train
    from kdtool.gmm.tree_build import build_tree, first_moments, merge_stats
    from kdtool.lang.lang import Lang

    lang, features, alignments = Lang.load(lang_dir), FeatureSet.open(feat_dir), AlignmentSet.open(ali_dir)
    check_alignment(alignments, lang)
    ids = original_ids(features)
    words = used_words(lang, features, ids)
    shards = [(str(feat_dir), ids[s::NUM_SHARDS], words, cfg.deltas) for s in range(NUM_SHARDS)]
    with ShardPool(Shard, shards, nj) as pool:
        missing = [(u, "no alignment from the model before") for part in pool.call("take", str(ali_dir)) for u in part]
        mean, var = gather_moments(pool)
        stats = merge_stats(pool.call("tree_stats"))
        tree, questions = build_tree(
            stats, lang.num_states, lang.sil, lang.silence_ids, leaves=cfg.leaves, min_count=cfg.min_count, min_gain=cfg.min_gain
        )
        say(f"triphone: {len(stats.keys)} states in context seen, {len(questions)} questions, {tree.num_pdfs} tied states")
        write_questions(work, questions, lang.phone_names)
        short, _ = merge_tree_answers(pool.call("set_tree", tree))
        pool.call("align_as_before")
        count, moments = first_moments(tree, stats)
        model = single_gaussians(Stats(count, moments, 0.0, 0), VARIANCE_FLOOR * var, (mean, var), tree.digest)
        plan = Schedule(cfg.iterations, tuple(cfg.realign), cfg.gaussians, cfg.grow_until, cfg.power, cfg.seed)
        model, history, lost = train(pool, model, var, plan, "triphone")
    dropped = missing + short + lost
    save_gmm(work, model, tree, lang, features, cfg.deltas, history)
    account(len(ids), len(ids) - len(dropped), dropped, max_share=cfg.max_dropped, where="train_tri", work=work)


def write_questions(work: Path, questions: list[tuple[int, ...]], names: Sequence[str]) -> None:
    """One phone set a line, for people to read."""
    (work / "questions.txt").write_text("".join(" ".join(names[p] for p in q) + "\n" for q in questions), encoding="utf-8")


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
        prog="train_tri",
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
        body=lambda work: train_tri(paths["feats"], paths["lang"], paths["ali"], work, cfg, common.nj),
        common=common,
        doors=[door("features", paths["feats"]), door("lang", paths["lang"]), door("ali", paths["ali"], feats=paths["feats"])],
    )


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
