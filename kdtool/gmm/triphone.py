"""Shared by the three triphone trainings: shards that hold an alignment, a tree on their features, the training loop.

In: features (as the front end makes them), a lang folder, an alignment by any tree over its phones. Out: tree and model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.formats.tree import Tree
    from kdtool.gmm.feats import FrontEnd
    from kdtool.gmm.model import DiagGmm
    from kdtool.gmm.pool import ShardPool
    from kdtool.gmm.trainer import Refine
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


@dataclass
class Trained:
    """Result of `grow_and_train`; occupancy (num_pdfs,): frames per pdf; dropped: (utterance, reason); kept: number of utterances that
    the shards still have, to detect utterances lost without a reason."""

    model: DiagGmm
    tree: Tree
    occupancy: np.ndarray
    history: list[dict[str, Any]]
    dropped: list[tuple[str, str]]
    kept: int


@dataclass
class Sources:
    """A training's inputs, opened: utterances at their own speed, and the words that their transcripts need."""

    lang: Lang
    features: FeatureSet
    alignments: AlignmentSet
    ids: list[str]
    words: Words


def open_sources(feat_dir: Path, lang_dir: Path, ali_dir: Path) -> Sources:
    """Open and check features, lang folder and alignment."""
    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.gmm.folder import check_alignment, original_ids, used_words
    from kdtool.lang.lang import Lang

    lang, features, alignments = Lang.load(lang_dir), FeatureSet.open(feat_dir), AlignmentSet.open(ali_dir)
    check_alignment(alignments, lang)
    ids = original_ids(features)
    return Sources(lang, features, alignments, ids, used_words(lang, features, ids))


def shard_arguments(sources: Sources, front: FrontEnd, groups: Sequence[list[str]]) -> list[tuple[Any, ...]]:
    """Arguments of each `Shard`, the groups of utterances (single ones or speakers) assigned to the emptiest shard.

    The largest group goes first; utterances keep the data set's order within a shard.
    """
    from kdtool.gmm.trainer import NUM_SHARDS

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
    return [(u, "no alignment from the model before") for part in pool.call("take", str(ali_dir)) for u in part]


def grow_and_train(
    pool: ShardPool, lang: Lang, cfg: TriphoneConfig, label: str, work: Path, refine: Refine | None = None
) -> Trained:
    """Tree, first model and training, on the shards' present features. Writes questions.txt and splits.jsonl into `work`."""
    from kdtool.gmm.em import VARIANCE_FLOOR, Stats, single_gaussians
    from kdtool.gmm.folder import silence_pdfs
    from kdtool.gmm.train_mono import merge_tree_answers
    from kdtool.gmm.trainer import Schedule, gather_moments, say, train
    from kdtool.gmm.tree_build import build_tree, first_moments, merge_stats
    from kdtool.gmm.tree_show import save_nodes

    mean, var = gather_moments(pool)
    stats = merge_stats(pool.call("tree_stats"))
    tree, questions, nodes = build_tree(
        stats, lang.num_states, lang.sil, lang.silence_ids, leaves=cfg.leaves, min_count=cfg.min_count, min_gain=cfg.min_gain,
        family=lang.family, position_sets=lang.position_sets,
    )  # fmt: skip
    say(f"{label}: {len(stats.keys)} states in context seen, {len(questions)} questions, {tree.num_pdfs} tied states")
    write_questions(work, questions, lang.phone_names)
    save_nodes(work, nodes, lang.phone_names, lang.plain_names)
    short, _ = merge_tree_answers(pool.call("set_tree", tree))
    pool.call("align_as_before")
    count, moments = first_moments(tree, stats)
    model = single_gaussians(Stats(count, moments, 0.0, 0), VARIANCE_FLOOR * var, (mean, var), tree.digest)
    plan = Schedule(cfg.iterations, tuple(cfg.realign), cfg.gaussians, cfg.grow_until, cfg.power, cfg.seed, cfg.boost_silence)
    silence = silence_pdfs(tree, lang)
    model, occupancy, history, lost = train(pool, model, count, silence, plan, label, refine)
    return Trained(model, tree, occupancy, history, short + lost, sum(pool.call("count")))


def write_questions(work: Path, questions: list[tuple[int, ...]], names: Sequence[str]) -> None:
    """One phone set per line, for people to read."""
    (work / "questions.txt").write_text("".join(" ".join(names[p] for p in q) + "\n" for q in questions), encoding="utf-8")
