"""LF-MMI: the chain topology's alignments and tree, the phone LM, the denominator graph and what its probabilities sum to."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from chain_data import PHONES, aligned, chain_tree, plain_total, sequences

from kdtool.chain.denominator import Denominator
from kdtool.chain.labels import check_tree, to_chain
from kdtool.chain.phone_lm import estimate
from kdtool.core.errors import KdError, UsageError
from kdtool.core.findings import Level
from kdtool.core.inputs import validate
from kdtool.formats.alignment import save_alignments
from kdtool.formats.tree import CHAIN, Tree


def test_every_third_frame_is_a_path_of_the_topology() -> None:
    tree, rng = chain_tree(), np.random.default_rng(1)
    for n, phones in enumerate(sequences()):
        ali = to_chain(aligned(f"u{n}", phones, tree, rng), tree)
        assert not isinstance(ali, str)
        for first in range(3):
            pdfs, place = ali.pdf[first::3], np.searchsorted(ali.phone_start, np.arange(first, ali.num_frames, 3), side="right") - 1
            assert np.array_equal(np.unique(place), np.arange(len(phones)))  # no phone is without an output
            new = np.diff(place, prepend=-1) > 0
            left, own = np.array([0, *phones])[place], np.array(phones)[place]
            assert np.array_equal(pdfs, tree.pdf_map[left, own, 0, np.where(new, 0, 1)])


def test_an_utterance_with_more_phones_than_outputs_has_a_reason() -> None:
    tree = chain_tree()
    ali = aligned("u", [1, 2, 3, 4, 1], tree, np.random.default_rng(0), shortest=1)
    short = type(ali)("u", ali.pdf[:14], ali.state[:14], np.repeat(np.array([1, 2, 3, 4, 1], np.int16), [3, 3, 3, 3, 2]),
                      np.array([0, 3, 6, 9, 12], np.int32), [])  # fmt: skip
    assert to_chain(short, tree) == "5 phones, 4 outputs of 30 ms in 14 frames; each phone needs one"


def test_a_chain_tree_is_another_tree_than_an_hmms(tmp_path: Path) -> None:
    tree = chain_tree()
    plain = Tree(tree.pdf_map)
    assert tree.digest != plain.digest and check_tree(tree, "here") is tree
    tree.save(tmp_path)
    assert Tree.load(tmp_path).topology == CHAIN and Tree.load(tmp_path).digest == tree.digest
    with pytest.raises(KdError, match="a tree of topology hmm, chain is expected; make one with"):
        check_tree(plain, "here")
    table = tree.pdf_map.copy()
    table[:, 2, 3] = table[::-1, 2, 3]
    with pytest.raises(KdError, match="depend on the phone to the right"):
        check_tree(Tree(table, None, CHAIN), "here")


@pytest.mark.parametrize(("order", "keep", "states"), [(2, 2, 0), (3, 2, 2), (3, 3, 0), (4, 2, 6)])
def test_the_phone_lm_is_a_distribution_and_accepts_what_it_read(order: int, keep: int, states: int) -> None:
    lines = sequences()
    lm = estimate(lines, PHONES, order=order, keep=keep, states=states)
    assert np.allclose(np.exp(lm.log_prob).sum(1) + np.exp(lm.log_end), 1.0)
    for line in lines:
        after, scores = lm.walk(line)
        assert np.isfinite(scores).all() and np.isfinite(lm.log_end[after[-1]])
        assert [int(lm.last[s]) for s in after] == line


def test_the_bigram_lm_has_the_relative_frequencies_and_more_histories_fit_better() -> None:
    lines = sequences()
    pairs = Counter(itertools.chain.from_iterable(itertools.pairwise([0, *line, 0]) for line in lines))
    lm = estimate(lines, PHONES, order=2, keep=2, states=0)
    before = Counter(a for a, _ in pairs.elements())
    for (a, b), n in pairs.items():
        state = 0 if a == 0 else lm.fallback[a]
        found = lm.log_end[state] if b == 0 else lm.log_prob[state, b]
        assert found == pytest.approx(math.log(n / before[a]))
    fits = [sum(estimate(lines, PHONES, order=3, keep=2, states=n).walk(line)[1].sum() for line in lines) for n in (0, 2, 5, 100)]
    assert fits == sorted(fits) and fits[0] < fits[-1]
    assert estimate(lines, PHONES, order=3, keep=2, states=100).num_states > lm.num_states


def test_an_unknown_phone_sequence_has_no_probability_and_the_walk_goes_on() -> None:
    lm = estimate([[1, 2, 3, 1], [1, 3, 2, 1]], PHONES, states=0)
    states, scores = lm.walk([1, 2, 2, 3, 4, 1])
    assert np.isfinite(scores).tolist() == [True, True, False, True, False, False]
    assert states[2] == lm.fallback[2] and states[4] == -1 and states[5] == lm.fallback[1]


def test_the_denominators_probabilities_sum_to_one_over_every_number_of_outputs() -> None:
    lm, tree = estimate(sequences(), PHONES, states=4), chain_tree()
    den = Denominator.make(lm, tree)
    assert np.exp(den.hmm.log_init).sum() == pytest.approx(1.0)
    for outputs in (1, 2, 5):
        total = plain_total(den.arcs, den.scores, torch.zeros(outputs, tree.num_pdfs, dtype=torch.float64))
        assert float(total) == pytest.approx(0.0, abs=1e-5)
    inner = den.arcs[:, 2] > 0
    assert den.arcs[inner, 2].min() >= 1 and den.arcs[inner, 2].max() <= tree.num_pdfs and (np.diff(den.arcs[:, 0]) >= 0).all()
    assert {*den.arcs[:, 0]} == {*range(int(den.arcs[:, 1].max()))}


def test_a_denominator_is_read_back_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    den = Denominator.make(estimate(sequences(), PHONES), chain_tree())
    den.save(tmp_path)
    again = Denominator.load(tmp_path)
    assert np.array_equal(den.arcs, again.arcs) and np.array_equal(den.scores, again.scores) and again.meta == den.meta
    assert np.array_equal(den.lm.log_prob, again.lm.log_prob) and np.array_equal(den.hmm.log_init, again.hmm.log_init)
    chain_tree().save(tmp_path)
    (tmp_path / "denominator.safetensors").write_bytes((tmp_path / "tree.safetensors").read_bytes())
    with pytest.raises(KdError, match="are no denominator; make it again"):
        Denominator.load(tmp_path)


def test_wrong_orders_are_usage_errors() -> None:
    from kdtool.chain.make_denominator import DenominatorConfig

    with pytest.raises(UsageError, match="order 2, keep 3, states 200: 2 <= keep <= order"):
        DenominatorConfig(order=2, keep=3)
    with pytest.raises(KdError, match="phone LM: 0 phone sequences"):
        estimate([], PHONES)


def test_the_validator_knows_that_a_chain_state_may_be_left_at_once(tmp_path: Path) -> None:
    tree, rng = chain_tree(), np.random.default_rng(5)
    tree.save(tmp_path)
    alis = [to_chain(aligned(f"u{n}", line, tree, rng), tree) for n, line in enumerate(sequences())]
    kept = [a for a in alis if not isinstance(a, str)]
    ends = np.concatenate([a.state[np.append(a.phone_start[1:], a.num_frames) - 1] for a in kept])
    assert {*ends.tolist()} == {0, 1}
    meta = {"tree_digest": tree.digest, "num_pdfs": tree.num_pdfs, "topology": CHAIN}
    save_alignments(tmp_path / "good", kept, meta)
    assert not validate("ali", tmp_path / "good", Level.DEEP).problems
    save_alignments(tmp_path / "hmm", kept, {**meta, "topology": "hmm"})
    report = validate("ali", tmp_path / "hmm", Level.DEEP)
    assert [line for line in map(report.line, report.problems) if "HMM states that do not run from a phone's first to its last" in line]
    kept[0].pdf[0] += 1
    save_alignments(tmp_path / "other", kept, meta)
    report = validate("ali", tmp_path / "other", Level.DEEP)
    assert [line for line in map(report.line, report.problems) if line.startswith("problem: tree: 1 x")]
