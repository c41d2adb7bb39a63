"""Decoding graphs against brute force, KenLM, kaldilm and kaldi-decoder."""

from __future__ import annotations

from pathlib import Path

import graph_samples as sample
import numpy as np
import pytest
from k2_reference import k2_totals

from kdtool.core.errors import KdError
from kdtool.formats.tree import Tree
from kdtool.graph.arpa import grammar_fst, read_arpa
from kdtool.graph.decoding_graph import GRAPH_FILE, DecodingGraph
from kdtool.graph.epsilons import Outputs, add_self_loops, remove_epsilons
from kdtool.graph.fst import FstArrays, breadth_first, connect, from_kaldifst, to_kaldifst
from kdtool.graph.hclg import build_graph
from kdtool.graph.lattice import best_paths, nbest, scale_weights
from kdtool.graph.lexicon_fst import disambiguate, lexicon_fst
from kdtool.graph.make_graph import forecast
from kdtool.graph.minimize import minimize
from kdtool.graph.search import Beams, Searcher

WIDE = Beams(search=500.0, output=500.0, max_active=100_000)
NONE_SILENT = np.zeros(len(sample.WORDS), dtype=bool)


def search(graph: DecodingGraph, scores: np.ndarray, lm_scale: float = 1.0):
    lattice = Searcher(graph, WIDE).lattices([scores], None, prior_scale=0.0, lm_scale=lm_scale, silent=NONE_SILENT)[0]
    assert lattice is not None
    return lattice


@pytest.mark.parametrize(("seed", "lm_scale"), [(0, 1.0), (1, 1.0), (2, 3.0)])
def test_every_word_sequence_scores_as_by_brute_force(tmp_path: Path, seed: int, lm_scale: float) -> None:
    model = sample.tree(seed=seed)
    graph = sample.word_graph(tmp_path, model)
    scores = sample.random_scores(model, 7, seed)
    wanted = sample.brute_force(tmp_path, model, scores, lm_scale=lm_scale, max_words=3)
    weights = scale_weights(0.0, lm_scale)
    found = {p.words: float(p.parts @ weights) for p in nbest(search(graph, scores, lm_scale), weights, count=500, max_tokens=10**6)}
    assert set(found) == set(wanted)
    for words, score in wanted.items():
        # Minimization rounds each weight to 1/1024.
        assert found[words] == pytest.approx(score, abs=0.02 * lm_scale), words


def test_best_paths_of_many_scales_equal_k2_shortest_paths(tmp_path: Path) -> None:
    from kdtool.graph import k2api

    model = sample.tree(states=3)
    graph = sample.word_graph(tmp_path, model)
    scores = sample.random_scores(model, 30, 5)
    scales = [0.5, 1.0, 2.0, 6.0]
    paths = best_paths(search(graph, scores), np.array([scale_weights(0.0, s) for s in scales]))
    for scale, path in zip(scales, paths, strict=True):
        fsa = k2api.make_fsa(graph.src, graph.dst, graph.label, scale * graph.score)
        exact = k2_totals([fsa], [np.concatenate([np.zeros((30, 1), np.float32), scores], axis=1)], log_semiring=False)
        assert path.parts @ scale_weights(0.0, scale) == pytest.approx(float(exact[0]), abs=1e-3)
        assert path.parts[3] == len(path.words)


def test_kaldi_decoder_finds_the_same_best_path(tmp_path: Path) -> None:
    import kaldi_decoder
    import kaldifst

    model = sample.tree(states=3, seed=3)
    graph = sample.word_graph(tmp_path, model)
    oracle = to_kaldifst(graph.as_fst())
    for seed in range(8):
        scores = sample.random_scores(model, 25, seed)
        decoder = kaldi_decoder.FasterDecoder(oracle, kaldi_decoder.FasterDecoderOptions(beam=500.0, max_active=100_000))
        decoder.decode(kaldi_decoder.DecodableCtc(scores))
        reached, linear = decoder.get_best_path()
        _, labels, outputs, weight = kaldifst.get_linear_symbol_sequence(linear)
        path = best_paths(search(graph, scores), np.array([scale_weights(0.0, 1.0)]))[0]
        assert reached and len(labels) == 25
        assert [w for o in outputs for w in graph.spelling[o] if w] == list(path.words)
        assert path.parts[:3].sum() == pytest.approx(-(weight.value1 + weight.value2), abs=1e-2)


