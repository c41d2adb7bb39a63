"""Decoding graphs of chain trees against brute force; the steps from an alignment to a decoded LF-MMI student."""

from __future__ import annotations

from pathlib import Path

import graph_samples as sample
import numpy as np
import pytest

from kdtool.core.errors import KdError
from kdtool.decode.graph_recogniser import check_graph, grid_of
from kdtool.formats.tree import CHAIN, Tree
from kdtool.graph.lattice import nbest, scale_weights
from kdtool.graph.search import Beams, Searcher
from kdtool.graph.training import GraphBuilder, Words


@pytest.mark.parametrize(("seed", "frames"), [(0, 4)])
def test_every_word_sequence_scores_as_by_brute_force(tmp_path: Path, seed: int, frames: int) -> None:
    model = sample.chain_tree(seed)
    graph, scores = sample.word_graph(tmp_path, model), sample.random_scores(model, frames, seed)
    expected = sample.brute_force(tmp_path, model, scores, lm_scale=1.0, max_words=3)
    weights = scale_weights(0.0, 1.0)
    beams = Beams(search=500.0, output=500.0, max_active=100_000)
    silent = np.zeros(len(sample.WORDS), dtype=bool)
    lattice = Searcher(graph, beams).lattices([scores], None, prior_scale=0.0, lm_scale=1.0, silent=silent)[0]
    assert lattice is not None
    found = {p.words: float(p.parts @ weights) for p in nbest(lattice, weights, count=1000, max_tokens=10**6)}
    for words, score in expected.items():
        assert found[words] == pytest.approx(score, abs=0.02), words
    assert {w for w in found if len(w) <= 3} == set(expected) and graph.meta["subsampling"] == 3


def test_loops_have_the_loops_pdf_and_all_other_arcs_a_first_one(tmp_path: Path) -> None:
    model = sample.chain_tree()
    graph = sample.word_graph(tmp_path, model)
    first, loops = (set((np.unique(model.pdf_map[..., s])[1:] + 1).tolist()) for s in (0, 1))
    pairs = {(int(a) + 1, int(b) + 1) for a, b in model.pdf_map.reshape(-1, 2)}
    again = (graph.src == graph.dst) & np.isin(graph.label, list(loops))
    assert set(graph.label[(graph.label > 0) & ~again].tolist()) <= first and not first & loops
    loop_of = dict(zip(graph.src[again].tolist(), graph.label[again].tolist(), strict=True))
    entered = [(int(d), int(n)) for d, n in zip(graph.dst[~again], graph.label[~again], strict=True) if n > 0]
    assert again.sum() == len(loop_of) == graph.num_states - 2 and all((label, loop_of[state]) in pairs for state, label in entered)


def test_a_chain_tree_has_no_hmms_to_align_with() -> None:
    with pytest.raises(KdError, match="a tree of topology chain has no HMMs to align with"):
        GraphBuilder(Words({"<UNK>": [(1,)]}, 1, "<UNK>"), sample.chain_tree())


def test_a_graph_of_other_outputs_than_the_models_is_refused(tmp_path: Path) -> None:
    class Hybrid:
        """A student of the chain tree's pdfs with one output per frame."""

        num_pdfs, tree_digest, subsampling = 30, "t", 1

    meta = {"num_pdfs": 30, "tree": "t", "subsampling": 3, "lang": "l"}
    with pytest.raises(KdError, match="has one output per 1 frames, "):
        check_graph({"model": tmp_path, "graph": tmp_path, "lang": tmp_path}, meta, Hybrid())


def test_scores_of_lfmmi_have_no_prior_to_scale() -> None:
    from kdtool.decode.config import Config

    grid = grid_of(Config(), "word", "mmi")
    assert {g["prior_scale"] for g in grid} == {0.0} and 1.0 in {g["lm_scale"] for g in grid}
    assert Tree(sample.chain_tree().pdf_map, None, CHAIN).num_pdfs == 2 + 4 * 5
