"""Pronunciation and silence probabilities: the estimate by hand, and graphs with them against enumeration."""

from __future__ import annotations

import itertools
from pathlib import Path

import graph_samples as sample
import numpy as np
import pytest
from test_ali_graph import PRONS, SIL, full_context_tree

from kdtool.ali.lang_probs import END, START, Config, estimate
from kdtool.core.errors import KdError
from kdtool.graph.lattice import nbest, scale_weights
from kdtool.graph.lexicon_fst import lexicon_fst
from kdtool.graph.search import Beams, Searcher
from kdtool.graph.training import GraphBuilder, TrainingGraph, Words
from kdtool.graph.viterbi import viterbi
from kdtool.lang.probs import LEXICON_PROBS, SILENCE_PROBS, LexiconProbs, PronProbs

ONE, TWO, OTHER = ("A", (2, 3)), ("A", (4,)), ("B", (5, 2))
SAID = [
    [(START, True), (ONE, False), (OTHER, True), (END, False)],
    [(START, True), (ONE, True), (TWO, False), (END, False)],
    [(START, False), (OTHER, True), (END, False)],
]


def varied(seed: int = 0, corrected: bool = True) -> LexiconProbs:
    """Different probabilities everywhere, for the sample language's words."""
    rng = np.random.default_rng(seed)

    def one(pron: float) -> PronProbs:
        factors = rng.uniform(0.3, 2.0, 2) if corrected else (1.0, 1.0)
        return PronProbs(pron, float(rng.uniform(0.05, 0.95)), *map(float, factors))

    table = {(sample.WORDS[w], p): one(1.0 if n == 0 else 0.4) for w, ps in sample.PRONS.items() for n, p in enumerate(ps)}
    return LexiconProbs(table, 0.7, one(1.0), 0.3)


def test_estimate_by_hand() -> None:
    probs = estimate(SAID, {"A": [(2, 3), (4,)], "B": [(5, 2)], "NEW": [(3,)]}, Config(smooth_prons=1.0, smooth_silence=2.0))
    assert probs.overall == pytest.approx(3 / 5)  # three of five words have silence behind them
    assert probs.start == pytest.approx((2 + 2 * 0.6) / (3 + 2))
    one, two, other = (probs.of(*e) for e in (ONE, TWO, OTHER))
    assert (one.pron, two.pron, other.pron) == (1.0, pytest.approx((1 + 1) / (2 + 1)), 1.0)
    assert one.sil == pytest.approx((1 + 1.2) / (2 + 2)) and two.sil == pytest.approx(1.2 / 3) and other.sil == pytest.approx(3.2 / 4)
    # Twice behind silence at the start, never behind speech, as <s> predicts 2 x 0.64 times.
    assert one.after_sil == pytest.approx((2 + 2) / (2 * probs.start + 2))
    assert one.after_speech == pytest.approx(2 / (2 * (1 - probs.start) + 2))
    assert other.after_sil == pytest.approx(2 / (one.sil + probs.start + 2))
    assert probs.end.after_sil == pytest.approx((2 + 2) / (2 * other.sil + two.sil + 2))
    assert probs.of("NEW", (3,)) == PronProbs(1.0, probs.overall)
    plain = estimate(SAID, {"A": [(2, 3), (4,)]}, Config(silence_before=False))
    assert probs.corrected and not plain.corrected and plain.of(*ONE).sil == one.sil


def test_silence_everywhere_forbids_nothing() -> None:
    probs = estimate([[(START, True), (OTHER, True), (END, False)]] * 50, {"B": [(5, 2)]}, Config())
    assert probs.of(*OTHER).leave(True) > -1 and np.isfinite(probs.of(*OTHER).leave(False)) and np.isfinite(probs.begin.leave(False))


def test_tables_survive_the_disk_and_damage_is_named(tmp_path: Path) -> None:
    names = ["<eps>", "SIL", "P2", "P3", "P4", "P5"]
    phones = {n: i for i, n in enumerate(names)}
    prons = {sample.WORDS[w]: ps for w, ps in sample.PRONS.items()}
    assert LexiconProbs.load(tmp_path, phones, prons) is None
    probs = varied()
    probs.save(tmp_path, names)
    again = LexiconProbs.load(tmp_path, phones, prons)
    assert again is not None and again.prons.keys() == probs.prons.keys()
    for entry, p in probs.prons.items():
        q = again.prons[entry]
        assert (q.pron, q.sil, q.after_sil, q.after_speech) == pytest.approx((p.pron, p.sil, p.after_sil, p.after_speech), rel=1e-5)
    good = (tmp_path / LEXICON_PROBS).read_text()
    for spoil, message in (
        (good.replace("A 1 ", "A 0 "), "line 1"), (good.replace("A 1 ", "A x "), "line 1"), (good.replace("P4", "QQ"), "line 2"),
        (good + "B 1 0.5 1 1 P2\n", "different pronunciations of B"),
    ):  # fmt: skip
        (tmp_path / LEXICON_PROBS).write_text(spoil)
        with pytest.raises(KdError, match=message):
            LexiconProbs.load(tmp_path, phones, prons)
    (tmp_path / LEXICON_PROBS).write_text(good)
    (tmp_path / SILENCE_PROBS).write_text("<s> 0.5\n")
    with pytest.raises(KdError, match=r"silprob\.txt"):
        LexiconProbs.load(tmp_path, phones, prons)
    (tmp_path / SILENCE_PROBS).unlink()
    with pytest.raises(KdError, match=r"silprob\.txt"):
        LexiconProbs.load(tmp_path, phones, prons)


