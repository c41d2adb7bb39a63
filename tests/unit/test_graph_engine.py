"""The two search engines against each other: state paths of training graphs, lattices of decoding graphs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from test_graph_search import PLAIN, SILENT, fasterdecoder, random_graph
from test_graph_search import random_scores as frame_scores
from test_graph_viterbi import random_scores, sample_graph

from kdtool.ali import align
from kdtool.core import main as step_command
from kdtool.core.errors import KdError, UsageError
from kdtool.decode.decode import Config
from kdtool.decode.graph_recogniser import GraphRecogniser
from kdtool.graph import engine as engines
from kdtool.graph import k2api, k2search
from kdtool.graph.engine import K2, Native, batches, choose_engine
from kdtool.graph.fst import FstArrays
from kdtool.graph.lattice import best_paths, scale_weights
from kdtool.graph.search import Beams
from kdtool.graph.training import TrainingGraph


@pytest.mark.parametrize("probs", [False, True])
def test_the_same_state_paths_in_any_batch(probs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [[], ["A"], ["D", "A", "B", "A"], ["A", "A", "B", "C", "D", "A", "C"], ["B"], ["A", "C"]]
    graphs = [sample_graph(seed, words, probs) for seed, words in enumerate(texts)]
    lengths = [g.min_frames - 1 + 7 * i for i, g in enumerate(graphs)]  # the first one is too short for its graph
    scores = [random_scores(g, n, i) for i, (g, n) in enumerate(zip(graphs, lengths, strict=True))]
    scores[3][5] = -np.inf  # no pdf may be on this frame
    wanted = Native().best_paths(graphs, scores)
    assert [one is None for one in wanted] == [True, False, False, True, False, False]
    for cells in (1, 5000, engines.BATCH_CELLS):
        monkeypatch.setattr(engines, "BATCH_CELLS", cells)
        found = K2().best_paths(graphs, scores)
        for one, other in zip(found, wanted, strict=True):
            assert (one is None) == (other is None)
            if one and other:
                assert one.states.tolist() == other.states.tolist() and one.states.dtype == np.int32
                assert one.score == pytest.approx(other.score, abs=1e-9)


def test_ties_go_the_same_way() -> None:
    """Scores of whole numbers, and none at all: many paths are equally good."""
    graphs = [sample_graph(0, words, False) for words in (["A", "C", "B"], ["D", "A", "A", "B"], ["C"])]
    for digits in (0.0, 1.0):
        scores = [np.round(digits * random_scores(g, 60 - i, i) / 4).astype(np.float32) for i, g in enumerate(graphs)]
        found, wanted = (engine.best_paths(graphs, scores) for engine in (K2(), Native()))
        for one, other in zip(found, wanted, strict=True):
            assert one and other and one.states.tolist() == other.states.tolist() and one.score == other.score


def test_a_forbidden_pdf_is_gone_around() -> None:
    graph = sample_graph(1, ["A", "B"], False)
    scores = random_scores(graph, 40, 1)
    scores[10, Native().best_paths([graph], [scores])[0].states.max() % scores.shape[1]] = -np.inf  # type: ignore[union-attr]
    one, other = (engine.best_paths([graph], [scores])[0] for engine in (K2(), Native()))
    assert one and other and one.states.tolist() == other.states.tolist()


def test_the_same_best_path_at_each_scale() -> None:
    """Beams that prune little: what is cut differs between the engines, what is best does not."""
    beams = Beams(40.0, 20.0, 10_000, 0)
    for seed in range(3):
        graph = random_graph(seed, 60, 4, 30)
        acoustic = [frame_scores(10 * seed + i, frames, 30) for i, frames in enumerate((40, 25, 33))]
        prior = frame_scores(99, 1, 30, spread=1.0)[0]
        scales = {"prior_scale": 0.5, "lm_scale": 3.0}
        found, wanted = (e.search(graph, beams).lattices(acoustic, prior, silent=SILENT, **scales) for e in (K2(), Native()))
        weights = np.array([scale_weights(0.5, 3.0), scale_weights(0.5, 3.5)])
        for one, other in zip(found, wanted, strict=True):
            assert one is not None and other is not None
            for a, b in zip(best_paths(one, weights), best_paths(other, weights), strict=True):
                assert a.words == b.words and np.allclose(a.parts, b.parts, atol=1e-3), seed


def test_batches_of_k2_hold_the_bound_on_arcs_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One utterance first, alone; then as many as its arcs per frame allow."""
    graph, acoustic = random_graph(0, 60, 4, 30), [frame_scores(i, frames, 30) for i, frames in enumerate((40, 25, 33, 12, 20))]
    sizes: list[int] = []
    make_dense = k2api.make_dense
    monkeypatch.setattr(k2api, "make_dense", lambda scores, device: sizes.append(len(scores)) or make_dense(scores, device))
    found = []
    for bound in (k2search.LATTICE_ARCS, 1):
        monkeypatch.setattr(k2search, "LATTICE_ARCS", bound)
        search = K2().search(graph, Beams(40.0, 20.0, 10_000, 0))
        found.append(search.lattices(acoustic, None, prior_scale=0.0, lm_scale=1.0, silent=SILENT))
    assert sizes == [1, 4] + [1] * 5
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("src", "dst", "words", "parts", "first", "pdf"))


