"""fMLLR: one affine transform of the features per speaker, which maximises their likelihood under the model (Gales 1998).

In: a speaker's unadapted frames, the pdf of each, a model. Out: float64 statistics; from them a transform (D, D + 1), the
offset in the last column. A prior keeps speakers with few frames near the identity: it counts as N frames of
a speaker for whom the identity is optimal. So no smallest number of frames is needed.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.gmm.em import Sums, posteriors
from kdtool.gmm.model import DiagGmm

PRIOR_FILE = "fmllr_prior.safetensors"
BLOCK = 2048  # frames in one float32 product; the sums over blocks are float64
SWEEPS, CONVERGED = 20, 1e-5  # sweeps over the rows; gain per frame (nats) below which they end


@dataclass
class RowStats(Sums):
    """Sums for one speaker: frames (weighted), g (D, D + 1, D + 1) and k (D, D + 1), all float64. The objective of a transform W is, row by
    row, k W - W g W / 2, and the frames times its log-determinant."""

    frames: float
    g: np.ndarray
    k: np.ndarray

    @classmethod
    def zeros(cls, dim: int) -> "RowStats":
        return cls(0.0, np.zeros((dim, dim + 1, dim + 1)), np.zeros((dim, dim + 1)))

    def add_frames(self, raw: np.ndarray, precision: np.ndarray, target: np.ndarray, weight: np.ndarray) -> None:
        """Unadapted frames (T, D), precision and target from `targets`, weights (T,)."""
        self.frames += float(weight.sum(dtype=np.float64))
        for start in range(0, len(raw), BLOCK):
            block = slice(start, start + BLOCK)
            wide = np.concatenate([raw[block], np.ones((len(raw[block]), 1), np.float32)], axis=1)
            share = weight[block, None].astype(np.float32)
            self.g += weighted_outer(precision[block] * share, wide)
            self.k += (target[block] * share).T @ wide

    def plus(self, other: "RowStats", weight: float) -> "RowStats":
        return RowStats(self.frames + weight * other.frames, self.g + weight * other.g, self.k + weight * other.k)


@dataclass(frozen=True)
class Adaptation:
    """How a model's transforms are estimated. prior: statistics of one frame (`expected`), counted `prior_frames` times;
    silence_weight: of frames aligned to silence."""

    prior: RowStats
    prior_frames: float
    silence_weight: float

    def weights(self, silent: np.ndarray) -> np.ndarray:
        """Weight of each frame, (T,), from whether it is silence."""
        return np.where(silent, self.silence_weight, 1.0)

    def estimate(self, stats: RowStats, speaker: str) -> tuple[np.ndarray, float]:
        """A speaker's transform and its gain over the identity, see `estimate`. Without data (every frame is silence or noise, or without a
        prior too few frames) it is the identity, and a message says so once per process."""
        why = "no frame is speech"
        if stats.frames > 0:
            why = f"{stats.frames:g} frames of speech with a prior of {self.prior_frames:g} determine no transform"
            try:
                with np.errstate(all="ignore"):
                    found = estimate(stats.plus(self.prior, self.prior_frames))
                if np.isfinite(found[0]).all():
                    return found
            except np.linalg.LinAlgError:
                pass
        _say_once(f"note: speaker {speaker}: {why}, so the features stay as they are (identity transform)")
        return identity(len(stats.k)), 0.0

    def save(self, folder: Path) -> None:
        settings = np.array([self.prior_frames, self.silence_weight])
        save_tensors(folder / PRIOR_FILE, {"g": self.prior.g, "k": self.prior.k, "settings": settings})

    @classmethod
    def load(cls, folder: Path) -> "Adaptation":
        t = load_tensors(folder / PRIOR_FILE)
        if set(t) != {"g", "k", "settings"}:
            raise KdError(f"{folder / PRIOR_FILE} holds {', '.join(sorted(t))}, no fMLLR prior; train the model again")
        return cls(RowStats(1.0, t["g"], t["k"]), float(t["settings"][0]), float(t["settings"][1]))


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def accumulate(
    model: DiagGmm, raw: np.ndarray, pdf: np.ndarray, weight: np.ndarray, stats: RowStats,
    *, judge: DiagGmm | None = None, judged: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Add frames to a speaker's statistics; frames of weight 0 (perhaps all) do not count.

    model: adapted-space Gaussians; raw (T, D): unadapted frames; pdf, weight (T,): per frame. The share of each of
    the pdf's Gaussians in a frame comes from `judge` on frames `judged` (default: the model itself on the raw frames);
    both models have the same Gaussians.
    """
    used = np.flatnonzero(weight > 0)
    seen = (raw if judged is None else judged)[used]
    stats.add_frames(raw[used], *targets(model, seen, pdf[used], judge), weight[used])


