"""Our Gaussians, mixtures and tree against Kaldi's own code, on one alignment of synthetic speech.

Kaldi computes in float32 and frame by frame, we in float64 sums over float32 products: hence the tolerances. Where the two differ by
design, a test says how.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import gmm_data
import numpy as np
import pytest

from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import Alignment, AlignmentSet, save_alignments
from kdtool.gmm.em import Stats, accumulate, mix_up, reestimate, split_targets
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import used_words
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.questions import VARIANCE_FLOOR, log_likelihood, question_table
from kdtool.gmm.shard import Shard
from kdtool.gmm.tree_build import SIDES, Node, build_tree
from kdtool.gmm.tree_stats import TreeStats
from kdtool.lang.lang import Lang

FLOOR, TOTAL, POWER, MIN_COUNT, LEAF_COUNT = 0.15, 60, 0.25, 20.0, 15.0
COLUMN = {"left": 0, "right": 2, "itself": 1}
Arrays = Mapping[str, np.ndarray]


def model_of(states: int, rng: np.random.Generator) -> DiagGmm:
    """One to three Gaussians around the place of each HMM state; two that starve, of a phone that is spoken once."""
    sizes = np.array([2 if j in (3, 4) else 1 + j % 3 for j in range(states)])
    owner = np.repeat(np.arange(states), sizes)
    places = np.stack([gmm_data.state_mean(j // 3 + 1, j % 3) for j in owner])
    means = (places + 0.3 * rng.standard_normal(places.shape)).astype(np.float32)
    variances = 1 / (1 / rng.uniform(0.2, 0.6, places.shape)).astype(np.float32)
    weights = np.concatenate([rng.dirichlet(np.full(n, 5.0)) for n in sizes]).astype(np.float32)
    return DiagGmm(means, variances, weights, np.concatenate([[0], np.cumsum(sizes)]), "t")


def tree_of(root: Path, lang: Lang) -> tuple[Shard, TreeStats, list[tuple[int, ...]], list[Node]]:
    """A shard with the alignment, its statistics by context, and the tree that grows on them."""
    features = FeatureSet.open(root / "feats")
    shard = Shard(str(root / "feats"), features.ids, used_words(lang, features, features.ids), FrontEnd("mfcc", gmm_data.DIM))
    assert shard.take(str(root / "ali")) == []
    stats = shard.tree_stats()
    assert stats is not None
    _, questions, nodes = build_tree(stats, lang.num_states, lang.sil, lang.silence_ids, leaves=100, min_count=LEAF_COUNT, min_gain=1.0)
    return shard, stats, questions, nodes


def members(stats: TreeStats, nodes: list[Node], table: np.ndarray) -> np.ndarray:
    """Bool (nodes, contexts): the contexts that come to each node."""
    here = np.zeros((len(nodes), len(stats.keys)), bool)
    for n, node in enumerate(nodes):
        if node.parent is None:
            here[n] = (stats.keys[:, 1] == node.phone) & (stats.keys[:, 3] == node.state)
        else:
            above, yes = node.parent
            asked = np.isin(np.arange(table.shape[1]), nodes[above].question)
            asked[0] = asked[1]  # the utterance's edge belongs to silence
            here[n] = here[above] & (asked[stats.keys[:, COLUMN[SIDES[nodes[above].side]]]] == yes)
    return here


class World:
    """The given arrays, what Kaldi makes of them (tests/unit/kaldi_gmm_reference.py), and our own objects."""

    def __init__(self, root: Path) -> None:
        gmm_data.write_lang(root / "lang")
        truth = gmm_data.write_features(root / "feats", 24)
        lang, rng = Lang.load(root / "lang"), np.random.default_rng(0)
        alis = [Alignment(u, t.pdf, t.pdf % 3, t.pdf // 3 + 1, t.phone_start, t.words) for u, t in truth.items()]
        save_alignments(root / "ali", alis, {})
        self.shard, self.stats, questions, self.nodes = tree_of(root, lang)
        self.ids = AlignmentSet.open(root / "ali").ids
        self.table = question_table(questions, max(lang.num_states) + 1, lang.sil)
        self.model = model_of(3 * len(lang.num_states), rng)
        x, self.pdf = np.concatenate([self.shard.feats(u) for u in self.ids]), np.concatenate([truth[u].pdf for u in self.ids])
        self.x, self.other = x, (x @ rng.standard_normal((gmm_data.DIM, gmm_data.DIM))).astype(np.float32)
        self.contexts, which = self.frames_contexts()
        self.occupancy = np.bincount(self.pdf, minlength=self.model.num_pdfs).astype(np.float64)
        split = np.array([n.side >= 0 for n in self.nodes])
        given = {
            "x": self.x, "other": self.other, "pdf": self.pdf, "floor": FLOOR, "total": TOTAL, "power": POWER, "min_count": MIN_COUNT,
            "occupancy": self.occupancy, "means": self.model.means, "variances": self.model.variances, "weights": self.model.weights,
            "offsets": self.model.offsets, "contexts": self.contexts, "which": which, "table": self.table, "leaf_count": LEAF_COUNT,
            "nodes": members(self.stats, self.nodes, self.table)[split], "phones": np.array(sorted(lang.num_states)),
            "tree_floor": VARIANCE_FLOOR,
        }  # fmt: skip
        np.savez(root / "given.npz", **given)
        program = Path(__file__).parent / "kaldi_gmm_reference.py"
        subprocess.run([sys.executable, str(program), str(root / "given.npz"), str(root / "kaldi.npz")], check=True)
        self.kaldi = dict(np.load(root / "kaldi.npz"))

    def frames_contexts(self) -> tuple[np.ndarray, np.ndarray]:
        """Contexts (K, 4) = left, phone, right, state, and the number of each frame's, (T,); written without the code that is tested."""
        rows = []
        for u in self.ids:
            ali = self.shard.given[u]
            edges = [*ali.phone_start.tolist(), ali.num_frames]
            phones = [0, *ali.phone[ali.phone_start].tolist(), 0]
            for n, (a, b) in enumerate(itertools.pairwise(edges)):
                rows += [(phones[n], phones[n + 1], phones[n + 2], int(s)) for s in ali.state[a:b]]
        contexts = sorted(set(rows))
        number = {c: n for n, c in enumerate(contexts)}
        return np.array(contexts), np.array([number[r] for r in rows])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("kaldi"))


