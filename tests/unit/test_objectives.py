"""Losses against dense float64 references made with torch.nn.functional."""
from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtool.core.errors import UsageError
from kdtool.objectives import make_objective
from kdtool.objectives.soft import tempered
from kdtool.objectives.sparse import exp_, truncated_cross_entropy
from kdtool.objectives.targets import FrameTargets, Posteriors

V = 11


def teacher(units: int, kept: list[int], seed: int = 0, v: int = V) -> tuple[torch.Tensor, Posteriors]:
    """Dense log-probabilities (U, V), and the same truncated to the kept[u] best with empty slots at the end."""
    g = torch.Generator().manual_seed(seed)
    dense = torch.log_softmax(2 * torch.randn(units, v, generator=g, dtype=torch.float64), dim=1)
    order = dense.argsort(dim=1, descending=True)
    k = max(kept)
    ids, logp = order[:, :k].clone(), dense.gather(1, order[:, :k])
    rest = torch.full((units,), -torch.inf, dtype=torch.float64)
    for u, n in enumerate(kept):
        ids[u, n:], logp[u, n:] = 0, -torch.inf
        if n < v:
            rest[u] = torch.logsumexp(dense[u, order[u, n:]], 0)
    return dense, Posteriors(ids, logp, rest)


def logits(frames: int, seed: int = 1, v: int = V) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(frames, v, generator=g, dtype=torch.float64)).requires_grad_()


def completed(post: Posteriors, v: int = V) -> torch.Tensor:
    """Dense teacher with the rest spread evenly over what was not kept."""
    dense = torch.full((len(post.ids), v), -torch.inf, dtype=torch.float64)
    for u in range(len(post.ids)):
        keep = post.logp[u] > -torch.inf
        left = v - int(keep.sum())
        if left:
            dense[u] = post.rest_logp[u] - math.log(left)
        dense[u, post.ids[u][keep]] = post.logp[u][keep]
    return dense


def dense_kl(z: torch.Tensor, logp: torch.Tensor, temperature: float) -> torch.Tensor:
    q = F.log_softmax(z / temperature, dim=1)
    p = F.log_softmax(logp / temperature, dim=1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1) * temperature ** 2


def test_cross_entropy_is_torchs_and_skips_frames_without_label() -> None:
    z, labels = logits(6), torch.tensor([3, -1, 0, 10, -1, 5])
    loss = make_objective("ce", {}, auxiliary=False)(z, FrameTargets(labels))
    keep = labels >= 0
    torch.testing.assert_close(loss, F.cross_entropy(z[keep], labels[keep], reduction="none"))
    smooth = make_objective("ce", {"label_smoothing": 0.1}, auxiliary=False)(z, FrameTargets(labels))
    assert not torch.allclose(smooth, loss)
    hard = make_objective("hard", {}, auxiliary=True)(z, FrameTargets(labels))
    torch.testing.assert_close(hard, loss)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_soft_labels_equal_the_dense_kl_when_all_is_kept(temperature: float) -> None:
    dense, post = teacher(4, [V] * 4)
    z = logits(9)
    row = torch.tensor([0, 0, 1, 2, 2, 2, 3, 1, 0])
    loss = make_objective("soft", {"temperature": temperature}, auxiliary=True)(z, FrameTargets(row, row, post))
    torch.testing.assert_close(loss, dense_kl(z, dense[row], temperature))
    (grad,) = torch.autograd.grad(loss.sum(), z)
    (want,) = torch.autograd.grad(dense_kl(z, dense[row], temperature).sum(), z)
    torch.testing.assert_close(grad, want)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, V), min_size=1, max_size=5), st.integers(0, 10_000), st.floats(0.5, 5.0))
def test_truncated_kl_is_never_above_the_dense_one(kept: list[int], seed: int, temperature: float) -> None:
    dense, post = teacher(len(kept), kept, seed)
    row = torch.arange(len(kept))
    z = logits(len(kept), seed + 1)
    soft = make_objective("soft", {"temperature": temperature}, auxiliary=True)(z, FrameTargets(row, row, post))
    assert (soft >= -1e-9).all()
    assert (soft <= dense_kl(z, completed(post), temperature) + 1e-9).all()
    at_one = make_objective("soft", {}, auxiliary=True)(z, FrameTargets(row, row, post))
    assert (at_one <= dense_kl(z, dense, 1.0) + 1e-9).all()