def test_monophone_tree_gives_the_same_scores_as_a_context_free_triphone_route(tmp_path: Path) -> None:
    model = Tree.monophone({p: 2 for p in range(1, 6)})
    graph = sample.word_graph(tmp_path, model)
    scores = sample.random_scores(model, 7, 4)
    wanted = sample.brute_force(tmp_path, model, scores, lm_scale=1.0, max_words=3)
    best = best_paths(search(graph, scores), np.array([scale_weights(0.0, 1.0)]))[0]
    assert best.words == max(wanted, key=wanted.__getitem__)


def test_silence_is_optional_at_both_edges_and_between_words(tmp_path: Path) -> None:
    model = Tree.monophone({p: 1 for p in range(1, 6)})
    graph = sample.word_graph(tmp_path, model)
    for phones in ([5, 5], [1, 5, 5], [5, 1, 5], [5, 5, 1], [1, 5, 1, 5, 1]):
        scores = np.full((len(phones), 5), -50.0, dtype=np.float32)
        scores[np.arange(len(phones)), np.array(phones) - 1] = 0.0
        path = best_paths(search(graph, scores, 0.01), np.array([scale_weights(0.0, 0.01)]))[0]
        assert path.parts[0] == 0.0 and path.words[0] == 4


def test_homophones_are_told_apart_by_the_lm_only(tmp_path: Path) -> None:
    model = sample.tree()
    lattice = search(sample.word_graph(tmp_path, model), sample.random_scores(model, 4, 0))
    by_words = {p.words: p.parts for p in nbest(lattice, scale_weights(0.0, 1.0), count=50, max_tokens=10**6)}
    lm = sample.kenlm_model(tmp_path)
    difference = (lm.score("C") - lm.score("A")) * np.log(10)
    with_homophone = [w for w in by_words if w == (3,)]
    assert with_homophone and by_words[(3,)][2] == pytest.approx(lm.score("C") * np.log(10) + 2 * np.log(0.5), abs=0.02)
    assert by_words[(1,)][2] == pytest.approx(by_words[(3,)][2] - difference, abs=0.02)


def test_disambiguation_marks_homophones_and_beginnings() -> None:
    marked = disambiguate([(1, (2, 3)), (2, (2, 3)), (3, (2,)), (4, (4,))])
    assert [m for _, _, m in marked] == [1, 2, 1, 0]
    strings = [(*pron, -mark) for _, pron, mark in marked]
    assert len(set(strings)) == len(strings)


def test_lexicon_refuses_an_empty_pronunciation() -> None:
    with pytest.raises(KdError, match="empty pronunciation"):
        lexicon_fst({1: [()]}, num_phones=5, back_off_word=9, sil=1, probs=sample.FLAT, words=sample.WORDS)


def test_lexicon_and_lm_without_a_common_word(tmp_path: Path) -> None:
    grammar = grammar_fst(read_arpa(sample.write_arpa(tmp_path), sample.IDS), 5)
    lexicon = lexicon_fst({77: [(2,)]}, num_phones=5, back_off_word=99, sil=1, probs=sample.FLAT, words=["W"] * 78)
    with pytest.raises(KdError, match="share no word"):
        build_graph(grammar, lexicon, sample.tree(), sample.WORDS)


def test_grammar_scores_equal_kenlm_and_has_no_state_that_only_backs_off(tmp_path: Path) -> None:
    grammar = grammar_fst(read_arpa(sample.write_arpa(tmp_path), sample.IDS), 5)
    words_out = np.bincount(grammar.src[grammar.ilabel != 5], minlength=grammar.num_states)
    assert np.all((words_out > 0) | np.isfinite(grammar.final))
    lm = sample.kenlm_model(tmp_path)
    for text in ("A B A", "D A B", "C", "B B D A", "A B A B A", "D D"):
        assert walk(grammar, [sample.IDS[w] for w in text.split()]) == pytest.approx(-lm.score(text) * np.log(10), abs=1e-4)


def walk(grammar: FstArrays, words: list[int]) -> float:
    """Cost of the cheapest path for a word sequence."""
    costs = {grammar.start: 0.0}
    for word in [*words, 0]:
        for state in sorted(costs, key=lambda s: costs[s]) * 3:  # back off, as often as the order allows
            for a in np.flatnonzero((grammar.src == state) & (grammar.ilabel == 5)):
                target = int(grammar.dst[a])
                costs[target] = min(costs.get(target, np.inf), costs[state] + float(grammar.weight[a]))
        if word == 0:
            return min(c + float(grammar.final[s]) for s, c in costs.items())
        after: dict[int, float] = {}
        for state, cost in costs.items():
            for a in np.flatnonzero((grammar.src == state) & (grammar.ilabel == word)):
                target = int(grammar.dst[a])
                after[target] = min(after.get(target, np.inf), cost + float(grammar.weight[a]))
        costs = after
    raise AssertionError