def statistics(world: World, other: np.ndarray | None = None) -> Stats:
    stats = Stats.zeros(world.model.num_gaussians, world.model.dim)
    accumulate(world.model, world.x, world.pdf, stats, other)
    return stats


def test_likelihoods(world: World) -> None:
    found = world.model.log_likelihood(world.x)[np.arange(len(world.x)), world.pdf]
    np.testing.assert_allclose(found, world.kaldi["scores"], atol=2e-3)


@pytest.mark.parametrize("views", ["stats", "two"])
def test_accumulation(world: World, views: str) -> None:
    """Occupancies and moments within 1e-4 of their size, log-likelihood within 1e-5; also with another view's moments."""
    found = statistics(world, world.other if views == "two" else None)
    np.testing.assert_allclose(found.gamma, world.kaldi[f"{views}.gamma"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.moments, world.kaldi[f"{views}.moments"], rtol=1e-4, atol=0.02)
    assert found.loglike == pytest.approx(float(world.kaldi[f"{views}.loglike"]), rel=1e-5)
    assert found.frames == len(world.x)


def test_update(world: World) -> None:
    """The same Gaussians stay, with the same parameters within 1e-3; variances are floored; starving Gaussians go."""
    after = reestimate(world.model, statistics(world), np.full(world.model.dim, FLOOR))
    assert np.diff(after.offsets).tolist() == world.kaldi["updated.sizes"].tolist()
    assert after.num_gaussians < world.model.num_gaussians
    assert (after.variances == FLOOR).any() and (after.variances > FLOOR).any()
    same = np.ones(after.num_gaussians, bool)
    starving = np.flatnonzero(world.occupancy < 10)
    assert starving.tolist() == [3, 4, 5]
    same[after.offsets[starving]] = False
    np.testing.assert_allclose(after.weights, world.kaldi["updated.weights"], atol=1e-4)
    np.testing.assert_allclose(after.means[same], world.kaldi["updated.means"][same], atol=1e-3)
    np.testing.assert_allclose(after.variances[same], world.kaldi["updated.variances"][same], rtol=1e-3)
    # Of a pdf whose Gaussians all starve we keep the first, as it was; Kaldi keeps the last.
    for j in (3, 4):
        ours, kaldis = world.model.offsets[j], world.model.offsets[j + 1] - 1
        np.testing.assert_array_equal(after.means[after.offsets[j]], world.model.means[ours])
        np.testing.assert_allclose(world.kaldi["updated.means"][after.offsets[j]], world.model.means[kaldis], rtol=1e-6)


def test_splitting(world: World) -> None:
    """The same pdfs get the same number of Gaussians with the same weights and variances; the halves keep a pdf's mean."""
    rng = np.random.default_rng(0)
    model = mix_up(world.model, world.occupancy, TOTAL, power=POWER, min_count=MIN_COUNT, rng=rng)
    assert np.diff(model.offsets).tolist() == world.kaldi["split.sizes"].tolist()
    assert model.num_gaussians > world.model.num_gaussians
    np.testing.assert_allclose(model.weights, world.kaldi["split.weights"], rtol=1e-6)
    np.testing.assert_allclose(model.variances, world.kaldi["split.variances"], rtol=1e-5)
    centre, kaldis = (
        np.add.reduceat(model.weights[:, None] * means, model.offsets[:-1]) for means in (model.means, world.kaldi["split.means"])
    )
    np.testing.assert_allclose(centre, kaldis, atol=1e-4)
    # The directions are random; their length is the same in standard deviations.
    moved = [(m - np.repeat(centre, np.diff(model.offsets), axis=0)).std() for m in (model.means, world.kaldi["split.means"])]
    assert moved[0] == pytest.approx(moved[1], rel=0.02)


def test_a_pdf_with_just_enough_frames_is_split_by_us_alone(world: World) -> None:
    """`min_count` frames for each Gaussian suffice here; Kaldi's GetSplitTargets asks for more than that."""
    ours = [int(split_targets(np.array([frames]), 50, POWER, 20.0)[0]) for frames in (100.0, 101.0)]
    assert ours == [5, 5] and world.kaldi["just_enough"].tolist() == [4, 5]


def test_tree_statistics(world: World) -> None:
    """Counts are equal, moments within rounding; likelihoods within 1e-5, but for a variance v below the floor.

    There Kaldi has -v / (2 floor) per frame and coefficient, which is the likelihood under the floored Gaussian; we have -1/2.
    """
    stats, dim = world.stats, gmm_data.DIM
    np.testing.assert_array_equal(stats.keys, world.contexts)
    np.testing.assert_array_equal(stats.count, world.kaldi["tree.count"])
    np.testing.assert_allclose(stats.moments, world.kaldi["tree.moments"], rtol=1e-9, atol=1e-9)
    found = log_likelihood(stats.count, stats.moments)
    var = stats.moments[:, :dim] / stats.count[:, None] - (stats.moments[:, dim:] / stats.count[:, None]) ** 2
    below = 0.5 * stats.count * np.maximum(1 - var / VARIANCE_FLOOR, 0).sum(axis=1)
    assert (below == 0).sum() > 100 and (below > 1e-2).any()
    np.testing.assert_allclose(found + below, world.kaldi["tree.objf"], rtol=1e-5, atol=1e-3)


def test_each_split_of_the_tree_is_kaldis_best(world: World) -> None:
    """Kaldi's gain of each question at each node that was split: ours is the largest. Its sums are float32, hence 0.1 nats."""
    split = [n for n in world.nodes if n.side >= 0]
    assert len(split) > 8
    for node, gains in zip(split, world.kaldi["tree.gains"], strict=True):
        rows = [q for q, row in enumerate(world.table) if tuple(p for p in np.flatnonzero(row).tolist() if p) == node.question]
        best = max(gains[node.side, q] for q in rows)
        assert best == pytest.approx(node.gain, abs=0.1)
        assert gains[:2].max() == pytest.approx(node.gain, abs=0.1)


def test_questions_are_the_merges_that_cost_kaldi_least(world: World) -> None:
    made = {tuple(p for p in np.flatnonzero(row).tolist() if p) for row in world.table}
    merges = [tuple(np.flatnonzero(row).tolist()) for row in world.kaldi["tree.merges"]]
    assert len(merges) == len(gmm_data.PHONES) - 3 and set(merges) <= made
