"""The tree: tables, files, questions, and growing on data whose right answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.formats.tree import Tree
from kdtool.gmm import tree_show
from kdtool.gmm.questions import cluster_phones, log_likelihood, question_table
from kdtool.gmm.tree_build import build_tree, save_nodes
from kdtool.gmm.tree_stats import TreeStats, first_stats, merge_stats

SIL, SPN, A, B, C, D = 1, 2, 3, 4, 5, 6


def context_stats(seed: int = 0) -> TreeStats:
    """Phone A sounds different after {B, C} than after {A, D, SIL}; nothing else depends on context. 2 dimensions."""
    rng = np.random.default_rng(seed)
    own = {SIL: -4.0, SPN: -3.0, A: 0.0, B: 4.0, C: 4.3, D: 8.0}
    keys, counts, moments = [], [], []
    for centre, mean in own.items():
        for left in own:
            for right in own:
                shift = 3.0 if centre == A and left in (B, C) else 0.0
                x = mean + shift + 0.5 * rng.standard_normal((40, 2))
                keys.append([left, centre, right, 0])
                counts.append(40.0)
                moments.append(np.concatenate([(x**2).sum(0), x.sum(0)]))
    return TreeStats(np.array(keys), np.array(counts), np.array(moments))


def grow(leaves: int = 100, min_count: float = 50.0, min_gain: float = 200.0) -> Tree:
    tree, _, _ = build_tree(
        context_stats(), {p: 1 for p in (SIL, SPN, A, B, C, D)}, SIL, {SIL, SPN}, leaves=leaves, min_count=min_count, min_gain=min_gain
    )
    return tree


def test_the_one_context_that_matters_is_found() -> None:
    tree = grow()
    assert tree.num_pdfs == 7
    after = tree.pdf_map[:, A, :, 0]
    assert len({int(p) for p in after[[B, C]].ravel()}) == 1
    assert len({int(p) for p in after[[A, D, SIL, SPN, 0]].ravel()}) == 1
    assert after[B, B] != after[D, B]


def test_the_edge_of_the_utterance_is_silence_and_silence_is_not_split() -> None:
    tree = grow(min_gain=0.0, min_count=10.0)
    assert tree.num_pdfs > 20
    np.testing.assert_array_equal(tree.pdf_map[0], tree.pdf_map[SIL])
    np.testing.assert_array_equal(tree.pdf_map[:, :, 0], tree.pdf_map[:, :, SIL])
    for phone in (SIL, SPN):
        assert len(np.unique(tree.pdf_map[:, phone, :, 0])) == 1


def test_limits_hold() -> None:
    assert grow(leaves=6).num_pdfs == 6
    assert grow(leaves=9, min_gain=0.0, min_count=1.0).num_pdfs == 9
    stats, tree = context_stats(), grow(min_gain=0.0, min_count=300.0)
    leaves = first_stats(tree, stats)
    assert leaves.gamma.min() >= 300 and leaves.gamma.sum() == stats.count.sum()
    np.testing.assert_allclose(leaves.moments.sum(axis=0), stats.moments.sum(axis=0))


def test_shards_of_statistics_add_up() -> None:
    stats = context_stats()
    parts = [TreeStats(stats.keys[s], stats.count[s], stats.moments[s]) for s in (slice(0, 100), slice(60, None))]
    merged = merge_stats([*parts, None])
    twice = np.isin(np.arange(len(stats.keys)), np.arange(60, 100))
    order = np.lexsort(stats.keys.T[::-1])
    np.testing.assert_array_equal(merged.keys, stats.keys[order])
    np.testing.assert_allclose(merged.count, np.where(twice, 80.0, 40.0)[order])
    with pytest.raises(KdError, match="no statistics"):
        merge_stats([])


def test_questions_are_the_clusters_on_the_way_up() -> None:
    count = np.full(7, 100.0)
    mean = np.array([0, 0, 0.1, 5, 5.1, 9, 9.3])[:, None]
    moments = np.concatenate([(mean**2 + 1) * 100, mean * 100], axis=1)
    sets = cluster_phones(count, moments, [1, 2, 3, 4, 5, 6])
    assert sets[:6] == [(1,), (2,), (3,), (4,), (5,), (6,)]
    assert set(sets[6:9]) == {(1, 2), (3, 4), (5, 6)} and sets[9] == (3, 4, 5, 6)
    table = question_table([*sets, (1, 2)], 7, sil=1)
    assert table.shape == (10, 7)
    np.testing.assert_array_equal(table[:, 0], table[:, 1])


def test_likelihood_of_a_cluster_is_that_of_its_frames() -> None:
    x = np.random.default_rng(1).standard_normal((50, 3)) * [1, 2, 3] + [0, 1, 2]
    var = x.var(axis=0)
    direct = (-0.5 * (np.log(2 * np.pi * var) + (x - x.mean(axis=0)) ** 2 / var)).sum()
    found = log_likelihood(np.array(50.0), np.concatenate([(x**2).sum(0), x.sum(0)]))
    assert float(found) == pytest.approx(direct)
    assert float(log_likelihood(np.array(0.0), np.zeros(6))) == 0.0


def test_monophone_tree() -> None:
    tree = Tree.monophone({1: 3, 2: 3, 3: 1})
    assert tree.num_pdfs == 7
    assert tree.pdf_map[0, 2, 3].tolist() == [3, 4, 5] and tree.pdf_map[2, 3, 1].tolist() == [6, -1, -1]
    assert tree.pdf_phone.tolist() == [1, 1, 1, 2, 2, 2, 3] and tree.pdf_state.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert tree.num_states.tolist() == [0, 3, 3, 1]
    assert (tree.pdf_map[:, 0] == -1).all()


def test_tree_file_round_trip_and_damage(tmp_path: Path) -> None:
    tree = grow()
    tree.save(tmp_path)
    again = Tree.load(tmp_path)
    np.testing.assert_array_equal(again.pdf_map, tree.pdf_map)
    assert again.digest == tree.digest != Tree.monophone({1: 3}).digest
    path = tmp_path / "tree.safetensors"
    table = load_tensors(path)["pdf_map"].copy()
    table[:, A, :, 0] = table[0, A, 0, 0]
    table[1, A, 1, 0] = table.max() + 1
    save_tensors(path, {"pdf_map": table}, {"digest": tree.digest})
    with pytest.raises(KdError, match="tree"):
        Tree.load(tmp_path)


def test_tables_that_are_no_tree() -> None:
    with pytest.raises(KdError, match="shape"):
        Tree(np.zeros((2, 3, 2, 1)))
    shared = Tree.monophone({1: 1, 2: 1}).pdf_map.copy()
    shared[:, 2] = shared[:, 1]
    with pytest.raises(KdError, match=r"share|belongs"):
        Tree(shared)
    gap = Tree.monophone({1: 1, 2: 1}).pdf_map.copy()
    gap[:, 2] = 5
    with pytest.raises(KdError, match="never used"):
        Tree(gap)


NAMES = ["<eps>", "SIL", "SPN", "A", "B", "C", "D"]


def test_nodes_tell_how_every_context_comes_to_its_pdf() -> None:
    sizes = {p: 1 for p in (SIL, SPN, A, B, C, D)}
    tree, _, nodes = build_tree(context_stats(), sizes, SIL, {SIL, SPN}, leaves=30, min_count=10.0, min_gain=0.0)
    below = {n.parent: i for i, n in enumerate(nodes) if n.parent}
    roots = {n.phone: i for i, n in enumerate(nodes) if n.parent is None}
    assert sum(n.pdf >= 0 for n in nodes) == tree.num_pdfs
    for left in sizes:
        for centre in sizes:
            for right in sizes:
                at = roots[centre]
                while nodes[at].pdf < 0:
                    at = below[at, (left, right)[nodes[at].side] in nodes[at].question]
                assert nodes[at].pdf == tree.pdf_map[left, centre, right, 0]
    inner = [n for n in nodes if n.side >= 0]
    assert all(n.gain > 0 for n in inner) and inner[0].phone == A and set(inner[0].question) in ({B, C}, {SIL, SPN, A, D})
    for (parent, _), i in below.items():
        assert nodes[i].frames < nodes[parent].frames


def test_tree_is_printed_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from xml.etree import ElementTree

    sizes = {p: 1 for p in (SIL, SPN, A, B, C, D)}
    _, _, nodes = build_tree(context_stats(), sizes, SIL, {SIL, SPN}, leaves=100, min_count=50.0, min_gain=200.0)
    save_nodes(tmp_path, nodes, NAMES, NAMES)
    (tmp_path / "a.svg").write_text("a drawing of the user's")
    tree_show.main([str(tmp_path), "--phone", "A", "--svg", str(tmp_path / "a.svg")])
    assert (tmp_path / "a.svg.backup.1").read_text() == "a drawing of the user's"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("A state 0: left one of ") and lines[1].startswith("  yes: pdf ")
    texts = ElementTree.parse(tmp_path / "a.svg").getroot().findall("{http://www.w3.org/2000/svg}text")
    assert len(texts) == 3
    tree_show.main([str(tmp_path)])
    assert len(capsys.readouterr().out.splitlines()) == len(nodes)
    with pytest.raises(UsageError, match="known are SIL SPN A B C D"):
        tree_show.main([str(tmp_path), "--phone", "Q"])
    (tmp_path / "splits.jsonl").write_text('{"node": 0}\n')
    with pytest.raises(KdError, match=r"splits\.jsonl"):
        tree_show.main([str(tmp_path)])
    with pytest.raises(KdError, match="triphone"):
        tree_show.main([str(tmp_path / "none")])
