"""Gaussians: likelihoods and EM against plain formulas, mixtures that grow, deltas, model folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kdtool.core.errors import KdError
from kdtool.gmm.em import (
    MIN_OCCUPANCY,
    Stats,
    accumulate,
    mix_up,
    pdf_occupancies,
    reestimate,
    single_gaussians,
    split_targets,
)
from kdtool.gmm.feats import add_deltas
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool


def random_gmm(rng: np.random.Generator, sizes: tuple[int, ...] = (1, 3, 2, 3), dim: int = 4) -> DiagGmm:
    total = sum(sizes)
    weights = np.concatenate([rng.dirichlet(np.ones(n)) for n in sizes])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return DiagGmm(rng.standard_normal((total, dim)), rng.uniform(0.3, 2.0, (total, dim)), weights, offsets, "t")


def torch_log_likelihood(gmm: DiagGmm, x: np.ndarray) -> np.ndarray:
    """torch.distributions' own answer."""
    d = torch.distributions
    columns = []
    for j in range(gmm.num_pdfs):
        rows = slice(int(gmm.offsets[j]), int(gmm.offsets[j + 1]))
        normal = d.Independent(d.Normal(torch.from_numpy(gmm.means[rows]), torch.from_numpy(gmm.variances[rows]).sqrt()), 1)
        mixture = d.MixtureSameFamily(d.Categorical(torch.from_numpy(gmm.weights[rows])), normal)
        columns.append(mixture.log_prob(torch.from_numpy(x.astype(np.float64))))
    return torch.stack(columns, dim=1).numpy()


def test_log_likelihood_is_that_of_torch_distributions() -> None:
    rng = np.random.default_rng(0)
    gmm, x = random_gmm(rng), rng.standard_normal((20, 4)).astype(np.float32)
    wanted = torch_log_likelihood(gmm, x)
    found = gmm.log_likelihood(x)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    some = np.array([3, 0, 2])
    np.testing.assert_allclose(gmm.log_likelihood(x, some), wanted[:, some], atol=1e-4)
    with pytest.raises(KdError, match="dimension 4"):
        gmm.log_likelihood(x[:, :3])


def test_statistics_are_posterior_weighted_sums() -> None:
    rng = np.random.default_rng(1)
    gmm, x, pdf = random_gmm(rng), rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 4, 30)
    stats = Stats.zeros(gmm.num_gaussians, gmm.dim)
    accumulate(gmm, x[:11], pdf[:11], stats)
    accumulate(gmm, x[11:], pdf[11:], stats)
    gamma, moments, total = np.zeros(9), np.zeros((9, 8)), 0.0
    for frame, j in zip(x.astype(np.float64), pdf, strict=True):
        rows = np.arange(gmm.offsets[j], gmm.offsets[j + 1])
        log_n = -0.5 * (np.log(2 * np.pi * gmm.variances[rows]) + (frame - gmm.means[rows]) ** 2 / gmm.variances[rows]).sum(1)
        joint = gmm.weights[rows] * np.exp(log_n)
        total += np.log(joint.sum())
        gamma[rows] += joint / joint.sum()
        moments[rows] += (joint / joint.sum())[:, None] * np.concatenate([frame**2, frame])
    np.testing.assert_allclose(stats.gamma, gamma, atol=1e-5)
    np.testing.assert_allclose(stats.moments, moments, atol=1e-4)
    assert stats.loglike == pytest.approx(total, abs=1e-3) and stats.frames == 30
    np.testing.assert_allclose(pdf_occupancies(gmm, stats), np.bincount(pdf, minlength=4), atol=1e-5)


def test_em_never_loses_likelihood_and_finds_two_bumps() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(-3, 0.5, (400, 1)), rng.normal(2, 1.0, (1200, 1))]).astype(np.float32)
    pdf = np.zeros(len(x), np.int64)
    stats = Stats(np.array([1600.0]), np.array([[(x.astype(float) ** 2).sum(), x.sum()]]), 0.0, 0)
    floor = np.array([0.01])
    model = single_gaussians(stats, floor, (np.zeros(1), np.ones(1)), "t")
    assert model.means[0, 0] == pytest.approx(x.mean(), abs=1e-5) and model.variances[0, 0] == pytest.approx(x.var(), rel=1e-4)
    model = mix_up(model, np.array([1600.0]), 2, power=0.25, min_count=20.0, rng=np.random.default_rng(0))
    before = -np.inf
    for _ in range(40):
        stats = Stats.zeros(model.num_gaussians, 1)
        accumulate(model, x, pdf, stats)
        assert stats.loglike > before - 1e-2
        before = stats.loglike
        model = reestimate(model, stats, floor)
    order = np.argsort(model.means[:, 0])
    np.testing.assert_allclose(model.means[order, 0], [-3, 2], atol=0.1)
    np.testing.assert_allclose(model.weights[order], [0.25, 0.75], atol=0.02)
    np.testing.assert_allclose(model.variances[order, 0], [0.25, 1.0], rtol=0.15)


def test_starving_gaussians_go_but_never_a_pdfs_last() -> None:
    gmm = random_gmm(np.random.default_rng(3), (2, 2, 1))
    stats = Stats(np.array([100.0, MIN_OCCUPANCY - 1, 0.0, 0.0, 50.0]), np.ones((5, 8)) * 60, 0.0, 0)
    after = reestimate(gmm, stats, np.full(4, 0.01))
    assert np.diff(after.offsets).tolist() == [1, 1, 1]
    np.testing.assert_allclose(after.weights, 1.0)
    np.testing.assert_array_equal(after.means[1], gmm.means[2])  # not one frame: stays as it was
    assert (after.variances >= 0.01).all()