@pytest.mark.parametrize("engine", [K2, Native])
def test_the_best_paths_are_fasterdecoders(engine: type[K2 | Native]) -> None:
    """In a decoding graph where the beam decides, and in training graphs."""
    for seed in range(3):
        graph, scores = random_graph(seed, 60, 4, 30), frame_scores(seed, 50, 30)
        beams = Beams(20.0, 1.0, 10_000, 0)
        lattice = engine().search(graph, beams).lattices([scores], None, prior_scale=0.0, lm_scale=1.0, silent=SILENT)[0]
        words, score = fasterdecoder(graph.as_fst(), scores, beams)
        assert lattice is not None
        path = best_paths(lattice, PLAIN)[0]
        assert path.words == words and path.parts[:3].sum() == pytest.approx(score, abs=1e-3)
        training = sample_graph(seed, ["D", "A", "B", "A"], True)
        scores = random_scores(training, 60, seed)
        found = engine().best_paths([training], [scores])[0]
        states, score = fasterdecoder(fst_of(training), scores, Beams(1e4, 1.0, 10_000, 0))
        assert found is not None and (found.states + 1).tolist() == list(states) and found.score == pytest.approx(score, abs=1e-3)


def fst_of(graph: TrainingGraph) -> FstArrays:
    """The graph as a transducer from columns to HMM states, 1 + h."""
    inner, score = graph.dst <= graph.num_hmm_states, np.zeros(len(graph.src)) if graph.score is None else graph.score
    final = {int(s): -float(w) for s, w in zip(graph.src[~inner], score[~inner], strict=True)}
    state = graph.dst[inner]
    return FstArrays.build(graph.src[inner], state, graph.columns()[state - 1] + 1, state, -score[inner], final)


def test_no_way_to_the_end_is_none_and_a_wider_beam_is_tried() -> None:
    graph = random_graph(0, 60, 4, 30)
    narrow = Beams(2.0, 1.0, 40, 0)
    for engine in (K2(), Native()):
        lattices = engine.search(graph, narrow).lattices([frame_scores(i, 30, 30) for i in range(4)], None, prior_scale=0.0, lm_scale=1.0,
                                                         silent=SILENT)  # fmt: skip
        assert any(one is not None for one in lattices)
        assert all(np.isfinite(best_paths(one, PLAIN)[0].parts).all() for one in lattices if one is not None)
    with pytest.raises(KdError, match="belong to different trees"):
        K2().search(graph, narrow).lattices([frame_scores(0, 30, 29)], None, prior_scale=0.0, lm_scale=1.0, silent=SILENT)


def test_batches_hold_everything_once_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BATCH_CELLS", 10)
    assert list(batches([4, 5, 20, 1, 3], [4, 5, 20, 1, 3])) == [[2], [1, 0], [4, 3]]
    assert list(batches([], [])) == []


def test_the_engine_is_chosen_by_name_and_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert [choose_engine(n).name for n in ("auto", "native", "k2")] == ["native", "native", "k2"]
    assert choose_engine("auto", "cuda:0").name == "k2"
    with pytest.raises(UsageError, match="--engine fst: known are auto, k2, native"):
        choose_engine("fst")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("k2", "auto"):
        assert choose_engine(name, "cuda:0").name == "native"
        assert "no k2 is installed for this Python; the native search serves" in capsys.readouterr().err


def test_records_name_the_engine_that_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without k2 native is used: two machines must not make different alignments under one name."""
    seen: list[str] = []
    monkeypatch.setattr(step_command, "run_step", lambda *_, options, **__: seen.append(options.engine))
    places = [str(tmp_path / name) for name in ("feats", "lang", "gmm", "out")]
    for installed in (object(), None):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=installed: found)
        for engine in ("auto", "k2", "native"):
            align.main([*places, "--engine", engine])
            seen.append(GraphRecogniser.resolved(Config(engine=engine)).engine)
    assert seen == ["native", "native", "k2", "k2", "native", "native"] + ["native"] * 6


def test_a_broken_k2_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "k2", None)
    k2api.require_k2.cache_clear()
    try:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        with pytest.raises(KdError, match="k2 cannot be loaded"):
            choose_engine("k2")
    finally:
        k2api.require_k2.cache_clear()
