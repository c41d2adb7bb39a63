"""LF-MMI's value and gradient against a plain float64 forward pass in torch; numerators against paths listed one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from chain_data import PHONES, aligned, chain_tree, plain_total, sequences
from torch import Tensor

from kdtool.chain.denominator import HALF, Denominator
from kdtool.chain.dense import DenseGraph, dense_totals
from kdtool.chain.labels import to_chain
from kdtool.chain.numerator import Numerator, Spoken, numerator, spans
from kdtool.chain.phone_lm import estimate
from kdtool.chain.totals import Totals


def denominator(states: int = 3) -> Denominator:
    return Denominator.make(estimate(sequences(), PHONES, order=3, keep=2, states=states), chain_tree())


def chunks(den: Denominator, outputs: int, tolerance: int = 5) -> list[Numerator]:
    """Numerators at several places of several utterances, their begins and ends included."""
    tree, rng, found = chain_tree(), np.random.default_rng(3), []
    for n, phones in enumerate(sequences()[:4]):
        ali = to_chain(aligned(f"u{n}", phones, tree, rng), tree)
        assert not isinstance(ali, str)
        place = np.repeat(np.arange(len(phones)), ali.phone_segments().length)
        spoken = Spoken(np.array(phones), den)
        for start in {-1, 0, 4, max(0, ali.num_frames - 3 * outputs)}:
            one = numerator(spoken, *spans(place, start, outputs, tolerance))
            assert one is not None
            found.append(one)
    return found


def plain(one: Numerator, logits: Tensor) -> Tensor:
    return plain_total(one.arcs[:, :3], one.scores, logits)


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("engine", ["k2", "dense"])
def test_value_and_gradient_are_those_of_a_plain_forward_pass(scale: float, engine: str) -> None:
    den, outputs = denominator(), 6
    nums = chunks(den, outputs)[:5]
    generator = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(len(nums), outputs, den.meta["num_pdfs"], generator=generator)).float().requires_grad_()
    arcs = torch.from_numpy(np.concatenate([n.arcs for n in nums]))
    found = Totals(den, engine)(logits, [outputs] * len(nums), arcs, [len(n.arcs) for n in nums])
    (found[1] - found[0]).sum().backward()
    double = logits.detach().double().requires_grad_()
    expected = (torch.stack([plain(n, x) for n, x in zip(nums, double, strict=True)]),
                torch.stack([plain_total(den.arcs, den.scores, x) for x in double]))  # fmt: skip
    (expected[1] - expected[0]).sum().backward()
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-4)
    assert double.grad is not None and float(double.grad.abs().max()) > 0.01
    assert torch.allclose(logits.grad.double(), double.grad, rtol=0, atol=1e-5)  # type: ignore[union-attr]
    assert torch.allclose(logits.grad.sum(2), torch.zeros(len(nums), outputs), atol=1e-5)  # type: ignore[union-attr]


def test_both_engines_agree_on_chunks_of_different_lengths() -> None:
    den = denominator()
    short, long = chunks(den, 3)[:3], chunks(den, 7)[:2]
    nums, lengths = [*long, *short], [7, 7, 3, 3, 3]
    arcs, sizes = torch.from_numpy(np.concatenate([n.arcs for n in nums])), [len(n.arcs) for n in nums]
    found = []
    for engine in ("k2", "dense"):
        logits = (4 * torch.randn(5, 7, den.meta["num_pdfs"], generator=torch.Generator().manual_seed(3))).requires_grad_()
        num, all_paths = Totals(den, engine)(logits, lengths, arcs, sizes)
        (torch.arange(1, 6) * (all_paths - num)).sum().backward()
        found.append((num, all_paths, logits.grad))
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None and torch.allclose(one, other, rtol=1e-5, atol=1e-5)
    assert float(found[1][2][2:, 3:].abs().max()) == 0.0  # type: ignore[index]


def leaky_total(den: Denominator, logits: Tensor, leak: float) -> Tensor:
    """Sum over all paths of the HMM, which after each output may go on from another state; logits float64 (n, V)."""
    hmm, states = den.hmm, len(den.hmm.loop)
    init = torch.from_numpy(np.exp(hmm.log_init))
    loops = np.flatnonzero(hmm.loop >= 0)
    src, dst, pdf = (torch.from_numpy(np.concatenate([a, b])) for a, b in ((hmm.src, loops), (hmm.dst, loops), (hmm.pdf, hmm.loop[loops])))
    weight = torch.from_numpy(np.exp(np.concatenate([hmm.log_prob, np.full(len(loops), HALF)])))
    alpha = init
    for row in logits:
        new = torch.zeros(states, dtype=torch.float64).index_add(0, dst, alpha[src] * weight * row.exp()[pdf])
        alpha = new + leak * new.sum() * init
    return new.sum().log()


@pytest.mark.parametrize("leak", [0.0, 0.1, 1.0])
def test_a_leaky_denominator_has_the_value_and_gradient_of_a_plain_forward_pass(leak: float) -> None:
    den, lengths = denominator(), [6, 6, 2]
    logits = (3 * torch.randn(3, 6, den.meta["num_pdfs"], generator=torch.Generator().manual_seed(4))).requires_grad_()
    found = dense_totals(logits, DenseGraph(den, logits.device, leak), lengths)
    double = logits.detach().double().requires_grad_()
    expected = torch.stack([leaky_total(den, x[:n], leak) for x, n in zip(double, lengths, strict=True)])
    for totals in (found, expected):
        (torch.arange(1, 4) * totals).sum().backward()
    assert double.grad is not None and torch.allclose(found, expected, rtol=1e-6, atol=1e-5)
    assert torch.allclose(logits.grad.double(), double.grad, rtol=0, atol=1e-5)  # type: ignore[union-attr]
    plain = torch.stack([plain_total(den.arcs, den.scores, x[:n]) for x, n in zip(double, lengths, strict=True)])
    assert bool((expected > plain + 1e-3).all()) if leak else torch.allclose(expected, plain, atol=1e-5)


def test_the_plain_forward_pass_passes_gradcheck() -> None:
    den = denominator(0)
    one = chunks(den, 3)[0]
    logits = torch.randn(3, den.meta["num_pdfs"], dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss: Callable[[Tensor], Tensor] = lambda x: plain_total(den.arcs, den.scores, x) - plain(one, x)  # noqa: E731
    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize("tolerance", [0, 2, 5, 12])
def test_a_numerator_is_never_above_its_denominator_and_grows_with_the_tolerance(tolerance: int) -> None:
    den, outputs = denominator(), 5
    generator = torch.Generator().manual_seed(2)
    for one, wider in zip(chunks(den, outputs, tolerance), chunks(den, outputs, tolerance + 6), strict=True):
        logits = 5 * torch.randn(outputs, den.meta["num_pdfs"], dtype=torch.float64, generator=generator)
        low, high, all_paths = plain(one, logits), plain(wider, logits), plain_total(den.arcs, den.scores, logits)
        assert low <= high + 1e-9 and high <= all_paths + 1e-5


def test_each_path_of_a_numerator_is_the_alignment_moved_by_at_most_the_tolerance() -> None:
    den = denominator()
    phones = sequences()[0]
    lengths = [6] * len(phones)
    place = np.repeat(np.arange(len(phones)), lengths)
    spoken = Spoken(np.array(phones), den)
    one = numerator(spoken, *spans(place, 0, len(place) // 3, 3))
    assert one is not None
    paths: list[list[int]] = []
    following: dict[int, list[tuple[int, int]]] = {}
    for src, dst, label, _ in one.arcs.tolist():
        following.setdefault(src, []).append((dst, label))

    def go(state: int, labels: list[int]) -> None:
        for dst, label in following[state]:
            paths.append(labels) if label == -1 else go(dst, [*labels, label])

    go(0, [])
    expected = set()
    for moves in itertools.product((-1, 0, 1), repeat=len(phones) - 1):  # each border may be one output earlier or later
        borders = [0, *(2 * (i + 1) + m for i, m in enumerate(moves)), 2 * len(phones)]
        if all(b > a for a, b in itertools.pairwise(borders)):
            line = [[spoken.first[i], *[spoken.loop[i]] * (borders[i + 1] - borders[i] - 1)] for i in range(len(phones))]
            expected.add(tuple(int(x) for x in itertools.chain.from_iterable(line)))
    found = {tuple(p) for p in paths}
    assert expected <= found
    # What the first output may be besides a phone's first: the same phone's middle, as chunks may begin anywhere.
    assert {(int(spoken.first[0]), *p[1:]) for p in found} == expected


def test_phones_that_the_denominator_does_not_know_have_no_path() -> None:
    den = Denominator.make(estimate([[1, 2, 3, 1], [1, 3, 2, 1]], PHONES, states=0), chain_tree())
    spoken, place = Spoken(np.array([1, 2, 2, 1]), den), np.repeat(np.arange(4), 6)
    assert spoken.unknown() == 2 and Spoken(np.array([1, 2, 3, 1]), den).unknown() == -1
    assert numerator(spoken, *spans(place, 0, 8, 3)) is None
    assert numerator(spoken, *spans(place, 0, 2, 0)) is not None  # the silence alone
    crowded = np.minimum(np.arange(6), 3)  # four phones in six frames: two outputs
    assert numerator(Spoken(np.array([1, 2, 3, 1]), den), *spans(crowded, 0, 2, 1)) is None
