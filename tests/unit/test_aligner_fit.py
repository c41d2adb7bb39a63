"""Fit of a text: loop, log-likelihood ratios, stretches and exchanged words against slow references in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kdtool.aligner import fit as fitting
from kdtool.aligner.fit import exchange_gains, heard, text_fit, worst_stretch
from kdtool.aligner.loop import CHUNK, PhoneLoop
from kdtool.aligner.posterior import BestPath, align_scores
from kdtool.aligner.times import LOOKS_WRONG
from kdtool.formats.tree import Tree
from kdtool.gmm.model import DiagGmm
from kdtool.graph.training import GraphBuilder, Words

STATES = {1: 3, 2: 3, 3: 2, 4: 1, 5: 3}  # silence, three phones, noise
OWN = {p: p for p in STATES}
PRONS = {"AB": [(2, 3)], "BA": [(3, 2), (3, 3, 2)], "C": [(4,)], "SEE": [(4,)], "<UNK>": [(5,)]}
WORDS = ["AB", "C", "BA", "AB"]


def make_loop() -> PhoneLoop:
    return PhoneLoop(Tree.monophone(STATES), STATES, OWN)


def builder(loop: PhoneLoop) -> GraphBuilder:
    return GraphBuilder(Words(PRONS, 1, "<UNK>"), loop.units)


def aligned(loop: PhoneLoop, words: list[str], scores: np.ndarray) -> BestPath:
    graph = builder(loop).build(words)
    found = align_scores(graph, graph.to_fsa(), np.pad(scores[:, graph.used_pdfs()], ((0, 0), (1, 0))), 0.1)
    assert found is not None
    return found


def spoken(loop: PhoneLoop, words: list[str], rng: np.random.Generator, size: float = 8.0) -> np.ndarray:
    """Scores of frames in which the words are said: five frames a state, with silence around."""
    units = [u for p in (1, *(p for w in words for p in PRONS[w][0]), 1) for u in range(*span(loop, p)) for _ in range(5)]
    scores = rng.normal(0, 1, (len(units), loop.units.num_pdfs)).astype(np.float32)
    scores[np.arange(len(units)), units] += np.float32(size)
    return scores


def span(loop: PhoneLoop, phone: int) -> tuple[int, int]:
    first = int(loop.units.pdf_map[0, phone, 0, 0])
    return first, first + STATES[phone]


def slow_loop(loop: PhoneLoop, scores: np.ndarray) -> tuple[float, list[int]]:
    """Best path of the loop: float64, every arc looked at, ties to the smallest."""
    size = loop.units.num_pdfs
    arcs = np.full((size, size), -np.inf)
    for phone in STATES:
        first, stop = span(loop, phone)
        for u in range(first, stop):
            arcs[u, u] = 0.0
            if u + 1 < stop:
                arcs[u, u + 1] = 0.0
        for other in STATES:
            target = span(loop, other)[0]
            arcs[stop - 1, target] = max(arcs[stop - 1, target], -3.0 * np.log(len(STATES)))
    sums = np.array([scores[0, u] if loop.units.pdf_state[u] == 0 else -np.inf for u in range(size)], np.float64)
    backs = []
    for row in scores[1:].astype(np.float64):
        ways = sums[:, None] + arcs
        backs.append(ways.argmax(axis=0))
        sums = ways.max(axis=0) + row
    last = [span(loop, p)[1] - 1 for p in STATES]
    unit = max(last, key=lambda u: sums[u])
    path = [unit]
    for back in reversed(backs):
        path.append(int(back[path[-1]]))
    return float(sums[unit]), path[::-1]


@pytest.mark.parametrize("seed", range(5))
def test_the_loops_best_path_is_that_of_a_slow_search(seed: int) -> None:
    loop, rng = make_loop(), np.random.default_rng(seed)
    scores = rng.normal(0, 3, (40, loop.units.num_pdfs)).astype(np.float32)
    path = loop.best_path(scores)
    total, slow = slow_loop(loop, scores)
    assert path.unit.tolist() == slow
    cost = loop.entry * (path.begins.sum() - 1)
    assert scores[np.arange(40), path.unit].astype(np.float64).sum() + cost == pytest.approx(total, abs=1e-9)
    assert [loop.units.pdf_state[u] for u in path.unit[path.begins]] == [0] * path.begins.sum()


def slow_stretch(lost: np.ndarray) -> float:
    return max(0.0, *(float((lost[a:b] - 0.15).sum()) for a, b in itertools.combinations(range(len(lost) + 1), 2)))


@pytest.mark.parametrize("seed", range(3))
def test_ratios_are_those_of_a_slow_reference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, rng = make_loop(), np.random.default_rng(seed)
    scores = spoken(loop, WORDS, rng, 2.0)
    found = aligned(loop, WORDS, scores)
    said = text_fit(loop, builder(loop), WORDS, found, scores)
    wide = scores.astype(np.float64)
    _, best = slow_loop(loop, scores)
    own = [span(loop, p.id)[0] + s for p in found.phones for s, n in enumerate(p.states) for _ in range(n)]
    lost = np.array([wide[t, best[t]] - wide[t, own[t]] for t in range(len(wide))])
    picked = np.mean([wide[:, range(*span(loop, p))].max(axis=1) for p in STATES], axis=0)
    unit = max(1.0, np.mean([wide[t, best[t]] - picked[t] for t in range(len(wide))]))
    assert said.llr == pytest.approx(-lost.mean(), abs=1e-9)
    for word, piece in zip(said.words, found.words, strict=True):
        mean = lost[piece.start : piece.start + piece.length].mean()
        assert word.llr == pytest.approx(-mean, abs=1e-9)
        assert word.fit == pytest.approx(1 / (1 + max(mean / unit / 0.3, 0.0)), abs=1e-9)
    assert worst_stretch(lost / unit)[0] == pytest.approx(slow_stretch(lost / unit), abs=1e-9)
    monkeypatch.setattr(fitting, "exchange_gains", lambda *_: [-np.inf])
    alone = text_fit(loop, builder(loop), WORDS, found, scores)
    assert alone.fit == pytest.approx(1 / (1 + slow_stretch(lost / unit) / 12.0), abs=1e-9)
    assert said.fit <= alone.fit


def test_what_is_said_fits_and_is_heard() -> None:
    loop = make_loop()
    scores = spoken(loop, WORDS, np.random.default_rng(0))
    found = aligned(loop, WORDS, scores)
    said = text_fit(loop, builder(loop), WORDS, found, scores)
    assert said.fit > 0.7 and said.exchanged == -1 and not any((w.fit < LOOKS_WRONG) for w in said.words)
    assert [w.heard for w in said.words] == [[2, 3], [4], [3, 2], [2, 3]]
    assert heard(loop, loop.best_path(scores), 16, 17) == [2]  # within a phone: that phone


def test_a_wrong_word_and_exchanged_words_are_seen_where_they_are() -> None:
    loop = make_loop()
    scores = spoken(loop, ["AB", "BA", "BA", "AB"], np.random.default_rng(1))
    wrong = ["AB", "BA", "C", "AB"]
    said = text_fit(loop, builder(loop), wrong, aligned(loop, wrong, scores), scores)
    assert (said.fit < LOOKS_WRONG) and min(range(4), key=lambda n: said.words[n].fit) in (1, 2)
    scores = spoken(loop, ["AB", "C", "BA", "AB", "C"], np.random.default_rng(2))
    other = ["AB", "BA", "C", "AB", "C"]
    found = aligned(loop, other, scores)
    assert int(np.argmax(exchange_gains(builder(loop), other, found.words, scores))) == 1
    said = text_fit(loop, builder(loop), other, found, scores)
    assert (said.fit < LOOKS_WRONG) and (said.words[1].fit < LOOKS_WRONG) and (said.words[2].fit < LOOKS_WRONG)


def test_words_that_sound_alike_are_not_exchanged() -> None:
    loop = make_loop()
    words = ["AB", "C", "SEE"]
    scores = spoken(loop, words, np.random.default_rng(0))
    gains = exchange_gains(builder(loop), words, aligned(loop, words, scores).words, scores)
    assert gains[1] == -np.inf and np.isfinite(gains[0])


def test_a_word_without_pronunciation_is_no_evidence_unless_most_are() -> None:
    loop = make_loop()
    scores = spoken(loop, ["AB", "BA", "AB", "C"], np.random.default_rng(1))
    scores[:, slice(*span(loop, 5))] += 4  # as noise does, it fits everything a little
    for words, judged in ((["AB", "<UNK>", "AB", "C"], False), (["AB", "<UNK>", "<UNK>", "<UNK>"], True)):
        found = aligned(loop, words, scores)
        said = text_fit(loop, builder(loop), words, found, scores)
        assert said.words[1].llr < -2 and (said.words[1].fit < LOOKS_WRONG) == judged and (said.fit < LOOKS_WRONG) == judged, words
        assert exchange_gains(builder(loop), words, found.words, scores)[:2] == [-np.inf, -np.inf]


def test_the_shortest_file_and_a_file_of_noise_have_defined_scores() -> None:
    loop = make_loop()
    for words, frames in ((["C"], 1), (["<UNK>"], 3), ([], 3), (["<UNK>", "<UNK>"], 40)):
        scores = np.random.default_rng(0).normal(0, 1, (frames, loop.units.num_pdfs)).astype(np.float32)
        said = text_fit(loop, builder(loop), words, aligned(loop, words, scores), scores)
        values = [said.llr, said.fit, *(w.llr for w in said.words), *(w.fit for w in said.words)]
        assert np.all(np.isfinite(values)) and len(said.words) == len(words) and 0 <= said.start < said.stop <= frames and said.heard


def test_senones_of_a_tree_become_the_loops_units(monkeypatch: pytest.MonkeyPatch) -> None:
    family = {1: 1, 2: 2, 3: 2}  # 3 is phone 2 in another place of the word
    table = np.full((4, 4, 4, 2), -1, np.int32)
    table[:, 1, :, 0], table[:, 2:, :, 0], table[:, 2:, :, 1] = 0, 2, 1
    table[1, 2:, :, 0], table[:, 3, 1, 1] = 4, 3  # in two contexts
    tree = Tree(table, np.array([0, 1, 2, 2]))
    loop = PhoneLoop(tree, {1: 1, 2: 2, 3: 2}, family)
    rng = np.random.default_rng(0)
    model = DiagGmm(rng.normal(0, 1, (5, 3)), np.ones((5, 3)), np.ones(5), np.arange(6))
    feats = rng.normal(0, 1, (23, 3)).astype(np.float32)
    monkeypatch.setattr("kdtool.aligner.loop.CHUNK", 10)
    own, units = loop.scores(model, feats, np.array([1, 4]))
    every = model.log_likelihood(feats)
    np.testing.assert_allclose(own, np.concatenate([np.zeros((23, 1)), every[:, [1, 4]]], axis=1), atol=1e-5)
    np.testing.assert_allclose(units, np.stack([every[:, 0], every[:, [2, 4]].max(1), every[:, [1, 3]].max(1)], axis=1), atol=1e-5)
    assert CHUNK > 10 and loop.unit(np.array([3, 2, 1]), np.array([1, 0, 0])).tolist() == [2, 1, 0]
    path = loop.best_path(units)
    assert {int(loop.units.pdf_phone[u]) for u in path.unit} <= {1, 2}
