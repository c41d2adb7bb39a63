"""The exact Viterbi in C++ against k2's exact intersection and a plain float64 reference; ties, limits, long files, bad input."""

from __future__ import annotations

import dataclasses
import itertools

import graph_samples as sample
import numpy as np
import pytest
from k2_reference import k2_paths
from test_ali_graph import all_paths, builder, full_context_tree
from test_lang_probs import varied

from kdtool.core.errors import KdError
from kdtool.graph.training import GraphBuilder, TrainingGraph, Words
from kdtool.graph.viterbi import viterbi

Path = tuple[np.ndarray, float]


def reference(graph: TrainingGraph, scores: np.ndarray) -> Path | None:
    """Float64 sums over all states on all frames, arcs one after the other; the smallest source of equally good ones."""
    weight = np.zeros(len(graph.src)) if graph.score is None else graph.score.astype(np.float64)
    own = scores[:, np.searchsorted(np.unique(graph.pdf), graph.pdf)].astype(np.float64)
    end, arcs = graph.num_hmm_states + 1, list(zip(graph.src.tolist(), graph.dst.tolist(), weight.tolist(), strict=True))
    sums, back = np.full(end + 1, -np.inf), []
    sums[0] = 0.0
    for t in range(len(scores) + 1):
        new, origin = np.full(end + 1, -np.inf), np.zeros(end + 1, int)
        for s, d, w in arcs:
            if (d == end) == (t == len(scores)) and sums[s] + w > new[d]:
                new[d], origin[d] = sums[s] + w, s
        if t < len(scores):
            new[1:end] += own[t]
        sums = new
        back.append(origin)
    if sums[end] == -np.inf:
        return None
    path = [end]
    for origin in reversed(back):
        path.append(int(origin[path[-1]]))
    return np.array(path[-2:0:-1], np.int32) - 1, float(sums[end])


def k2_best(graph: TrainingGraph, scores: np.ndarray) -> Path | None:
    columns = np.concatenate([np.zeros((len(scores), 1), np.float32), scores], axis=1)
    found = k2_paths([graph.to_fsa()], [columns], "hmm")[0]
    return None if found is None else (found.values, found.score)


def score_of(graph: TrainingGraph, path: np.ndarray, scores: np.ndarray) -> float:
    """Float64 score of a path that must be one of the graph's."""
    weight = np.zeros(len(graph.src)) if graph.score is None else graph.score.astype(np.float64)
    arcs = dict(zip(zip(graph.src.tolist(), graph.dst.tolist(), strict=True), weight.tolist(), strict=True))
    states = [0, *(path + 1).tolist(), graph.num_hmm_states + 1]
    own = scores[np.arange(len(path)), graph.columns()[path]].sum(dtype=np.float64)
    return float(own) + sum(arcs[pair] for pair in itertools.pairwise(states))


def random_scores(graph: TrainingGraph, frames: int, seed: int) -> np.ndarray:
    return (4 * np.random.default_rng(seed).standard_normal((frames, len(graph.used_pdfs())))).astype(np.float32)


def sample_graph(seed: int, words: list[str], probs: bool = True) -> TrainingGraph:
    """A graph with variants, homophones, silences and contexts; with probabilities of words and silences, or without."""
    prons = {sample.WORDS[w]: ps for w, ps in sample.PRONS.items()}
    return GraphBuilder(Words(prons, sample.SIL, "D", varied(seed) if probs else None), sample.tree(3, seed)).build(words)


def tangled_graph(seed: int, states: int) -> TrainingGraph:
    """Arcs in all directions, states without self-loop, states that lead nowhere or cannot be reached; pdfs shared."""
    rng = np.random.default_rng(seed)
    pairs = {(0, 1), (states, states + 1)} | {(s, s + 1) for s in range(1, states) if rng.random() < 0.9}
    ends = rng.integers(0, states + 1, (3 * states, 2)).tolist()
    pairs |= {(s, d + 1) for s, d in ends}
    src, dst = np.array(sorted(p for p in pairs if p != (0, states + 1))).T
    pdf = rng.integers(0, 9, states).astype(np.int32)
    zeros = np.zeros(states, np.int32)
    score = (3 * rng.standard_normal(len(src))).astype(np.float32)
    return TrainingGraph(pdf, zeros, zeros, zeros, zeros, src.astype(np.int32), dst.astype(np.int32), 1, score)