def test_gaussians_go_by_occupancy_and_never_thinner_than_asked() -> None:
    targets = split_targets(np.array([100000.0, 1000.0, 1000.0, 30.0, 0.0]), 20, 0.25, 20.0)
    assert targets.sum() == 20 and targets[0] > targets[1] >= 2
    assert abs(int(targets[1]) - int(targets[2])) <= 1 and targets[3:].tolist() == [1, 1]
    assert split_targets(np.array([100.0]), 50, 0.25, 20.0).tolist() == [5]
    gmm = random_gmm(np.random.default_rng(4))
    grown = mix_up(gmm, np.full(4, 1e4), 20, power=0.25, min_count=20.0, rng=np.random.default_rng(0))
    same = mix_up(gmm, np.full(4, 1e4), 20, power=0.25, min_count=20.0, rng=np.random.default_rng(0))
    assert grown.num_gaussians == 20
    np.testing.assert_array_equal(grown.means, same.means)
    np.testing.assert_allclose(np.add.reduceat(grown.weights, grown.offsets[:-1]), 1.0)


def test_deltas_are_torchaudios_regression_formula() -> None:
    x = np.random.default_rng(5).standard_normal((12, 3)).astype(np.float32)
    full = add_deltas(x)
    assert full.shape == (12, 9) and full.dtype == np.float32
    np.testing.assert_array_equal(full[:, :3], x)
    kernel = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 5) / 10
    padded = torch.nn.functional.pad(torch.from_numpy(x.T)[:, None], (2, 2), mode="replicate")
    first = torch.nn.functional.conv1d(padded, kernel)[:, 0].T.numpy()
    np.testing.assert_allclose(full[:, 3:6], first, atol=1e-5)
    wide = torch.nn.functional.pad(torch.from_numpy(x.T)[:, None], (4, 4), mode="replicate")
    second = torch.nn.functional.conv1d(torch.nn.functional.conv1d(wide, kernel), kernel)[:, 0].T.numpy()
    np.testing.assert_allclose(full[:, 6:], second, atol=1e-5)
    ramp = add_deltas(np.arange(10, dtype=np.float32)[:, None])
    np.testing.assert_allclose(ramp[4:6, 1:], [[1, 0], [1, 0]], atol=1e-6)


def test_model_file_round_trip_and_damage(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    gmm, x = random_gmm(rng), rng.standard_normal((5, 4)).astype(np.float32)
    gmm.save(tmp_path)
    again = DiagGmm.load(tmp_path)
    assert again.tree_digest == "t"
    np.testing.assert_allclose(again.log_likelihood(x), gmm.log_likelihood(x), atol=1e-4)
    path = tmp_path / "gmm.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(KdError, match=r"gmm\.safetensors"):
        DiagGmm.load(tmp_path)


def test_models_that_cannot_be() -> None:
    with pytest.raises(KdError, match="without Gaussians"):
        DiagGmm(np.zeros((1, 2)), np.ones((1, 2)), np.ones(1), np.array([0, 0, 1]))
    with pytest.raises(KdError, match="not a number"):
        DiagGmm(np.full((1, 2), np.nan), np.ones((1, 2)), np.ones(1), np.array([0, 1]))
    with pytest.raises(KdError, match="2 means"):
        DiagGmm(np.zeros((2, 2)), np.ones((2, 2)), np.ones(1), np.array([0, 1]))


class Echo:
    """A shard for the pool's tests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    def say(self, word: str) -> str:
        self.calls += 1
        if word == "fail" and self.name == "b":
            raise KdError("b: failed; fix it")
        return f"{self.name}{self.calls}{word}"


def test_pool_keeps_state_and_the_order_of_shards() -> None:
    with ShardPool(Echo, [("a",), ("b",), ("c",)], nj=2) as pool:
        assert pool.call("say", "x") == ["a1x", "b1x", "c1x"]
        assert pool.call("say", "y") == ["a2y", "b2y", "c2y"]
        with pytest.raises(KdError, match="b: failed; fix it"):
            pool.call("say", "fail")


def test_a_killed_worker_is_an_error_and_no_worker_outlives_the_pool() -> None:
    with ShardPool(Echo, [("a",), ("b",)], nj=2) as pool:
        workers = pool._workers
        pool.call("say", "x")
        workers[1].kill()
        workers[1].join()
        with pytest.raises(KdError, match="worker process died"):
            pool.call("say", "y")
    assert not any(w.is_alive() for w in workers)


PARENT = """
import time
from kdtool.gmm.pool import ShardPool
from pathlib import PurePath
if __name__ == "__main__":
    with ShardPool(PurePath, [("a",), ("b",)], nj=2) as pool:
        pool.call("as_posix")
        print(*(w.pid for w in pool._workers), flush=True)
        time.sleep(600)
"""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = str(Path(__file__).resolve().parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": root}
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(running(w) for w in workers)
    parent.send_signal(how)
    parent.wait(240)
    limit = time.monotonic() + 240
    while any(running(w) for w in workers) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(running(w) for w in workers)
