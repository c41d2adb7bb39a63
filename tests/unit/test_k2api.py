"""k2 behind its wrapper: against plain torch references, and each of its silent failures as an error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from k2_reference import k2_paths, k2_totals

from kdtool.core.errors import KdError
from kdtool.graph import k2api

Arcs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_arcs(rng: np.random.Generator, states: int = 7, columns: int = 6) -> Arcs:
    """A strongly looped graph: self-loops, forward arcs and some back; arc scores; a few final arcs."""
    rows = []
    for s in range(states):
        rows.append((s, s, rng.integers(1, columns)))
        rows.append((s, min(s + 1, states - 1), rng.integers(1, columns)))
        rows += [(s, d, rng.integers(1, columns)) for d in rng.integers(0, states, 2)]
        if s == states - 1 or (s > 1 and rng.random() < 0.4):
            rows.append((s, states, -1))
    src, dst, label = np.array(rows).T
    return src, dst, label, rng.standard_normal(len(rows)).astype(np.float32)


def reference(arcs: Arcs, scores: np.ndarray, *, log_semiring: bool) -> tuple[float, list[int]]:
    """Plain torch dynamic programming over arcs: total score, and the best path's arc indices."""
    src, dst, label, weight = (torch.from_numpy(np.asarray(x)) for x in arcs)
    final = int(dst.max())
    x = torch.from_numpy(scores).double()
    alpha = torch.full((final + 1,), -torch.inf, dtype=torch.float64)
    alpha[0] = 0.0
    back: list[dict[int, int]] = []
    for t in range(len(scores) + 1):
        ends = t == len(scores)
        allowed = (label == -1) if ends else (label > 0)
        value = alpha[src] + weight.double() + (0.0 if ends else x[t][label.clamp(min=0)])
        value[~allowed] = -torch.inf
        new = torch.full_like(alpha, -torch.inf)
        best: dict[int, int] = {}
        for d in range(final + 1):
            into = torch.nonzero((dst == d) & allowed)[:, 0]
            if len(into):
                best[d] = int(into[value[into].argmax()])
                new[d] = torch.logsumexp(value[into], 0) if log_semiring else value[into].max()
        back.append(best)
        alpha = new
    path, state = [], final
    for best in reversed(back):
        path.append(best[state])
        state = int(src[best[state]])
    return float(alpha[final]), path[::-1]


def fsa(arcs: Arcs) -> object:
    return k2api.make_fsa(*arcs, attrs={"arc": np.arange(len(arcs[0]))})


def batch(seed: int = 3) -> tuple[list[Arcs], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    arcs = [random_arcs(rng) for _ in range(6)]
    scores = [(5 * rng.standard_normal((t, 6))).astype(np.float32) for t in (9, 25, 14, 25, 8, 31)]
    return arcs, scores


def test_best_path_is_the_reference_path_whatever_the_order_of_lengths() -> None:
    arcs, scores = batch()
    for found, a, s in zip(k2_paths([fsa(a) for a in arcs], scores, "arc"), arcs, scores, strict=True):
        total, path = reference(a, s, log_semiring=False)
        assert found is not None
        assert found.values.tolist() == path[:-1]
        assert found.score == pytest.approx(total, abs=1e-3)


def test_forward_scores_are_the_reference() -> None:
    arcs, scores = batch(4)
    found = k2_totals([fsa(a) for a in arcs], scores, log_semiring=True)
    wanted = [reference(a, s, log_semiring=True)[0] for a, s in zip(arcs, scores, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_very_negative_scores_change_nothing_but_the_total() -> None:
    arcs, scores = batch(5)
    plain = k2_paths([fsa(a) for a in arcs], scores, "arc")
    low = k2_paths([fsa(a) for a in arcs], [s - np.float32(2e5) for s in scores], "arc")
    for a, b, s in zip(plain, low, scores, strict=True):
        assert a is not None and b is not None
        assert b.score == pytest.approx(a.score - 2e5 * len(s), abs=0.05 * len(s))
        assert len(b.values) == len(s)


def linear(labels: list[int]) -> object:
    n = len(labels)
    return k2api.make_fsa(np.arange(n + 1), np.arange(1, n + 2), np.array([*labels, -1]), attrs={"arc": np.arange(n + 1)})


def test_utterance_too_short_for_its_graph() -> None:
    scores = [np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)]
    graphs = [linear([1, 2, 3]), linear([1, 2, 3])]
    first, second = k2_paths(graphs, scores, "arc")
    assert first is not None and first.values.tolist() == [0, 1, 2]
    assert second is None
    assert k2_totals(graphs, scores, log_semiring=True)[1] == -np.inf


def test_labels_beyond_the_scores_and_epsilons_are_errors() -> None:
    with pytest.raises(KdError, match=r"label 4 .*columns 0 to 3"):
        k2_paths([linear([1, 4])], [np.zeros((2, 4), np.float32)], "arc")
    with pytest.raises(KdError, match="epsilon"):
        k2_paths([linear([1, 0])], [np.zeros((2, 4), np.float32)], "arc")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([np.zeros((2, 3), np.float32), np.zeros((3, 3), np.float32)], "longest first"),
        ([np.zeros((2, 3))], "float32"),
        ([np.full((2, 3), np.nan, np.float32)], "not finite"),
        ([np.full((2, 3), -np.inf, np.float32)], "not finite"),
        ([np.zeros((0, 3), np.float32)], "0 frames"),
        ([], "0 utterances"),
    ],
)
def test_dense_scores_that_k2_would_take_wrongly(scores: list[np.ndarray], message: str) -> None:
    with pytest.raises(KdError, match=message):
        k2api.make_dense(scores)


def test_dense_scores_need_not_be_contiguous() -> None:
    scores = np.asfortranarray(np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32))
    best = k2_paths([linear([1, 2, 3, 1, 2])], [scores], "arc")[0]
    assert best is not None
    assert best.score == pytest.approx(float(scores[np.arange(5), [1, 2, 3, 1, 2]].sum()), abs=1e-4)


@pytest.mark.parametrize(
    ("src", "dst", "label", "message"),
    [
        ([1, 0], [2, 1], [-1, 1], "sorted"),
        ([0, 1], [1, 2], [1, 2], "-1 belongs"),
        ([0, 0], [1, 1], [-1, 1], "-1 belongs"),
        ([0, 1, 2], [1, 0, 1], [1, 1, 1], "final state"),
        ([0], [1], [-2], "label -2"),
        ([], [], [], "0 sources"),
    ],
)
def test_graphs_that_k2_would_take_wrongly(src: list[int], dst: list[int], label: list[int], message: str) -> None:
    with pytest.raises(KdError, match=message):
        k2api.make_fsa(np.array(src, int), np.array(dst, int), np.array(label, int))


def test_graph_scores_and_attributes_are_checked() -> None:
    with pytest.raises(KdError, match="finite"):
        k2api.make_fsa(np.array([0]), np.array([1]), np.array([-1]), np.array([np.inf]))
    with pytest.raises(KdError, match="attribute x has 2 values for 1"):
        k2api.make_fsa(np.array([0]), np.array([1]), np.array([-1]), attrs={"x": np.zeros(2)})