@pytest.mark.parametrize(("seed", "corrected"), [(0, True), (1, True), (2, False)])
def test_decoding_graph_scores_as_enumerated(tmp_path: Path, seed: int, corrected: bool) -> None:
    model, probs = sample.tree(seed=seed), varied(seed, corrected)
    graph = sample.word_graph(tmp_path, model, probs=probs)
    scores = sample.random_scores(model, 7, seed)
    wanted = sample.brute_force(tmp_path, model, scores, lm_scale=1.0, max_words=3, probs=probs)
    wide = Beams(search=500.0, output=500.0, max_active=100_000)
    silent = np.zeros(len(sample.WORDS), bool)
    lattice = Searcher(graph, wide).lattices([scores], None, prior_scale=0.0, lm_scale=1.0, silent=silent)[0]
    assert lattice is not None
    weights = scale_weights(0.0, 1.0)
    found = {p.words: float(p.parts @ weights) for p in nbest(lattice, weights, count=500, max_tokens=10**6)}
    assert found.keys() == wanted.keys()
    for words, score in wanted.items():
        assert found[words] == pytest.approx(score, abs=0.02), words


def paths_with_scores(graph: TrainingGraph) -> dict[tuple[tuple[int, int], ...], list[float]]:
    """(phone, word) string -> scores of the paths that say it, self-loops not taken."""
    assert graph.score is not None
    arcs: dict[int, list[tuple[int, float]]] = {}
    for s, d, x in zip(graph.src.tolist(), graph.dst.tolist(), graph.score.tolist(), strict=True):
        if s != d:
            arcs.setdefault(s, []).append((d, x))
    found: dict[tuple[tuple[int, int], ...], list[float]] = {}
    todo: list[tuple[int, tuple[tuple[int, int], ...], float]] = [(0, (), 0.0)]
    while todo:
        state, said, score = todo.pop()
        for target, more in arcs[state]:
            if target == graph.num_hmm_states + 1:
                found.setdefault(said, []).append(score + more)
                continue
            h = target - 1
            step = ((int(graph.phone[h]), int(graph.word[h])),) if graph.state[h] == 0 else ()
            todo.append((target, said + step, score + more))
    return found


@pytest.mark.parametrize("words", [[], ["A"], ["A", "C"], ["D", "A", "B"], ["A", "A"]])
def test_training_graph_scores_as_enumerated(words: list[str]) -> None:
    probs = varied(3)
    prons = {sample.WORDS[w]: ps for w, ps in sample.PRONS.items()}
    graph = GraphBuilder(Words(prons, sample.SIL, "D", probs), sample.tree(), 1.0).build(words)
    ids = tuple(sample.IDS[w] for w in words)
    wanted: dict[tuple[tuple[int, int], ...], list[float]] = {}
    for ways in itertools.product(*(sample.PRONS[w] for w in ids)):
        for silences in itertools.product([False, True], repeat=len(words) + 1):
            said: list[tuple[int, int]] = [(sample.SIL, -1)] * silences[0]
            for n, pron in enumerate(ways):
                said += [(p, n) for p in pron] + [(sample.SIL, -1)] * silences[n + 1]
            if said:
                wanted.setdefault(tuple(said), []).append(sample.said_at(ids, ways, silences, probs))
    found = paths_with_scores(graph)
    assert found.keys() == wanted.keys()
    for said, scores in wanted.items():
        assert sorted(found[said]) == pytest.approx(sorted(scores), abs=1e-5)


def test_best_way_through_both_graphs_is_the_same(tmp_path: Path) -> None:
    model, probs = sample.tree(seed=4), varied(4)
    words, scores = (4, 1, 2), sample.random_scores(model, 9, 4)
    prons = {sample.WORDS[w]: ps for w, ps in sample.PRONS.items()}
    graph = GraphBuilder(Words(prons, sample.SIL, "D", probs), model, 1.0).build([sample.WORDS[w] for w in words])
    best = viterbi(graph, scores[:, graph.used_pdfs()])
    assert best is not None
    lm = sample.kenlm_model(tmp_path).score("D A B") * np.log(10)
    wanted = sample.brute_force(tmp_path, model, scores, lm_scale=1.0, max_words=3, probs=probs)[words]
    assert best[1] + lm == pytest.approx(wanted, abs=1e-3)


def test_without_probabilities_nothing_is_added() -> None:
    tree = full_context_tree()
    plain = GraphBuilder(Words(PRONS, SIL, "<UNK>"), tree).build(["C", "AA"])
    flat = GraphBuilder(Words(PRONS, SIL, "<UNK>", LexiconProbs.flat(0.5)), tree, 1.0).build(["C", "AA"])
    assert plain.score is None and flat.score is not None
    np.testing.assert_array_equal(plain.dst, flat.dst)
    fsa = lexicon_fst(sample.PRONS, num_phones=5, back_off_word=5, sil=1, probs=sample.FLAT, words=sample.WORDS).fst
    half = np.float32(np.log(2))
    assert set(fsa.weight.tolist()) == {0.0, float(half)} and fsa.num_states == 4 + 6