def test_bucket_is_the_mass_that_was_not_kept() -> None:
    """A hand-made case: KL of the K + 1 masses, summed up by hand."""
    dense, post = teacher(1, [3])
    z = logits(1)
    kept = post.ids[0]
    q, p = torch.softmax(z[0], 0), dense[0].exp()
    masses_p = torch.cat([p[kept], (1 - p[kept].sum())[None]])
    masses_q = torch.cat([q[kept], (1 - q[kept].sum())[None]])
    row = torch.zeros(1, dtype=torch.int64)
    loss = make_objective("soft", {}, auxiliary=True)(z, FrameTargets(row, row, post))
    torch.testing.assert_close(loss[0], (masses_p * (masses_p / masses_q).log()).sum())


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_interpolation_is_cross_entropy_with_the_mixed_target(weight: float) -> None:
    dense, post = teacher(3, [V] * 3)
    z, labels = logits(6), torch.tensor([3, 4, 0, 10, -1, 5])
    row = torch.tensor([0, -1, 1, 2, 1, -1])
    loss = make_objective("interpolate", {"weight": weight}, auxiliary=False)(z, FrameTargets(labels, row, post))
    keep = labels >= 0
    target = F.one_hot(labels.clamp(min=0), V).double()
    taught = row >= 0
    target[taught] = (1 - weight) * target[taught] + weight * dense[row[taught]].exp()
    want = F.cross_entropy(z[keep], target[keep], reduction="none")
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), z)[0], torch.autograd.grad(want.sum(), z)[0])


def test_gradcheck() -> None:
    _, post = teacher(3, [1, 4, V])
    row = torch.tensor([0, 1, 2, 1, -1, 0])
    labels = torch.tensor([1, 2, -1, 4, 5, 6])
    for name, options in (("soft", {"temperature": 2.0}), ("soft", {"entropy_scale": 0.5})):
        soft = make_objective(name, options, auxiliary=True)
        assert torch.autograd.gradcheck(lambda z, f=soft: f(z, FrameTargets(labels, row, post)), (logits(6),))
    mixed = make_objective("interpolate", {"weight": 0.4}, auxiliary=False)
    assert torch.autograd.gradcheck(lambda z: mixed(z, FrameTargets(labels, row, post)), (logits(6),))


def test_entropy_scale_weights_confident_teachers_more() -> None:
    _, post = teacher(2, [V, V])
    sure = torch.full((1, V), -torch.inf, dtype=torch.float64)
    sure[0, 0] = 0.0
    post = Posteriors(torch.arange(V).repeat(2, 1), torch.cat([torch.full((1, V), -math.log(V)).double(), sure]),
                      torch.full((2,), -torch.inf, dtype=torch.float64))
    row, z = torch.tensor([0, 1]), logits(2)
    plain = make_objective("soft", {}, auxiliary=True)(z, FrameTargets(row, row, post))
    scaled = make_objective("soft", {"entropy_scale": 1.0}, auxiliary=True)(z, FrameTargets(row, row, post))
    torch.testing.assert_close(scaled[0], torch.zeros_like(scaled[0]))
    torch.testing.assert_close(scaled[1], plain[1])


def test_no_frame_with_a_target_gives_an_empty_loss_with_a_gradient() -> None:
    _, post = teacher(1, [3])
    row, z = torch.tensor([-1, -1]), logits(2)
    loss = make_objective("soft", {}, auxiliary=True)(z, FrameTargets(row, row, post))
    assert loss.shape == (0,)
    loss.sum().backward()
    assert torch.equal(z.grad, torch.zeros_like(z))  # type: ignore[arg-type]
    plain = make_objective("interpolate", {"weight": 0.5}, auxiliary=False)(z, FrameTargets(torch.tensor([1, 2]), row, post))
    torch.testing.assert_close(plain, F.cross_entropy(z, torch.tensor([1, 2]), reduction="none"))


def test_minus_infinity_and_far_logits_stay_finite() -> None:
    _, post = teacher(1, [V])
    post.logp[0, -1] = -torch.inf  # an impossible unit: empty slot, and the student gives it no mass either
    z = logits(1).detach()
    z[0, post.ids[0, -1]] = -torch.inf
    z.requires_grad_()
    row = torch.zeros(1, dtype=torch.int64)
    loss = make_objective("soft", {}, auxiliary=True)(z, FrameTargets(row, row, post))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(z.grad).all()  # type: ignore[arg-type]
    _, cut = teacher(1, [2])
    far = torch.full((1, V), -400.0, dtype=torch.float32)
    far[0, cut.ids[0]] = 0.0
    far.requires_grad_()
    single = Posteriors(cut.ids, cut.logp.float(), cut.rest_logp.float())
    loss = make_objective("soft", {}, auxiliary=True)(far, FrameTargets(row, row, single))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(far.grad).all()  # type: ignore[arg-type]


def test_a_small_rest_does_not_cancel_in_float32() -> None:
    ids, logp = torch.tensor([[0]]), torch.log(torch.tensor([[0.5]]))
    z = torch.zeros(1, 50)
    z[0, 0] = 25.0
    mass, rest, _ = tempered(Posteriors(ids, logp, logp[:, 0]), 50, 1.0)
    loss = truncated_cross_entropy(z, torch.zeros(1, dtype=torch.int64), ids, mass, rest)
    want = truncated_cross_entropy(z.double(), torch.zeros(1, dtype=torch.int64), ids, mass.double(), rest.double())
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=1e-5)


