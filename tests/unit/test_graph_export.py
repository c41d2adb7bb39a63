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
from kdtool.graph.export import main, to_k2
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
    assert to_k2(graph).shape[0] == graph.num_states and not SILENT.any()