def test_kaldilm_has_the_same_grammar_with_more_states(tmp_path: Path) -> None:
    import kaldifst
    import kaldilm

    path = sample.write_arpa(tmp_path)
    table = tmp_path / "words.txt"
    table.write_text("".join(f"{w} {i}\n" for i, w in enumerate([*sample.WORDS, "<s>", "</s>", "<unk>"])))
    text = kaldilm.arpa2fst(str(path), disambig_symbol="#0", read_symbol_table=str(table), max_arpa_warnings=0)
    theirs = from_kaldifst(kaldifst.compile(text, acceptor=False))
    ours = grammar_fst(read_arpa(path, sample.IDS), 5)
    assert ours.num_states <= theirs.num_states
    for words in ([1, 2, 1], [4, 1, 2], [3], [2, 2, 4, 1]):
        assert walk(ours, words) == pytest.approx(walk(theirs, words), abs=1e-4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.replace("\\end\\", ""), "complete"),
        (lambda t: t.replace("ngram 2=5", "ngram 2=6"), "header says 6"),
        (lambda t: t.replace("-0.4\tA B\t-0.7", "-0.4\tA"), "no 2-gram line"),
        (lambda t: "", "complete"),
        (lambda t: t.replace("-0.4\tA B", "x\tA B"), "no 2-gram line"),
    ],
)
def test_broken_arpa(tmp_path: Path, spoil, message: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(spoil(sample.ARPA))
    with pytest.raises(KdError, match=message):
        read_arpa(path, sample.IDS)


def test_words_outside_the_lexicon_are_counted(tmp_path: Path) -> None:
    arpa = read_arpa(sample.write_arpa(tmp_path), {"A": 1, "B": 2})
    assert arpa.skipped_words == ["C", "D"] and arpa.skipped == 4


def test_fst_survives_kaldifst_and_back() -> None:
    fst = FstArrays.build([2, 0, 0], [1, 2, 1], [3, 1, 2], [0, 5, 6], [0.5, 1.5, 0.0], {1: 0.25})
    back = from_kaldifst(to_kaldifst(fst))
    for name in ("src", "dst", "ilabel", "olabel", "weight", "final"):
        np.testing.assert_array_equal(getattr(back, name), getattr(fst, name))


def test_connect_drops_dead_ends_and_needs_a_path() -> None:
    fst = FstArrays.build([0, 0, 3], [1, 2, 1], [1, 2, 3], [0, 0, 0], [0.0, 0.0, 0.0], {1: 0.0})
    assert connect(fst).num_states == 2
    with pytest.raises(KdError, match="no path"):
        connect(FstArrays.build([0], [1], [1], [0], [0.0], {2: 0.0}))


def test_epsilon_chains_keep_scores_and_join_outputs() -> None:
    # 0 -eps:7-> 1 -1:8-> 2 -eps:9-> 3 -eps:0-> 4 (final), and 3 -2:0-> 4
    fst = FstArrays.build([0, 1, 2, 3, 3], [1, 2, 3, 4, 4], [0, 1, 0, 0, 2], [7, 8, 9, 0, 0], [0.5, 0.25, 1.0, 2.0, 4.0], {4: 0.125})
    outputs = Outputs(10)
    clean = remove_epsilons(fst, outputs)
    assert np.all(clean.ilabel > 0)
    ends = {(int(i), outputs.spell(int(o)), float(w)) for i, o, w in zip(clean.ilabel, clean.olabel, clean.weight, strict=True)}
    assert (1, (7, 8, 9), 3.75) in ends and (2, (), 4.0) in ends


def test_epsilon_cycle_is_refused() -> None:
    with pytest.raises(KdError, match="cycle"):
        remove_epsilons(FstArrays.build([0, 1, 1], [1, 1, 2], [1, 0, 2], [0, 0, 0], [0.0, 0.1, 0.0], {2: 0.0}), Outputs(3))


def test_a_state_entered_by_two_labels_loops_on_each_apart() -> None:
    fst = FstArrays.build([0, 0, 1], [1, 1, 2], [1, 2, 3], [0, 0, 0], [0.0, 0.0, 0.0], {2: 0.0})
    looped = add_self_loops(fst)
    loops = looped.src == looped.dst
    assert sorted(looped.ilabel[loops].tolist()) == [1, 2, 3] and looped.num_states == 4


def test_graph_folder_round_trip_and_damage(tmp_path: Path) -> None:
    graph = sample.word_graph(tmp_path, sample.tree())
    folder = tmp_path / "graph"
    folder.mkdir()
    graph.save(folder)
    again = DecodingGraph.load(folder)
    np.testing.assert_array_equal(again.label, graph.label)
    np.testing.assert_array_equal(again.spelling, graph.spelling)
    assert again.words == sample.WORDS and again.num_pdfs == graph.num_pdfs
    (folder / "words.txt").write_text("<eps> 0\nA 1\n")
    with pytest.raises(KdError, match="out of range"):
        DecodingGraph.load(folder)
    data = (folder / GRAPH_FILE).read_bytes()
    (folder / GRAPH_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(KdError, match="corrupt"):
        DecodingGraph.load(folder)


def test_scores_of_another_tree_are_refused(tmp_path: Path) -> None:
    graph = sample.word_graph(tmp_path, sample.tree())
    with pytest.raises(KdError, match="different trees"):
        search(graph, np.zeros((5, graph.num_pdfs + 1), dtype=np.float32))


def test_an_utterance_too_short_for_any_path_has_no_lattice(tmp_path: Path) -> None:
    model = sample.tree(states=3)
    searcher = Searcher(sample.word_graph(tmp_path, model), WIDE)
    assert searcher.lattices([sample.random_scores(model, 2, 0)], None, prior_scale=0.0, lm_scale=1.0, silent=NONE_SILENT)[0] is None


@pytest.mark.parametrize("seed", range(4))
def test_minimization_leaves_as_few_states_as_openfst_and_the_same_paths(seed: int) -> None:
    import kaldifst

    rng = np.random.default_rng(seed)
    # A tree of all strings of length up to 6 over 3 labels, with few weights and outputs: much to merge.
    states = (3**7 - 1) // 2
    inner = (3**6 - 1) // 2
    src = np.repeat(np.arange(inner), 3)
    label = np.tile([1, 2, 3], inner)
    tree = FstArrays.build(
        src, np.arange(1, states), label, label * (rng.random(len(src)) < 0.1), 0.5 * (label == 2),
        {s: 0.0 for s in range(inner, states)},
    )  # fmt: skip
    small = minimize(tree)
    theirs = to_kaldifst(tree)
    kaldifst.minimize_encoded(theirs)
    assert small.num_states == theirs.num_states < states

    def total(fst: FstArrays, string: np.ndarray) -> tuple[float, list[int]]:
        state, cost, said = fst.start, 0.0, []
        for symbol in string:
            (a,) = np.flatnonzero((fst.src == state) & (fst.ilabel == symbol))
            state, cost = int(fst.dst[a]), cost + float(fst.weight[a])
            said.append(int(fst.olabel[a]))
        return cost + float(fst.final[state]), said

    for string in rng.integers(1, 4, (50, 6)):
        assert total(small, string) == total(tree, string)


def test_minimization_of_a_cycle_and_of_final_costs() -> None:
    # 1 and 2 go on alike, 3 and 4 too but end at different costs; 5 is 3 again; the start's twin 6 comes back to it.
    fst = FstArrays.build([0, 0, 1, 2, 0, 0, 0, 3, 6], [1, 2, 3, 3, 4, 5, 6, 0, 1], [1, 2, 3, 3, 4, 5, 6, 7, 1], [0] * 9, [0.0] * 9,
                          {3: 0.0, 4: 1.0, 5: 0.0}, num_states=7)  # fmt: skip
    assert minimize(fst).num_states == 6  # only 1 and 2: 3 goes on, 5 does not
    assert minimize(minimize(fst)).num_states == 6


def test_breadth_first_numbering_changes_numbers_only(tmp_path: Path) -> None:
    fst = connect(sample.word_graph(tmp_path, sample.tree()).as_fst())
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(fst.num_states).astype(np.int32)
    final = np.empty_like(fst.final)
    final[shuffled] = fst.final
    mixed = FstArrays.build(shuffled[fst.src], shuffled[fst.dst], fst.ilabel, fst.olabel, fst.weight, final, int(shuffled[fst.start]))
    ordered = breadth_first(mixed)
    depth = np.full(ordered.num_states, -1)
    depth[0] = 0
    for s, d in zip(ordered.src, ordered.dst, strict=True):
        depth[d] = depth[s] + 1 if depth[d] < 0 else depth[d]
    assert ordered.start == 0 and np.all(np.diff(depth) >= 0)
    for name in ("ilabel", "olabel", "weight", "final"):
        assert sorted(getattr(ordered, name)) == sorted(getattr(mixed, name))


def test_the_forecast_names_time_memory_and_size() -> None:
    assert forecast(323_005, 4000) == "make_graph: 323005 n-grams: about 15 s of CPU, 685 MB of memory, 2.7 million arcs"
    assert "note: 600 MB are free" in forecast(323_005, 600)
