"""The search in C++ against kaldi-decoder's FasterDecoder, k2's exact lattice and brute force; its compiler and its inputs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from kdtool.core import native
from kdtool.core.errors import KdError
from kdtool.core.native import NativeSearch
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.fst import FstArrays, to_kaldifst
from kdtool.graph.lattice import Path as LatticePath
from kdtool.graph.lattice import best_paths, scale_weights
from kdtool.graph.search import Beams, Searcher

WORDS = ["<eps>", *"ABCDEFG"]
SILENT = np.zeros(len(WORDS), dtype=bool)
PLAIN = np.array([scale_weights(0.0, 1.0)])


def random_graph(seed: int, states: int, degree: int, pdfs: int) -> DecodingGraph:
    """Arcs between random states, self-loops and parallel arcs among them; every fifth state is final."""
    rng = np.random.default_rng(seed)
    src = np.concatenate([np.repeat(np.arange(states), degree), np.arange(0, states, 5)])
    inner = states * degree
    dst = np.full(len(src), states)
    label = np.full(len(src), -1)
    dst[:inner], label[:inner] = rng.integers(0, states, inner), rng.integers(1, pdfs + 1, inner)
    order = np.lexsort((dst, label.astype(np.uint32), src))
    aux = np.where(label > 0, rng.integers(0, len(WORDS), len(src)) * (rng.random(len(src)) < 0.5), 0)
    score = -4 * rng.random(len(src))
    arrays = [a[order].astype(t) for a, t in ((src, "i4"), (dst, "i4"), (label, "i4"), (aux, "i4"), (score, "f4"))]
    graph = DecodingGraph(*arrays, np.zeros(1, np.int32), np.zeros(0, np.int32), pdfs, WORDS)
    graph.check("random graph")
    return graph


def random_scores(seed: int, frames: int, pdfs: int, spread: float = 3.0) -> np.ndarray:
    return (spread * np.random.default_rng(seed).standard_normal((frames, pdfs))).astype(np.float32)


def best(graph: DecodingGraph, scores: np.ndarray, beams: Beams) -> LatticePath | None:
    lattice = Searcher(graph, beams).lattices([scores], None, prior_scale=0.0, lm_scale=1.0, silent=SILENT)[0]
    return None if lattice is None else best_paths(lattice, PLAIN)[0]


def fasterdecoder(graph: FstArrays, scores: np.ndarray, beams: Beams) -> tuple[tuple[int, ...], float]:
    """On a graph whose states have their cheapest arcs first, as the search goes through them."""
    import kaldi_decoder
    import kaldifst

    options = kaldi_decoder.FasterDecoderOptions(beam=beams.search, max_active=beams.max_active, min_active=beams.min_active)
    fst = to_kaldifst(graph.select(np.lexsort((graph.weight, graph.src))))
    decoder = kaldi_decoder.FasterDecoder(fst, options)
    decoder.decode(kaldi_decoder.DecodableCtc(scores))
    reached, linear = decoder.get_best_path()
    assert reached
    _, _, words, weight = kaldifst.get_linear_symbol_sequence(linear)
    return tuple(w for w in words if w), -(weight.value1 + weight.value2)


@pytest.mark.parametrize(("beam", "most", "least"), [
    (6.0, 10_000, 0), (6.0, 10_000, 50), (30.0, 10_000, 20), (30.0, 320, 20), (12.0, 250, 5), (4.0, 200, 150),
])  # fmt: skip
def test_prunes_as_fasterdecoder_does(beam: float, most: int, least: int) -> None:
    beams = Beams(beam, 1.0, most, least)
    for seed in range(4):
        graph, scores = random_graph(seed, 400, 5, 60), random_scores(seed, 80, 60)
        path, (words, score) = best(graph, scores, beams), fasterdecoder(graph.as_fst(), scores, beams)
        assert path is not None and path.words == words
        assert path.parts[:3].sum() == pytest.approx(score, abs=1e-3)


def token_passing(graph: DecodingGraph, scores: np.ndarray, beams: Beams) -> float:
    """FasterDecoder's pruning in float64, tokens in the order in which they are made and each one's cheapest arcs first: score of the
    best path to the end."""
    order = np.lexsort((-graph.score, graph.src))
    leaving = [order[(graph.src[order] == s) & (graph.label[order] > 0)].tolist() for s in range(graph.num_states)]
    cost = {0: 0.0}
    for row in scores.astype(np.float64):
        ranked = sorted(cost.values())
        cutoff, beam = ranked[0] + beams.search, beams.search
        most = ranked[beams.max_active] if len(ranked) > beams.max_active else np.inf
        least = ranked[beams.min_active] if len(ranked) > beams.min_active else np.inf
        if most < cutoff or least > cutoff:
            cutoff = most if most < cutoff else least
            beam = cutoff - ranked[0] + 0.5
        limit, new = np.inf, {}
        for tighten, state in [(True, min(cost, key=cost.__getitem__)), *((False, s) for s in cost if cost[s] < cutoff)]:
            for a in leaving[state]:
                total = cost[state] - float(graph.score[a]) - row[graph.label[a] - 1]
                if not tighten and total < limit:
                    new[int(graph.dst[a])] = min(total, new.get(int(graph.dst[a]), np.inf))
                limit = min(limit, total + beam)
        cost = new
    return max(float(graph.score[a]) - cost[s] for a, s in enumerate(graph.src.tolist()) if graph.label[a] == -1 and s in cost)


@pytest.mark.parametrize(("beam", "most", "least"), [(30.0, 100, 20), (30.0, 30, 5), (8.0, 60, 40), (12.0, 300, 1)])
def test_limits_that_lose_the_best_path_lose_it_as_token_passing_does(beam: float, most: int, least: int) -> None:
    """FasterDecoder itself goes through tokens in its hash table's order, on which it depends what such limits lose."""
    for seed in range(2):
        graph, scores = random_graph(seed, 400, 5, 60), random_scores(seed, 40, 60)
        path = best(graph, scores, Beams(beam, 1.0, most, least))
        assert path is not None
        assert path.parts[:3].sum() == pytest.approx(token_passing(graph, scores, Beams(beam, 1.0, most, least)), abs=1e-3)


