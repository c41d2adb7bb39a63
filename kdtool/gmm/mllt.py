"""MLLT (semi-tied covariances): the square matrix after which diagonal covariances fit best (Gales 1999).

In: frames with their pdfs, a model. Out: float64 statistics; from their sum the matrix, row by row.
"""

import numpy as np

from kdtool.core.errors import KdError
from kdtool.gmm.em import posteriors
from kdtool.gmm.fmllr import RowStats, row_by_row, weighted_outer
from kdtool.gmm.model import DiagGmm

BLOCK = 4096
SWEEPS, CONVERGED = 100, 1e-7


def zeros(dim: int) -> RowStats:
    """frames; g (D, D, D): g[i] = sum over frames and Gaussians of share / variance[i] times the outer product of (x - mean); k stays 0."""
    return RowStats(0.0, np.zeros((dim, dim, dim)), np.zeros((dim, dim)))


def accumulate(model: DiagGmm, feats: np.ndarray, pdf: np.ndarray, stats: RowStats) -> None:
    """Add frames (T, D) aligned to pdfs (T,); sum of x x^T first, the terms with means by Gaussian."""
    gamma, first = np.zeros(model.num_gaussians), np.zeros((model.num_gaussians, model.dim))
    inverse = 1.0 / model.variances
    precision = np.empty_like(feats)
    for frames, rows, post, _ in posteriors(model, feats, pdf):
        precision[frames] = post @ inverse[rows].astype(np.float32)
        gamma[rows] += post.sum(axis=0, dtype=np.float64)
        first[rows] += post.T @ feats[frames]
    for start in range(0, len(feats), BLOCK):
        stats.g += weighted_outer(precision[start : start + BLOCK], feats[start : start + BLOCK])
    (seen,) = np.nonzero(gamma)
    mean, sums, weight = model.means[seen], first[seen], inverse[seen]
    for i in range(model.dim):
        cross = (sums * weight[:, i, None]).T @ mean
        stats.g[i] += (mean * (gamma[seen] * weight[:, i])[:, None]).T @ mean - cross - cross.T
    stats.frames += len(feats)


def estimate_mllt(stats: RowStats) -> tuple[np.ndarray, float]:
    """The matrix float64 (D, D), and its gain over the identity in nats per frame; KdError when the frames do not determine one."""
    try:
        inverse = np.linalg.inv(stats.g)
    except np.linalg.LinAlgError as e:
        raise KdError(f"MLLT: {stats.frames:.0f} frames of speech determine no matrix of {len(stats.g)} dimensions; align more data") from e

    def row(i: int, cofactor: np.ndarray) -> np.ndarray:
        cofactor = cofactor.copy()
        direction: np.ndarray = inverse[i] @ cofactor
        return direction * np.sqrt(stats.frames / (cofactor @ direction))

    matrix, gain = row_by_row(stats, np.eye(len(stats.g)), row, SWEEPS, CONVERGED)
    return matrix, gain / stats.frames
