"""A decoding graph exported to k2: a search with k2 gives the toolkit's result."""

from __future__ import annotations

from pathlib import Path

import k2
import numpy as np
import pytest
import torch
from test_graph_search import SILENT, best, random_graph, random_scores

from kdtool.core.errors import UsageError
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.engine import K2, Native
from kdtool.graph.export import main
from kdtool.graph.lattice import best_paths, scale_weights
from kdtool.graph.search import Beams


def words_of(fsa: k2.Fsa) -> list[int]:
    return [w for w in fsa.aux_labels.values.tolist() if w > 0]


def with_sequences(graph: DecodingGraph) -> DecodingGraph:
    """Some arcs say two words."""
    graph.sequence_offsets, graph.sequence_words = np.array([0, 2], np.int32), np.array([2, 3], np.int32)
    graph.aux = np.where((graph.aux == 1) & (graph.label > 0), len(graph.words), graph.aux).astype(np.int32)
    return graph


def test_k2_users_find_the_same_words_and_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = with_sequences(random_graph(1, 60, 4, 30))
    (tmp_path / "graph").mkdir()
    graph.save(tmp_path / "graph")
    main(["export", str(tmp_path / "graph"), str(tmp_path / "graph.pt")])
    assert f"{graph.num_states} states, {graph.num_arcs} arcs" in capsys.readouterr().out
    fsa = k2.Fsa.from_dict(torch.load(tmp_path / "graph.pt"))
    for seed in range(3):
        scores = random_scores(seed, 40, 30)
        columns = torch.from_numpy(np.pad(scores, ((0, 0), (1, 0)), constant_values=-1e4))[None]
        dense = k2.DenseFsaVec(columns, torch.tensor([[0, 0, 40]], dtype=torch.int32))
        lattice = k2.intersect_dense_pruned(k2.create_fsa_vec([fsa]), dense, 40.0, 10.0, 0, 10000)
        path = k2.shortest_path(lattice, use_double_scores=True)
        wanted = best(graph, scores, Beams(40.0, 10.0, 10_000, 0))
        assert wanted is not None and words_of(path) == list(wanted.words)
        assert float(path.scores.double().sum()) == pytest.approx(wanted.parts[:3].sum(), abs=1e-3)
    assert torch.equal(fsa.lm_scores, fsa.scores)


def test_what_a_user_has_there_is_kept(tmp_path: Path) -> None:
    graph = random_graph(0, 10, 2, 5)
    (tmp_path / "graph").mkdir()
    graph.save(tmp_path / "graph")
    (tmp_path / "mine.pt").write_text("precious")
    main(["export", str(tmp_path / "graph"), str(tmp_path / "mine.pt")])
    assert (tmp_path / "mine.pt.backup.1").read_text() == "precious"
    with pytest.raises(UsageError, match="known is 'export' with --format k2"):
        main(["export", "--format", "openfst", str(tmp_path / "graph"), str(tmp_path / "x")])
    assert graph.to_k2().shape[0] == graph.num_states and not SILENT.any()


@pytest.mark.parametrize("engine", [K2, Native])
def test_lattices_of_both_engines_become_k2s(engine: type[K2 | Native]) -> None:
    """The best path has the toolkit's words, total and graph score, at the search's scales and, as k2's scripts do it, at others."""
    graph, prior = with_sequences(random_graph(2, 60, 4, 30)), random_scores(99, 1, 30, spread=1.0)[0]
    search = engine().search(graph, Beams(40.0, 10.0, 10_000, 0))
    for seed in range(3):
        scores = random_scores(seed, 40, 30)
        lattice = search.lattices([scores], prior, prior_scale=0.5, lm_scale=3.0, silent=SILENT)[0]
        assert lattice is not None
        for more in (1.0, 1.5):
            wanted = best_paths(lattice, scale_weights(0.5, 3.0 * more)[None])[0]
            fsa = lattice.to_k2(0.5, 3.0)
            fsa.scores = fsa.scores - fsa.lm_scores + more * fsa.lm_scores
            path = k2.shortest_path(k2.create_fsa_vec([fsa]), use_double_scores=True)
            assert words_of(path) == list(wanted.words)
            assert 3 * float(path.scores.double().sum()) == pytest.approx(wanted.parts @ scale_weights(0.5, 3.0 * more), abs=1e-3)
            assert float(path.lm_scores.double().sum()) == pytest.approx(wanted.parts[2], abs=1e-3)
            assert len(path.labels) == 41 and path.labels.tolist()[-1] == -1