def test_long_utterances_do_not_drift_and_are_pruned_on_the_way() -> None:
    graph, scores = random_graph(7, 20, 3, 40), random_scores(7, 3500, 40) - np.float32(300.0)
    beams = Beams(14.0, 3.0, 2000, 20)
    path = best(graph, scores, beams)
    assert path is not None and path.parts[:3].sum() == pytest.approx(token_passing(graph, scores, beams), abs=1e-3)


@pytest.mark.parametrize(("frames", "beam"), [(1, 8.0), (6, 8.0), (33, 5.0), (97, 4.0), (97, 1.0)])
def test_wide_beams_give_the_exact_lattice_of_k2(frames: int, beam: float) -> None:
    """Same arcs of the graph on the same frames; those at the very edge of the beam may fall either way."""
    from kdtool.graph import k2api

    graph, scores = random_graph(frames, 60, 3, 20), random_scores(frames, frames, 20)
    fsa = k2api.make_fsa(graph.src, graph.dst, graph.label, graph.score, {"arc": np.arange(graph.num_arcs)})
    dense = k2api.make_dense([np.concatenate([np.zeros((frames, 1), np.float32), scores], axis=1)])
    vec = k2api.make_fsa_vec([fsa])

    def exact(width: float) -> set[tuple[int, int]]:
        lattice = k2api.intersect_dense(vec, dense, output_beam=width, frame_name="frame")
        return set(zip(lattice.frame.tolist(), lattice.arc.tolist(), strict=True))

    search = NativeSearch(graph.src, graph.dst, graph.label, graph.score, num_pdfs=20)
    found = search.lattice(scores, search_beam=1000.0, output_beam=beam, max_active=10_000, min_active=0)
    assert found is not None
    frame, src, dst, arc = found
    ours = set(zip(frame.tolist(), arc.tolist(), strict=True))
    assert len(ours) == len(arc)
    assert exact(beam + 0.01) >= ours >= (exact(beam - 0.01) if beam > 1.0 else set())
    assert np.all(np.diff(frame) >= 0) and frame[-1] == frames and np.all(src < dst)
    assert set(src) | {dst.max()} == set(range(dst.max() + 1)) == set(dst) | {0}
    # The same state of the graph on the same frame is the same node.
    ends = {(int(f) + 1, int(graph.dst[a])): int(d) for f, a, d in zip(frame, arc, dst, strict=True)}
    starts = {(int(f), int(graph.src[a])): int(s) for f, a, s in zip(frame, arc, src, strict=True)}
    assert all(ends.get(key, 0) == node for key, node in starts.items()) and len(set(ends.values())) == len(ends)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_brute_force(frames: int) -> None:
    graph, scores = random_graph(3, 6, 2, 4), random_scores(3, frames, 4)
    scores[frames // 2, 1] = -np.inf
    wanted: list[float] = []
    inner, final = np.flatnonzero(graph.label > 0), np.flatnonzero(graph.label < 0)
    for path in itertools.product(inner, repeat=frames):
        if graph.src[path[0]] == 0 and all(graph.dst[a] == graph.src[b] for a, b in itertools.pairwise(path)):
            total = sum(float(graph.score[a]) + float(scores[t, graph.label[a] - 1]) for t, a in enumerate(path))
            wanted += [total + float(graph.score[e]) for e in final if graph.src[e] == graph.dst[path[-1]]]
    path = best(graph, scores, Beams(1000.0, 1.0, 1000, 0))
    top = max(wanted, default=-np.inf)
    assert (path is None) == (top == -np.inf)
    if path is not None:
        assert path.parts[:3].sum() == pytest.approx(top, abs=1e-4)


def chain(labels: list[int], pdfs: int) -> DecodingGraph:
    """One path, a word on its first arc."""
    n = len(labels)
    numbers = [np.arange(n + 1), np.arange(1, n + 2), np.array([*labels, -1]), np.arange(n + 1) == 0]
    return DecodingGraph(*(a.astype(np.int32) for a in numbers), np.zeros(n + 1, np.float32), np.zeros(1, np.int32),
                         np.zeros(0, np.int32), pdfs, WORDS)  # fmt: skip


def test_no_path_to_the_end_has_no_lattice() -> None:
    scores = np.zeros((3, 2), np.float32)
    assert best(chain([1, 2, 1], 2), scores, Beams()) is not None
    assert best(chain([1, 2], 2), scores, Beams()) is None  # too long: all tokens die
    assert best(chain([1, 2, 1, 1], 2), scores, Beams()) is None  # too short: no token is in a final state
    scores[1, 1] = -np.inf
    assert best(chain([1, 2, 1], 2), scores, Beams()) is None
    assert best(chain([1, 2, 1], 2), np.full((3, 2), -np.inf, np.float32), Beams()) is None


def test_a_wider_beam_is_tried_where_the_first_finds_no_end() -> None:
    # Label 1 is better on all frames but leads nowhere; label 2 is 10 nats per frame worse and final.
    columns = [[0, 0, 1, 2, 2], [1, 2, 1, 2, 3], [1, 2, 1, 2, -1], [0, 3, 0, 0, 0]]
    graph = DecodingGraph(*(np.array(c, np.int32) for c in columns), np.zeros(5, np.float32), np.zeros(1, np.int32),
                          np.zeros(0, np.int32), 2, WORDS)  # fmt: skip
    scores = np.tile(np.array([0.0, -10.0], np.float32), (3, 1))
    assert best(graph, scores, Beams(7.0, 1.0, 100, 0)) is None  # 30 nats behind, 28 at most are tried
    path = best(graph, scores, Beams(8.0, 1.0, 100, 0))
    assert path is not None and path.words == (3,) and path.parts[0] == -30.0


def test_ties_are_all_kept_and_fall_the_same_way_each_time() -> None:
    graph, scores = random_graph(1, 20, 3, 5), np.zeros((12, 5), np.float32)
    graph.score[:] = -1.0
    paths = [best(graph, scores, Beams(5.0, 0.0, 1000, 0)) for _ in range(3)]
    assert paths[0] is not None and paths[0].parts[:3].sum() == -13.0
    assert all(p is not None and p.words == paths[0].words for p in paths)
    search = NativeSearch(graph.src, graph.dst, graph.label, graph.score, num_pdfs=5)
    tied, wide = (search.lattice(scores, search_beam=5.0, output_beam=b, max_active=1000, min_active=0) for b in (0.0, 5.0))
    assert tied is not None and wide is not None
    np.testing.assert_array_equal(tied, wide)


def test_one_search_serves_many_utterances() -> None:
    graph = random_graph(5, 200, 4, 30)
    searcher = Searcher(graph, Beams(9.0, 2.0, 500, 10))
    for seed, frames in enumerate([40, 1, 70, 40]):
        scores = random_scores(seed % 3, frames, 30)
        lattice = searcher.lattices([scores], None, prior_scale=0.0, lm_scale=1.0, silent=SILENT)[0]
        alone = best(graph, scores, searcher.beams)
        assert (lattice is None) == (alone is None)
        if lattice is not None and alone is not None:
            assert best_paths(lattice, PLAIN)[0].words == alone.words


def test_other_types_and_layouts_are_converted_above_and_refused_below() -> None:
    graph, scores = random_graph(2, 50, 3, 10), random_scores(2, 20, 10)
    wide = Beams(20.0, 1.0, 1000, 0)
    wanted = best(graph, scores, wide)
    for other in (scores.astype(np.float64), np.asfortranarray(scores), np.repeat(scores, 2, axis=1)[:, ::2]):
        found = best(graph, other, wide)
        assert wanted is not None and found is not None and found.words == wanted.words
    search = NativeSearch(graph.src, graph.dst, graph.label, graph.score, num_pdfs=10)
    limits = {"search_beam": 9.0, "output_beam": 1.0, "max_active": 9, "min_active": 0}
    for wrong in (scores.astype(np.float64), np.asfortranarray(scores), scores[:, :9].copy(), scores[0]):
        with pytest.raises(KdError, match="contiguous float32"):
            search.lattice(wrong, **limits)
    for name, value in (("search_beam", 0.0), ("output_beam", -1.0), ("max_active", 0), ("search_beam", np.nan)):
        with pytest.raises(KdError, match="finds nothing"):
            search.lattice(scores, **(limits | {name: value}))
    for bad in (np.nan, np.inf):
        spoilt = scores.copy()
        spoilt[4, 7] = bad
        with pytest.raises(KdError, match="frame 4 of the scores"):
            search.lattice(spoilt, **limits)


def test_arrays_that_are_no_graph_are_refused() -> None:
    good = [np.array([0, 1]), np.array([1, 2]), np.array([1, -1]), np.zeros(2)]
    NativeSearch(*good, num_pdfs=1)
    for which, value in ((0, [1, 0]), (0, [-1, 1]), (1, [-1, 2]), (2, [2, -1]), (2, [0, -1]), (2, [-2, -1]), (3, [0.0])):
        arrays = list(good)
        arrays[which] = np.array(value)
        with pytest.raises(KdError, match="graph"):
            NativeSearch(*arrays, num_pdfs=1)


def test_compiled_once_and_the_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path / "native")
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(KdError, match=r"(?s)/nowhere/g\+\+.*setup_env.sh"):
        native.library()
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(KdError, match="name a compiler"):
        native.library()
    monkeypatch.delenv("CXX")
    made = native.library()
    assert [p for p in (tmp_path / "native").iterdir()] == [made]
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert native.library() == made  # needs no compiler any more
    (tmp_path / "file").touch()
    monkeypatch.setattr(native, "FOLDER", tmp_path / "file" / "native")
    with pytest.raises(KdError, match="may be written"):
        native.library()
