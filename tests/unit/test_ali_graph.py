"""Training graphs against brute force, and paths turned into alignments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kdtool.ali.aligner import to_alignment
from kdtool.core.errors import KdError
from kdtool.formats.tree import Tree
from kdtool.gmm.flat_start import equal_path, shortest_states
from kdtool.gmm.shard import context_keys
from kdtool.graph.training import GraphBuilder, TrainingGraph, Words

SIL, SPN, A, B, C = 1, 2, 3, 4, 5
STATES = {SIL: 3, SPN: 1, A: 3, B: 2, C: 3}
PRONS = {"AB": [(A, B)], "C": [(C,), (A, C, A)], "AA": [(A, A), (B, A)], "<UNK>": [(SPN,)]}


def full_context_tree() -> Tree:
    """A separate pdf for every context, so that any wrong neighbour shows."""
    table = np.full((6, 6, 6, 3), -1, np.int32)
    number = itertools.count()
    for left, centre, right in itertools.product(range(1, 6), range(1, 6), range(1, 6)):
        for s in range(STATES[centre]):
            table[left, centre, right, s] = next(number)
    table[0], table[:, :, 0] = table[SIL], table[:, :, SIL]
    return Tree(table)


def builder(tree: Tree) -> GraphBuilder:
    return GraphBuilder(Words(PRONS, SIL, "<UNK>"), tree)


def all_paths(graph: TrainingGraph) -> list[tuple[int, ...]]:
    """HMM states of every path, self-loops taken once."""
    nexts: dict[int, list[int]] = {}
    for s, d in zip(graph.src.tolist(), graph.dst.tolist(), strict=True):
        if s != d:
            nexts.setdefault(s, []).append(d)
    final, found, open_paths = graph.num_hmm_states + 1, [], [(0,)]
    while open_paths:
        path = open_paths.pop()
        for d in nexts[path[-1]]:
            if d == final:
                found.append(tuple(x - 1 for x in path[1:]))
            else:
                open_paths.append((*path, d))
    return found


def spoken_ways(words: list[str], tree: Tree) -> set[tuple[tuple[int, int, int, int], ...]]:
    """Every way to say the words, as (phone, state, pdf, word) sequences, made without any graph."""
    gaps = len(words) + 1
    ways = set()
    for variants in itertools.product(*(PRONS[w] for w in words)):
        for silences in itertools.product((False, True), repeat=gaps):
            phones: list[tuple[int, int]] = [(SIL, -1)] if silences[0] else []
            for k, variant in enumerate(variants):
                phones += [(p, k) for p in variant]
                phones += [(SIL, -1)] if silences[k + 1] else []
            edged = [SIL, *(p for p, _ in phones), SIL]
            ways.add(tuple(
                (p, s, int(tree.pdf_map[edged[i], p, edged[i + 2], s]), word)
                for i, (p, word) in enumerate(phones)
                for s in range(STATES[p])
            ))  # fmt: skip
    return ways


@pytest.mark.parametrize("words", [["AB"], ["C", "AA"], ["AA", "<UNK>", "C"], ["AB", "AB"], ["C", "C", "C"]])
def test_graph_is_exactly_all_ways_to_say_it(words: list[str]) -> None:
    tree = full_context_tree()
    graph = builder(tree).build(words)
    found = [
        tuple((int(graph.phone[h]), int(graph.state[h]), int(graph.pdf[h]), int(graph.word[h])) for h in path) for path in all_paths(graph)
    ]
    assert len(found) == len(set(found))
    assert set(found) == spoken_ways(words, tree)
    assert graph.min_frames == min(len(w) for w in found) == len(shortest_states(graph))


def test_arcs_are_sorted_every_state_loops_and_labels_are_the_targets() -> None:
    graph = builder(full_context_tree()).build(["C", "AA"])
    assert (np.diff(graph.src) >= 0).all()
    loops = graph.src[graph.src == graph.dst]
    assert loops.tolist() == list(range(1, graph.num_hmm_states + 1))
    arcs = graph.to_fsa().arcs.values().numpy()
    used = graph.used_pdfs()
    inner = arcs[arcs[:, 2] > 0]
    np.testing.assert_array_equal(used[inner[:, 2] - 1], graph.pdf[inner[:, 1] - 1])
    assert (arcs[arcs[:, 2] == -1][:, 1] == graph.num_hmm_states + 1).all() and not (arcs[:, 2] == 0).any()


def test_monophone_graphs_have_no_copies_of_phones() -> None:
    graph = builder(Tree.monophone(STATES)).build(["AB", "C"])
    # 3 silences, A B, C, A C A
    assert graph.num_hmm_states == 3 * 3 + (3 + 2) + 3 + (3 + 3 + 3)


def test_no_words_is_one_silence() -> None:
    graph = builder(full_context_tree()).build([])
    assert graph.phone.tolist() == [SIL] * 3 and graph.min_frames == 3


def test_unknown_words_are_counted() -> None:
    assert builder(full_context_tree()).known_words("AB ZZZ C YYY") == (["AB", "<UNK>", "C", "<UNK>"], 2)


def test_lexicon_and_tree_of_different_phone_sets() -> None:
    with pytest.raises(KdError, match="different phone sets"):
        GraphBuilder(Words({**PRONS, "X": [(9,)]}, SIL, "<UNK>"), full_context_tree())
    with pytest.raises(KdError, match="<UNK>"):
        GraphBuilder(Words({"AB": [(A, B)]}, SIL, "<UNK>"), full_context_tree())


def test_path_to_alignment_tells_equal_phones_apart() -> None:
    tree = full_context_tree()
    graph = builder(tree).build(["AA", "AB"])
    # A A | A B without any silence: 3 + 3 + 3 + 2 states, two frames each
    path = next(p for p in all_paths(graph) if graph.phone[list(p)].tolist() == [A] * 9 + [B] * 2)
    ali = to_alignment("u", graph, np.repeat(np.array(path), 2), ["AA", "AB"])
    ali.check()
    assert ali.phone_start.tolist() == [0, 6, 12, 18]
    assert ali.words == [("AA", 0, 12), ("AB", 12, 10)]
    assert ali.state.tolist() == [0, 0, 1, 1, 2, 2] * 3 + [0, 0, 1, 1]
    senones = ali.senone_segments()
    assert senones.length.tolist() == [2] * 11 and senones.ids.tolist() == graph.pdf[list(path)].tolist()
    phones = ali.phone_segments()
    assert phones.ids.tolist() == [A, A, A, B] and phones.length.tolist() == [6, 6, 6, 4]
    np.testing.assert_array_equal(tree.pdf_map[tuple(context_keys(ali).T)], ali.pdf)
    with pytest.raises(KdError, match="graph and path differ"):
        to_alignment("u", graph, np.repeat(np.array(path), 2), ["AA", "AB", "C"])


def test_equal_path_shares_time_and_stays_a_path() -> None:
    graph = builder(Tree.monophone(STATES)).build(["AB", "C"])
    states = equal_path(graph, 56)
    assert graph.phone[states].tolist() == [SIL] * 12 + [A] * 12 + [B] * 8 + [C] * 12 + [SIL] * 12
    assert np.bincount(states)[np.unique(states)].tolist() == [4] * 14
    short = equal_path(graph, 9)  # no time for silence
    assert len(short) == 9 and (np.diff(short) >= 0).all()
    assert set(graph.phone[short].tolist()) == {A, B, C}