def same(found: Path | None, wanted: Path | None) -> bool:
    """Same path and score up to rounding; both None."""
    if found is None or wanted is None:
        return found is wanted
    return found[0].dtype == np.int32 and bool((found[0] == wanted[0]).all()) and found[1] == pytest.approx(wanted[1], rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("probs", [False, True])
@pytest.mark.parametrize("words", [[], ["A"], ["A", "C"], ["D", "A", "B", "A"], ["A", "A", "B", "C", "D", "A", "C"]])
def test_training_graphs_as_k2_and_the_reference(words: list[str], probs: bool) -> None:
    for seed in range(4):
        graph = sample_graph(seed, words, probs)
        for frames in (graph.min_frames - 1, graph.min_frames, graph.min_frames + 1, 2 * graph.min_frames + 7, 90):
            scores = random_scores(graph, frames, seed)
            found = viterbi(graph, scores)
            assert same(found, reference(graph, scores))
            assert (found is None) == (frames < graph.min_frames)
            if found is not None:
                wanted = k2_best(graph, scores)
                assert wanted is not None and wanted[0].tolist() == found[0].tolist()
                assert wanted[1] == pytest.approx(found[1], abs=1e-3)
                assert score_of(graph, found[0], scores) == pytest.approx(found[1], abs=1e-9)


def test_nothing_depends_on_the_order_of_states() -> None:
    """Lengths around those at which blocks of the second pass end."""
    lost = 0
    for seed, states in itertools.product(range(20), (1, 2, 9, 30)):
        graph = tangled_graph(seed, states)
        for frames in (1, 2, 3, 4, 8, 9, 12, 15, 16, 42, 48, 49, 50):
            scores = random_scores(graph, frames, seed)
            found = viterbi(graph, scores)
            assert same(found, reference(graph, scores))
            lost += found is None
    assert lost, "some have no path of that length"


def test_nothing_outside_the_window_is_ever_used() -> None:
    """At the fewest frames, and a few more, only a narrow band of states is left; brute force over all paths knows no band."""
    graph = builder(full_context_tree()).build(["AB", "C"])
    paths = [np.array(p) for p in all_paths(graph)]
    for frames in range(graph.min_frames, graph.min_frames + 5):
        scores = random_scores(graph, frames, frames)
        totals = []
        for path in paths:
            for where in itertools.combinations_with_replacement(range(len(path)), frames - len(path)) if len(path) <= frames else ():
                lengths = np.bincount(where, minlength=len(path)) + 1
                totals.append(score_of(graph, np.repeat(path, lengths), scores))
        found = viterbi(graph, scores)
        assert found is not None and found[1] == pytest.approx(max(totals), abs=1e-9)


def test_ties_go_to_the_smallest_source() -> None:
    graph = sample_graph(0, ["A", "C", "B"], probs=False)
    for scores in (np.zeros((60, len(graph.used_pdfs())), np.float32), np.round(random_scores(graph, 60, 0) / 4)):
        found = viterbi(graph, scores)
        assert same(found, reference(graph, scores))
        assert found is not None and same(viterbi(graph, scores), found)


def test_long_files_lose_no_precision() -> None:
    """Quarters of nats far below 0 over ten minutes: exact in double, while float32 could not tell thousands of nats apart."""
    graph = builder(full_context_tree()).build(["AB", "C", "AA"] * 12)
    scores = np.round(4 * random_scores(graph, 60_000, 5)) / 4
    whole = viterbi(graph, scores)
    assert whole is not None and whole[1] == score_of(graph, whole[0], scores)
    far = viterbi(graph, scores - np.float32(1 << 20))
    assert far is not None and far[1] == whole[1] - len(scores) * float(1 << 20)
    np.testing.assert_array_equal(whole[0], far[0])
    assert len(np.unique(whole[0])) >= graph.min_frames


def test_a_forbidden_pdf_is_gone_around_or_leaves_no_path() -> None:
    graph = sample_graph(1, ["A", "B"])
    scores = random_scores(graph, 40, 1)
    before = viterbi(graph, scores)
    assert before is not None
    column = graph.columns()[before[0][20]]
    scores[20, column] = -np.inf
    found = viterbi(graph, scores)
    assert found is not None and same(found, reference(graph, scores)) and graph.columns()[found[0][20]] != column
    scores[20] = -np.inf
    assert viterbi(graph, scores) is None


def test_values_that_are_no_scores_are_errors_that_name_the_frame() -> None:
    graph = sample_graph(1, ["A", "B"])
    for bad, frame in itertools.product((np.nan, np.inf), (0, 17, 39)):
        scores = random_scores(graph, 40, 1)
        scores[frame, 2] = bad
        with pytest.raises(KdError, match=f"frame {frame} of the scores"):
            viterbi(graph, scores)


def test_scores_of_another_type_or_shape_are_refused_and_other_layouts_are_not() -> None:
    graph = sample_graph(2, ["A", "B"])
    scores = random_scores(graph, 30, 2)
    wanted = viterbi(graph, scores)
    for other in (np.asfortranarray(scores), np.repeat(scores, 2, axis=1)[:, ::2], np.repeat(scores, 2, axis=0)[::2]):
        assert same(viterbi(graph, other), wanted)
    assert viterbi(graph, scores[:0]) is None
    for wrong in (scores.astype(np.float64), scores[:, 1:], scores[0]):
        with pytest.raises(KdError, match="is needed"):
            viterbi(graph, wrong)


def test_arrays_that_are_no_graph_are_refused() -> None:
    graph = sample_graph(2, ["A"])
    scores, states = random_scores(graph, 30, 2), graph.num_hmm_states
    for name, place, value in (("src", 0, 1 << 20), ("src", 0, -1), ("src", -1, states + 1), ("dst", 3, 0), ("dst", 3, states + 2),
                               ("score", 1, np.nan), ("score", 1, np.inf)):  # fmt: skip
        values = getattr(graph, name).copy()
        values[place] = value
        with pytest.raises(KdError, match="graph: "):
            viterbi(dataclasses.replace(graph, **{name: values}), scores)
    with pytest.raises(KdError, match="as many of each"):
        viterbi(dataclasses.replace(graph, dst=graph.dst[:-1]), scores)
