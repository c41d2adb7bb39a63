"""LDA, MLLT and fMLLR against plain formulas, and the SAT steps on synthetic speakers whose distortion is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import gmm_data
import numpy as np
import pytest
import scipy.linalg
from test_ali_steps import perfect_gmm
from test_decode_scoring import random_lattice
from test_gmm import random_gmm

from kdtool.ali import align
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json
from kdtool.core.tensors import load_tensors
from kdtool.decode.adapt import PRUNE
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.system import read_system
from kdtool.gmm import fmllr, mllt, train_lda_mllt, train_sat
from kdtool.gmm.feats import log_det, splice, transform_features
from kdtool.gmm.folder import open_gmm
from kdtool.gmm.lda import LdaStats, estimate_lda
from kdtool.gmm.model import DiagGmm
from kdtool.graph.lattice import pdf_posteriors
from kdtool.lang.lang import Lang

DIM = 4


def sample(rng: np.random.Generator, model: DiagGmm, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, D) that the model says and their pdfs."""
    pdf = rng.integers(0, model.num_pdfs, frames)
    first, last = model.offsets[pdf], model.offsets[pdf + 1]
    which = [rng.choice(np.arange(a, b), p=model.weights[a:b]) for a, b in zip(first, last, strict=True)]
    x = model.means[which] + np.sqrt(model.variances[which]) * rng.standard_normal((frames, model.dim))
    return x.astype(np.float32), pdf


def stats_of(model: DiagGmm, x: np.ndarray, pdf: np.ndarray) -> fmllr.RowStats:
    stats = fmllr.RowStats.zeros(model.dim)
    fmllr.accumulate(model, x, pdf, np.ones(len(x)), stats)
    return stats


def loglike(model: DiagGmm, x: np.ndarray, pdf: np.ndarray) -> float:
    return float(model.log_likelihood(x)[np.arange(len(x)), pdf].sum(dtype=np.float64))


def test_fmllr_undoes_a_known_affine_map() -> None:
    rng = np.random.default_rng(0)
    model = random_gmm(rng, (1,) * 12, DIM)
    x, pdf = sample(rng, model, 20000)
    turn, shift = np.eye(DIM) + 0.3 * rng.standard_normal((DIM, DIM)), rng.standard_normal(DIM)
    heard = (x @ turn.T + shift).astype(np.float32)
    w, gain = fmllr.estimate(stats_of(model, heard, pdf))
    back = np.linalg.inv(turn)
    np.testing.assert_allclose(w[:, :-1], back, atol=0.05)
    np.testing.assert_allclose(w[:, -1], -back @ shift, atol=0.05)
    # The gain is the likelihood's, determinant included: single Gaussians make the auxiliary function exact.
    after = loglike(model, transform_features(w, heard), pdf) + len(x) * log_det(w)
    assert after - loglike(model, heard, pdf) == pytest.approx(gain, rel=1e-3)


def test_fmllr_never_loses_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    model = random_gmm(rng, (2, 3, 1, 2), DIM)
    heard = rng.standard_normal((60, DIM)).astype(np.float32)
    stats = stats_of(model, heard, rng.integers(0, 4, 60))
    values = []
    for sweeps in range(12):
        monkeypatch.setattr(fmllr, "SWEEPS", sweeps)
        values.append(fmllr.objective(stats, fmllr.estimate(stats)[0]))
    assert np.all(np.diff(values) >= -1e-9) and values[-1] > values[0]
    # A point where no row can be bettered has no slope: against numerical differences.
    monkeypatch.setattr(fmllr, "SWEEPS", 500)
    monkeypatch.setattr(fmllr, "CONVERGED", 1e-12)
    w, _ = fmllr.estimate(stats)
    for i, j in itertools.product(range(DIM), range(DIM + 1)):
        step = np.zeros_like(w)
        step[i, j] = 1e-4
        slope = (fmllr.objective(stats, w + step) - fmllr.objective(stats, w - step)) / 2e-4
        assert abs(slope) < 1e-2