def targets(model: DiagGmm, judged: np.ndarray, pdf: np.ndarray, judge: DiagGmm | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The target of each frame (T, D) under its pdf's Gaussians: precision and precision times mean, float32 (T, D) each.

    Efficient only for many frames at once: it works pdf by pdf.
    """
    inverse = (1.0 / model.variances).astype(np.float32)
    scaled = (model.means / model.variances).astype(np.float32)
    precision, target = np.empty_like(judged), np.empty_like(judged)
    for frames, gaussians, post, _ in posteriors(judge or model, judged, pdf):
        precision[frames] = post @ inverse[gaussians]
        target[frames] = post @ scaled[gaussians]
    return precision, target


def weighted_outer(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum over t of weights[t, i] x[t] x[t]^T: (T, I) and (T, D) to (I, D, D); each pair of dimensions is computed once."""
    dim = x.shape[1]
    pairs = np.concatenate([x[:, i : i + 1] * x[:, i:] for i in range(dim)], axis=1)
    upper = weights.T @ pairs
    full = np.zeros((weights.shape[1], dim, dim), upper.dtype)
    a, b = np.triu_indices(dim)
    full[:, a, b] = upper
    full[:, b, a] = upper
    return full


def expected(model: DiagGmm, occupancy: np.ndarray) -> RowStats:
    """Statistics of one frame of a speaker who matches the model: the identity is the best transform for them.

    occupancy (num_pdfs,): frames of each pdf, for the pdfs' shares.
    """
    share = model.weights * np.repeat(occupancy, np.diff(model.offsets))
    share = share / share.sum()
    wide = np.concatenate([model.means, np.ones((model.num_gaussians, 1))], axis=1)
    precision = share[:, None] / model.variances
    k = (precision * model.means).T @ wide
    g = weighted_outer(precision, wide)
    index = np.arange(model.dim)
    g[:, index, index] += precision.T @ model.variances
    return RowStats(1.0, g, k)


def objective(stats: RowStats, transform: np.ndarray) -> float:
    """Log-likelihood (nats) of the frames as a function of the transform (D, D or D + 1), up to a constant."""
    quadratic = np.einsum("ij,ijk,ik->", transform, stats.g, transform)
    return float(stats.frames * np.linalg.slogdet(transform[:, : len(transform)])[1] + (stats.k * transform).sum() - 0.5 * quadratic)


def identity(dim: int) -> np.ndarray:
    """The transform that changes nothing, float64 (dim, dim + 1)."""
    return np.eye(dim, dim + 1)


def estimate(total: RowStats) -> tuple[np.ndarray, float]:
    """The best transform float64 (D, D + 1), and its gain over the identity in nats."""
    start = identity(len(total.k))
    if total.frames <= 0:
        return start, 0.0
    inverse = np.linalg.inv(total.g)

    def row(i: int, cofactor: np.ndarray) -> np.ndarray:
        return best_row(inverse[i], total.k[i], cofactor, total.frames)

    return row_by_row(total, start, row, SWEEPS, CONVERGED)


def row_by_row(
    stats: RowStats, w: np.ndarray, best: Callable[[int, np.ndarray], np.ndarray], sweeps: int, least: float
) -> tuple[np.ndarray, float]:
    """Improve a transform (D, D or D + 1) row by row; the first D columns are its matrix. Returns it and the gain in nats.

    best(i, cofactors of row i up to scale): the row that is best with the others fixed. Ends after `sweeps`, or when one gains less than
    `least` per frame.
    """
    dim = len(w)
    start = now = objective(stats, w)
    for _ in range(sweeps):
        before, a_inverse = now, np.linalg.inv(w[:, :dim])
        for i in range(dim):
            row = best(i, a_inverse[:, i])
            change = (row[:dim] - w[i, :dim]) @ a_inverse
            a_inverse -= np.outer(a_inverse[:, i], change) / (1.0 + change[i])
            w[i] = row
        now = objective(stats, w)
        if now - before < least * stats.frames:
            break
    return w, now - start


def best_row(inverse: np.ndarray, k: np.ndarray, cofactor: np.ndarray, frames: float) -> np.ndarray:
    """The row (D + 1,) that is best with the others fixed; cofactor (D,): its cofactors up to scale."""
    p = inverse[:, :-1] @ cofactor
    a, b = cofactor @ p[:-1], p @ k
    root = np.sqrt(b * b + 4.0 * a * frames)
    # Take the better of the two stationary points: the determinant may have either sign.
    steps = ((-b + root) / (2.0 * a), (-b - root) / (2.0 * a))
    step = max(steps, key=lambda s: frames * np.log(abs(s * a + b)) - 0.5 * s * s * a)
    return step * p + inverse @ k
