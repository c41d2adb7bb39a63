"""Decoupled distillation and confidence weights against dense float64 references."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_objectives import V, completed, dense_kl, logits, teacher
from torch import Tensor

from kdtool.core.errors import UsageError
from kdtool.objectives import make_objective
from kdtool.objectives.targets import FrameTargets


def dense_parts(z: Tensor, logp: Tensor, label: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """TCKD, NCKD and p_t of Zhao et al. 2022, written out class by class."""
    p, q = torch.softmax(logp / temperature, 1), torch.softmax(z / temperature, 1)
    target, other, at = [], [], []
    for n, t in enumerate(label.tolist()):
        rest = [v for v in range(z.shape[1]) if v != t]
        pt, qt = p[n, t], q[n, t]
        target.append(pt * (pt / qt).log() + (1 - pt) * ((1 - pt) / (1 - qt)).log())
        ph, qh = p[n, rest] / p[n, rest].sum(), q[n, rest] / q[n, rest].sum()
        other.append((ph * (ph / qh).log()).sum())
        at.append(pt)
    return torch.stack(target), torch.stack(other), torch.stack(at)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "beta": 4.0}, {"alpha": 0.0}])
def test_decoupled_is_the_papers_where_all_is_kept(temperature: float, options: dict[str, float]) -> None:
    dense, post = teacher(4, [V] * 4)
    row, label = torch.tensor([0, 1, 2, 2, 3, 1]), torch.tensor([3, 0, 10, 4, 5, 6])
    z = logits(6)
    loss = make_objective("decoupled", {**options, "temperature": temperature}, auxiliary=True)(z, FrameTargets(label, row, post))
    target, other, _ = dense_parts(z, dense[row], label, temperature)
    want = (options.get("alpha", 1.0) * target + options.get("beta", 1.0) * other) * temperature ** 2
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), z)[0], torch.autograd.grad(want.sum(), z)[0])


def test_the_two_parts_make_up_the_divergence() -> None:
    """Eq. 7: KD = TCKD + (1 - p_t) NCKD."""
    dense, _ = teacher(5, [V] * 5)
    z, label = logits(5).detach(), torch.tensor([0, 1, 2, 3, 4])
    target, other, at = dense_parts(z, dense, label, 2.0)
    torch.testing.assert_close((target + (1 - at) * other) * 4.0, dense_kl(z, dense, 2.0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, V), min_size=1, max_size=5), st.integers(0, 10_000), st.floats(0.5, 5.0))
def test_truncated_parts_are_never_above_those_of_the_completed_teacher(kept: list[int], seed: int, temperature: float) -> None:
    _, post = teacher(len(kept), kept, seed)
    row = torch.arange(len(kept))
    label = torch.randint(V, (len(kept),), generator=torch.Generator().manual_seed(seed))
    z = logits(len(kept), seed + 1).detach()
    target, other, _ = dense_parts(z, completed(post), label, temperature)
    for options, whole in (({"beta": 0.0}, target), ({"alpha": 0.0}, other)):
        loss = make_objective("decoupled", {**options, "temperature": temperature}, auxiliary=True)(z, FrameTargets(label, row, post))
        assert (loss <= whole * temperature ** 2 + 1e-9).all() and (loss >= -1e-9).all()
        if "beta" in options:
            torch.testing.assert_close(loss, whole * temperature ** 2)  # the target's share is known exactly


def test_gradients_and_frames_without_a_target() -> None:
    _, post = teacher(3, [1, 4, V])
    row, label = torch.tensor([0, 1, 2, 1, -1, 0]), torch.tensor([1, 2, 7, -1, 5, 6])
    for name, options in (("decoupled", {"temperature": 2.0, "beta": 3.0}), ("soft", {"confidence": 0.5})):
        objective = make_objective(name, options, auxiliary=True)
        assert torch.autograd.gradcheck(lambda z, f=objective: f(z, FrameTargets(label.clamp(min=0), row, post)), (logits(6),))
    z = logits(6)
    assert make_objective("decoupled", {}, auxiliary=True)(z, FrameTargets(label, row, post)).shape == (4,)
    none = make_objective("decoupled", {}, auxiliary=True)(z, FrameTargets(label, torch.full((6,), -1), post))
    none.sum().backward()
    assert none.shape == (0,) and torch.equal(z.grad, torch.zeros_like(z))  # type: ignore[arg-type]


def test_a_sure_teacher_stays_finite_in_float32() -> None:
    _, post = teacher(1, [V])
    post.logp[0] = -torch.inf
    post.logp[0, 0] = 0.0
    row, label = torch.zeros(1, dtype=torch.int64), post.ids[:1, 0]
    far = torch.full((1, V), -300.0)
    far[0, label] = 0.0
    far.requires_grad_()
    single = type(post)(post.ids, post.logp.float(), post.rest_logp.float())
    loss = make_objective("decoupled", {}, auxiliary=True)(far, FrameTargets(label, row, single))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(far.grad).all()  # type: ignore[arg-type]


def test_confidence_weights_a_frame_by_the_teachers_mass_on_its_unit() -> None:
    dense, post = teacher(3, [4, V, 2])
    row, z = torch.tensor([0, 1, 2, 0]), logits(4).detach()
    label = torch.stack([post.ids[0, 1], torch.tensor(7), post.ids[2, 0], dense[0].argmin()])
    plain = make_objective("soft", {}, auxiliary=True)(z, FrameTargets(label, row, post))
    weighted = make_objective("soft", {"confidence": 2.0}, auxiliary=True)(z, FrameTargets(label, row, post))
    at = completed(post)[row, label].exp()
    torch.testing.assert_close(weighted, plain * at ** 2)


def test_options_out_of_range_are_usage_errors() -> None:
    for name, options in (("decoupled", {"beta": -1.0}), ("decoupled", {"temperature": 0.0}), ("soft", {"confidence": -0.1})):
        with pytest.raises(UsageError, match=next(iter(options))):
            make_objective(name, options, auxiliary=True)