def test_fmllr_statistics_are_the_formulas_in_float64() -> None:
    rng = np.random.default_rng(2)
    model, x, pdf = random_gmm(rng, dim=DIM), rng.standard_normal((40, DIM)).astype(np.float32), rng.integers(0, 4, 40)
    weight = rng.random(40) * (rng.random(40) < 0.8)
    stats = fmllr.RowStats.zeros(DIM)
    fmllr.accumulate(model, x, pdf, weight, stats)
    g, k = np.zeros((DIM, DIM + 1, DIM + 1)), np.zeros((DIM, DIM + 1))
    for frame, j, w in zip(x.astype(np.float64), pdf, weight, strict=True):
        wide = np.append(frame, 1.0)
        rows = np.arange(model.offsets[j], model.offsets[j + 1])
        log_n = -0.5 * (np.log(2 * np.pi * model.variances[rows]) + (frame - model.means[rows]) ** 2 / model.variances[rows]).sum(1)
        post = model.weights[rows] * np.exp(log_n)
        for share, m in zip(w * post / post.sum(), rows, strict=True):
            g += (share / model.variances[m])[:, None, None] * np.outer(wide, wide)
            k += np.outer(share * model.means[m] / model.variances[m], wide)
    np.testing.assert_allclose(stats.g, g, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(stats.k, k, rtol=1e-4, atol=1e-4)
    assert stats.frames == pytest.approx(weight.sum())


def test_few_frames_stay_near_the_identity() -> None:
    rng = np.random.default_rng(3)
    model = random_gmm(rng, (3,) * 10, DIM)
    prior = fmllr.expected(model, np.full(10, 7.0))
    same = fmllr.identity(DIM)
    np.testing.assert_allclose(fmllr.estimate(prior)[0], same, atol=1e-9)
    # The prior is what many frames of the model itself come to.
    x, pdf = sample(rng, model, 40000)
    many = stats_of(model, x, pdf)
    np.testing.assert_allclose(many.g / many.frames, prior.g, atol=0.2)
    how = fmllr.Adaptation(prior, 200.0, 0.0)
    np.testing.assert_allclose(how.estimate(fmllr.RowStats.zeros(DIM), "s")[0], same, atol=1e-9)
    heard = x[:1000] * 1.5 + 1.0
    far = [np.abs(how.estimate(stats_of(model, heard[:n], pdf[:n]), "s")[0] - same).max() for n in (3, 30, 1000)]
    assert far[0] < far[1] < far[2] and far[0] < 0.2
    assert how.weights(np.array([True, False])).tolist() == [0.0, 1.0]


def test_lda_is_scipys_generalised_eigenproblem() -> None:
    rng = np.random.default_rng(4)
    label = rng.integers(0, 7, 3000)
    x = (3 * rng.standard_normal((7, 10))[label] + rng.standard_normal((3000, 10)) @ rng.standard_normal((10, 10))).astype(np.float32)
    stats, part = LdaStats.zeros(8, 10), LdaStats.zeros(8, 10)
    stats.accumulate(x[:1000], label[:1000])
    part.accumulate(x[1000:], label[1000:])
    stats.add(part)
    found = estimate_lda(stats, 5)
    wide = x.astype(np.float64)
    means = np.stack([wide[label == c].mean(axis=0) for c in range(7)])[label]
    within, between = np.cov((wide - means).T, bias=True), np.cov(means.T, bias=True)
    _, vectors = scipy.linalg.eigh(between, within)
    for row, wanted in zip(found, vectors.T[::-1], strict=False):
        np.testing.assert_allclose(row, wanted * np.sign(row @ wanted), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found @ within @ found.T, np.eye(5), atol=1e-6)
    with pytest.raises(KdError, match="11 dimensions of 10"):
        estimate_lda(stats, 11)
    dead = LdaStats.zeros(8, 10)
    dead.accumulate(np.concatenate([x[:, :9], np.ones((3000, 1), np.float32)], axis=1), label)
    with pytest.raises(KdError, match="singular"):
        estimate_lda(dead, 5)


def test_mllt_statistics_and_gain() -> None:
    rng = np.random.default_rng(5)
    model, x, pdf = random_gmm(rng, dim=DIM), rng.standard_normal((50, DIM)).astype(np.float32), rng.integers(0, 4, 50)
    stats = mllt.zeros(DIM)
    mllt.accumulate(model, x, pdf, stats)
    g = np.zeros((DIM, DIM, DIM))
    for frame, j in zip(x.astype(np.float64), pdf, strict=True):
        rows = np.arange(model.offsets[j], model.offsets[j + 1])
        log_n = -0.5 * (np.log(2 * np.pi * model.variances[rows]) + (frame - model.means[rows]) ** 2 / model.variances[rows]).sum(1)
        post = model.weights[rows] * np.exp(log_n)
        for share, m in zip(post / post.sum(), rows, strict=True):
            off = frame - model.means[m]
            g += (share / model.variances[m])[:, None, None] * np.outer(off, off)
    np.testing.assert_allclose(stats.g, g, rtol=1e-3, atol=1e-3)


def test_mllt_never_loses_and_makes_covariances_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    model = DiagGmm(np.zeros((1, DIM)), np.ones((1, DIM)), np.ones(1), np.array([0, 1]))
    x = (rng.standard_normal((5000, DIM)) @ rng.standard_normal((DIM, DIM))).astype(np.float32)
    stats = mllt.zeros(DIM)
    mllt.accumulate(model, x, np.zeros(5000, np.int64), stats)
    values = []
    for sweeps in range(10):
        monkeypatch.setattr(mllt, "SWEEPS", sweeps)
        values.append(fmllr.objective(stats, mllt.estimate_mllt(stats)[0]))
    assert np.all(np.diff(values) >= -1e-6)
    monkeypatch.setattr(mllt, "SWEEPS", 300)
    turned = x @ mllt.estimate_mllt(stats)[0].T
    np.testing.assert_allclose(turned.T @ turned / 5000, np.eye(DIM), atol=0.02)


def test_splicing_repeats_the_edges() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(splice(x, 1), [[0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 4, 5]])


def test_lattice_posteriors_are_those_of_all_paths() -> None:
    lattice = random_lattice(3, frames=4)
    lattice.pdf = np.where(np.arange(len(lattice.src)) < lattice.first[4], np.arange(len(lattice.src)) % 3, -1)
    weights = np.array([1.0, -0.5, 2.0, 0.1])
    score = lattice.parts @ weights
    mass = np.zeros((4, 3))
    frame = np.searchsorted(lattice.first, np.arange(len(lattice.src)), side="right") - 1

    def walk(state: int, path: list[int]) -> None:
        if state == lattice.num_states - 1:
            for arc in path:
                if lattice.pdf[arc] >= 0:
                    mass[frame[arc], lattice.pdf[arc]] += np.exp(score[path].sum())
            return
        for arc in np.flatnonzero(lattice.src == state):
            walk(int(lattice.dst[arc]), [*path, int(arc)])

    walk(0, [])
    mass /= mass.sum(axis=1, keepdims=True)
    found = np.zeros((4, 3))
    frames, pdf, post = pdf_posteriors(lattice, weights)
    found[frames, pdf] = post
    np.testing.assert_allclose(found, mass, rtol=1e-12)
    found[:] = 0
    frames, pdf, post = pdf_posteriors(lattice, weights, PRUNE)
    found[frames, pdf] = post
    np.testing.assert_allclose(found, mass, atol=0.02)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers, each with a different feature map; s2 has one utterance. The correct alignment as `ali`."""
    root = tmp_path_factory.mktemp("sat")
    gmm_data.write_lang(root / "lang")
    gmm_data.write_features(root / "feats", 40)
    perfect_gmm(root / "gmm", Lang.load(root / "lang"), FeatureSet.open(root / "feats"))
    align.main([str(root / p) for p in ("feats", "lang", "gmm", "ali")])
    rng = np.random.default_rng(7)
    dim = gmm_data.DIM
    maps = {f"s{n}": (np.eye(dim) + 0.15 * rng.standard_normal((dim, dim)), rng.standard_normal(dim)) for n in range(3)}
    for path in sorted((root / "feats" / "storage").iterdir()):
        turn, shift = maps[path.name[:2]]
        np.save(path, (np.load(path) @ turn.T + shift).astype(np.float32))
    return root


def train_both(root: Path, out: Path, nj: int) -> None:
    common = ["--nj", str(nj), "--leaves", "30", "--min-count", "20", "--iterations", "6", "--realign", "[4]", "--gaussians", "40",
              "--grow-until", "3"]  # fmt: skip
    feats, lang = str(root / "feats"), str(root / "lang")
    train_lda_mllt.main([feats, lang, str(root / "ali"), str(out / "lda"), "--context", "1", "--dim", "8", "--mllt", "[2]", *common])
    align.main([feats, lang, str(out / "lda"), str(out / "ali"), "--nj", str(nj)])
    own = ["--fmllr", "[2, 4]", "--prior-frames", "20"]
    train_sat.main([feats, lang, str(out / "ali"), str(out / "lda"), str(out / "sat"), *own, *common])
    align.main([feats, lang, str(out / "sat"), str(out / "ali_sat"), "--nj", str(nj), "--boost-silence", "1.5"])


def test_sat_steps_and_that_jobs_change_nothing(world: Path, tmp_path: Path) -> None:
    train_both(world, tmp_path / "one", 1)
    train_both(world, tmp_path / "two", 2)
    assert [read_system(tmp_path / "one" / n).step for n in ("lda", "sat")] == ["train_lda_mllt", "train_sat"]
    files = {"lda": ("gmm", "transform"), "ali_sat": ("ali", "transforms"), "sat": ("gmm", "gmm_first", "fmllr_prior", "tree", "transform")}
    for name in (f"{folder}/{n}.safetensors" for folder, names in files.items() for n in names):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    gmm = open_gmm(tmp_path / "one" / "sat")
    assert gmm.front.adapted and gmm.front.dim == 8 and gmm.first is not None and gmm.silence.sum() == 6
    assert set(load_tensors(tmp_path / "one" / "ali_sat" / "transforms.safetensors")) == {"s0", "s1", "s2"}
    truth, found = AlignmentSet.open(world / "ali"), AlignmentSet.open(tmp_path / "one" / "ali_sat")
    assert found.ids == truth.ids
    assert np.concatenate([found.get(u).phone == truth.get(u).phone for u in truth.ids]).mean() > 0.97
    # Adapted, the same utterances are likelier, the maps' determinants counted.
    plain, adapted = (read_json(tmp_path / "one" / a / "meta.json")["loglike_per_frame"] for a in ("ali", "ali_sat"))
    assert adapted > plain + 0.5


def test_sat_wants_the_gmm_of_the_alignment(world: Path, tmp_path: Path) -> None:
    train_lda_mllt.main([str(world / p) for p in ("feats", "lang", "ali")] + [str(tmp_path / "lda"), "--iterations", "1", "--context", "1",
                        "--dim", "8", "--leaves", "30", "--min-count", "20", "--realign", "[]"])  # fmt: skip
    with pytest.raises(KdError, match="give the GMM that made the alignment"):
        train_sat.main([str(world / p) for p in ("feats", "lang", "ali")] + [str(tmp_path / "lda"), str(tmp_path / "sat")])
