"""Shared by the three triphone trainings: shards that hold an alignment, a tree on their features, the training loop.

In: features (as the front end makes them), a lang folder, an alignment by any tree over its phones. Out: tree and model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.main import FEATS, LANG, Input
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.gmm.em import VARIANCE_FLOOR, single_gaussians
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import open_alignments, original_ids, used_words
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool
from kdtool.gmm.shard import Shard
from kdtool.gmm.trainer import NUM_SHARDS, Trained, gather_moments, say, set_tree, train
from kdtool.gmm.tree_build import grow_tree
from kdtool.gmm.tree_stats import first_stats, merge_stats
from kdtool.graph.training import Words
from kdtool.lang.lang import Lang


@dataclass(frozen=True)
class TriphoneConfig:
    """Options of every triphone training."""

    leaves: int = field(default=800, metadata={"help": "largest number of tied states (pdfs)"})
    min_count: float = field(default=100.0, metadata={"help": "smallest number of frames of a tied state"})
    min_gain: float = field(default=100.0, metadata={"help": "smallest gain in log-likelihood (nats) of a split"})
    iterations: int = field(default=28, metadata={"help": "EM iterations"})
    realign: list[int] = field(
        default_factory=lambda: [6, 11, 16, 21], metadata={"help": "iterations that start with a realignment"}
    )
    gaussians: int = field(default=5000, metadata={"help": "final number of Gaussians"})
    grow_until: int = field(default=21, metadata={"help": "iteration at which the final number of Gaussians is reached"})
    power: float = field(default=0.25, metadata={"help": "exponent of a pdf's frame count for its share of the Gaussians"})
    boost_silence: float = field(default=1.0, metadata={"help": "factor on the likelihoods of silence when realigning"})
    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})
    seed: int = field(default=0, metadata={"help": "random seed (directions in which Gaussians are split)"})


INPUTS = {"feats": FEATS.called("MFCC feature folder"), "lang": LANG,
          "ali": Input("alignment", "alignment folder of these features", "ali", beside=("feats",))}  # fmt: skip


@dataclass
class Sources:
    """A training's inputs, opened: utterances at their own speed, and the words that their transcripts need."""

    lang: Lang
    features: FeatureSet
    alignments: AlignmentSet
    ids: list[str]
    words: Words


class Method:
    """What a training does to the features of its shards: nothing. A subclass may change them before and during training."""

    def __init__(self, pool: ShardPool, sources: Sources, front: FrontEnd) -> None:
        self.pool, self.sources, self.front = pool, sources, front

    def refine(self, it: int, model: DiagGmm, occupancy: np.ndarray, silence: np.ndarray) -> tuple[DiagGmm, dict[str, float]] | None:
        """See kdtool.gmm.trainer.Refine."""
        return None

    def adapted(self, made: Trained) -> dict[str, Any]:
        """What save_gmm needs on top for a model of adapted features."""
        return {}


def open_sources(paths: dict[str, Path]) -> Sources:
    """Open and check features, lang folder and alignment."""
    (lang, alignments), features = open_alignments(paths["lang"], paths["ali"]), FeatureSet.open(paths["feats"])
    ids = original_ids(features)
    return Sources(lang, features, alignments, ids, used_words(lang, features, ids))


def shard_arguments(sources: Sources, front: FrontEnd, groups: Sequence[list[str]]) -> list[tuple[Any, ...]]:
    """Arguments of each `Shard`, the groups of utterances (single ones or speakers) assigned to the emptiest shard.

    The largest group goes first; utterances keep the data set's order within a shard.
    """
    position = {u: n for n, u in enumerate(sources.ids)}
    shards: list[list[str]] = [[] for _ in range(NUM_SHARDS)]
    frames = [0] * NUM_SHARDS
    sizes = [sum(sources.features.info(u).num_frames for u in group) for group in groups]
    for n in sorted(range(len(groups)), key=lambda n: (-sizes[n], position[groups[n][0]])):
        emptiest = frames.index(min(frames))
        shards[emptiest] += groups[n]
        frames[emptiest] += sizes[n]
    return [(str(sources.features.folder), sorted(ids, key=position.__getitem__), sources.words, front) for ids in shards]


def take_alignments(pool: ShardPool, ali_dir: Path) -> list[tuple[str, str]]:
    """Load the alignment into the shards; (utterance, reason) of those that are not in it."""
    return [lost for part in pool.call("take", str(ali_dir)) for lost in part]


def train_triphone(
    sources: Sources, front: FrontEnd, cfg: TriphoneConfig, work: Path, nj: int, *, step: str, label: str,
    method: Callable[[ShardPool, Sources, FrontEnd], Method] = Method, by_speaker: bool = False,
) -> None:  # fmt: skip
    """Tree, first model and training; the GMM folder goes into `work`, with questions.txt and splits.jsonl.

    by_speaker: each shard has all utterances of its speakers.
    """
    lang, groups = sources.lang, sources.features.by_speaker(sources.ids) if by_speaker else [[u] for u in sources.ids]
    with ShardPool(Shard, shard_arguments(sources, front, groups), nj) as pool:
        missing = take_alignments(pool, sources.alignments.folder)
        features = method(pool, sources, front)
        mean, var = gather_moments(pool)
        stats = merge_stats(pool.call("tree_stats"))
        tree, questions = grow_tree(stats, lang, lang.num_states, cfg, work)
        say(f"{label}: {len(stats.keys)} states in context seen, {questions} questions, {tree.num_pdfs} tied states")
        short, _ = set_tree(pool, tree)
        pool.call("align_as_before")
        leaves = first_stats(tree, stats)
        model = single_gaussians(leaves, VARIANCE_FLOOR * var, (mean, var), tree.digest)
        made = train(pool, model, tree, lang, leaves.gamma, cfg, label, short, features.refine)
        adapted = features.adapted(made)
    made.save(work, step, lang, features.front, cfg, len(sources.ids), missing, **adapted)
