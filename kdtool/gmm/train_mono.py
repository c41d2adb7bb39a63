"""Step: monophone GMM from a flat start.

In: a feature folder, a lang folder. Out: a GMM folder (see ``kdtool.gmm.folder``) and dropped.tsv.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdtool.core.cli import cli_main
from kdtool.core.main import FEATS, LANG, step_main
from kdtool.features.store import FeatureSet
from kdtool.formats.tree import Tree
from kdtool.gmm.em import MIN_OCCUPANCY, VARIANCE_FLOOR, pdf_occupancies, single_gaussians
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import original_ids, used_words
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool
from kdtool.gmm.shard import Shard
from kdtool.gmm.trainer import NUM_SHARDS, gather_moments, say, set_tree, train
from kdtool.lang.lang import Lang


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


def train_mono(paths: dict[str, Path], work: Path, cfg: MonoConfig, nj: int) -> None:
    """Train and write the GMM folder into `work`. paths: feats, lang."""
    lang, features = Lang.load(paths["lang"]), FeatureSet.open(paths["feats"])
    ids = original_ids(features)
    tree = Tree.monophone(lang.num_states, lang.family)
    words = used_words(lang, features, ids)
    front = FrontEnd(features.kind, features.dim, cfg.deltas)
    with ShardPool(Shard, [(str(paths["feats"]), ids[s::NUM_SHARDS], words, front) for s in range(NUM_SHARDS)], nj) as pool:
        short, unknown = set_tree(pool, tree)
        say(f"monophone: {len(ids)} utterances, {unknown} words outside the lexicon are aligned as {lang.oov}")
        mean, var = gather_moments(pool)
        pool.call("align_equally")
        flat = DiagGmm(
            np.tile(mean, (tree.num_pdfs, 1)), np.tile(var, (tree.num_pdfs, 1)),
            np.ones(tree.num_pdfs), np.arange(tree.num_pdfs + 1), tree.digest,
        )  # fmt: skip
        stats = pool.total("accumulate", flat)
        unseen = int((stats.gamma < MIN_OCCUPANCY).sum())
        say(f"monophone: flat start, log-likelihood per frame {stats.loglike / stats.frames:.3f}, {unseen} states hardly seen")
        model = single_gaussians(stats, VARIANCE_FLOOR * var, (mean, var), tree.digest)
        made = train(pool, model, tree, lang, pdf_occupancies(flat, stats), cfg, "monophone", short)
    made.save(work, "train_mono", lang, front, cfg, len(ids), [])


def main(argv: Sequence[str] | None = None) -> None:
    step_main(
        "train_mono", MonoConfig, {"feats": FEATS.called("MFCC feature folder"), "lang": LANG}, "GMM folder to make", train_mono, argv,
        code="kdtool.gmm.train_mono", description="Train a monophone GMM from a flat start.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