def test_unknown_objective_and_options_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="no objective for an auxiliary head 'sof'"):
        make_objective("sof", {}, auxiliary=True)
    with pytest.raises(UsageError, match="temperature"):
        make_objective("soft", {"temperature": 0.0}, auxiliary=True)
    with pytest.raises(UsageError, match="temprature"):
        make_objective("soft", {"temprature": 1.0}, auxiliary=True)


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"entropy_scale": 0.5, "confidence": 0.5}])
def test_consumed_logits_give_the_same_loss_and_become_the_gradient(options: dict[str, float]) -> None:
    _, post = teacher(3, [1, 4, V])
    row, labels = torch.tensor([0, -1, 2, 1, -1, 0]), torch.tensor([1, -1, 2, 4, -1, 6])
    soft = make_objective("soft", options, auxiliary=True)
    z, weights = logits(6), torch.tensor([0.3, 1.0, -2.0, 0.5], dtype=torch.float64)
    want = soft(z, FrameTargets(labels, row, post))
    (gradient,) = torch.autograd.grad((want * weights).sum(), z)
    assert torch.equal(gradient[row < 0], torch.zeros(2, V, dtype=torch.float64))
    own = z.clone()
    loss = soft.consume(own, FrameTargets(labels, row, post))  # type: ignore[attr-defined]
    torch.testing.assert_close(loss, want, rtol=0, atol=0)
    (again,) = torch.autograd.grad((loss * weights).sum(), z, retain_graph=True)
    torch.testing.assert_close(again, gradient, rtol=0, atol=0)
    assert own.data_ptr() == again.data_ptr()  # no second buffer of that size
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()  # rather than a wrong gradient


def test_whoever_else_needs_consumed_logits_is_told() -> None:
    _, post = teacher(1, [3])
    row, z = torch.zeros(2, dtype=torch.int64), logits(2)
    own = z.clone()
    other = own.square().sum()  # needs its input to go back
    loss = make_objective("soft", {}, auxiliary=True).consume(own, FrameTargets(row, row, post))  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (other + loss.sum()).backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_exp_in_place_is_torchs(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -1.0, 3.5, -50.0, -torch.inf, 20.0], dtype=dtype)
    want = x.exp()
    assert exp_(x) is x
    torch.testing.assert_close(x, want, rtol=1e-6 if dtype == torch.float32 else None, atol=0.0 if dtype == torch.float32 else None)


@pytest.mark.parametrize(("essence", "kept"), [
    ({"top_k": 1}, lambda p: p.cumsum(0) <= p[0]), ({"top_k": 3}, lambda p: torch.arange(len(p)) < 3),
    ({"top_p": 0.8}, lambda p: p.cumsum(0) - p < 0.8), ({"threshold": 0.1}, lambda p: (p >= 0.1) | (torch.arange(len(p)) == 0)),
    ({"top_k": 2, "threshold": 0.2}, lambda p: (torch.arange(len(p)) == 0) | ((p >= 0.2) & (torch.arange(len(p)) < 2))),
])  # fmt: skip
@pytest.mark.parametrize("rest", ["bucket", "renormalise"])
def test_the_essence_of_a_row_is_what_the_definition_keeps(essence: dict, kept: Callable[[torch.Tensor], torch.Tensor], rest: str) -> None:
    """Against dense float64 sums, row by row."""
    dense, post = teacher(5, [V, 7, 4, 9, 1])
    z, row, labels = logits(5), torch.arange(5), torch.tensor([3, 1, 0, 10, 2])
    soft = make_objective("soft", {"essence": {**essence, "rest": rest}}, auxiliary=True)(z, FrameTargets(row, row, post))
    mixed = make_objective("interpolate", {"weight": 0.4, "essence": {**essence, "rest": rest}}, auxiliary=False)(
        z, FrameTargets(labels, row, post))  # fmt: skip
    for u in range(5):
        own = post.logp[u] > -torch.inf
        ids = post.ids[u][own]
        ids = ids[kept(dense[u, ids].exp())]
        p, q = dense[u].exp()[ids], torch.softmax(z[u].detach(), 0)
        if rest == "renormalise":
            p, other = p / p.sum(), torch.zeros(())
        else:
            other = 1 - p.sum()
        left = 1 - q[ids].sum()
        cross = -(p * q[ids].log()).sum() - (other * left.log() if other > 1e-12 else 0.0)
        entropy = -(p * p.log()).sum() - (other * other.log() if other > 1e-12 else 0.0)
        torch.testing.assert_close(soft[u].detach(), (cross - entropy).double())
        torch.testing.assert_close(mixed[u].detach(), (0.6 * -q[labels[u]].log() + 0.4 * cross).double())
    assert torch.autograd.gradcheck(lambda z: make_objective("soft", {"essence": {**essence, "rest": rest}}, auxiliary=True)(
        z, FrameTargets(row, row, post)), (z,))  # fmt: skip


def test_a_wrong_essence_is_named() -> None:
    for wrong in ({"top_p": 0}, {"threshold": 1}, {"rest": "spread"}, {"best": 3}):
        with pytest.raises(UsageError, match="objective 'soft' of an auxiliary head"):
            make_objective("soft", {"essence": wrong}, auxiliary=True)
