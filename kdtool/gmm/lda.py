"""LDA: the projection that best separates tied states.

In: sums over frames by class. Out: a matrix (D, spliced dimension) in whose space frames of one class have covariance 1.
"""

from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError
from kdtool.gmm.em import Sums


@dataclass
class LdaStats(Sums):
    """count (C,), first (C, N) sums of x by class; second (N, N) sum of x x^T over all classes; float64."""

    count: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def zeros(cls, classes: int, dim: int) -> "LdaStats":
        return cls(np.zeros(classes), np.zeros((classes, dim)), np.zeros((dim, dim)))

    def accumulate(self, feats: np.ndarray, label: np.ndarray) -> None:
        """Add frames (T, N) of classes (T,)."""
        wide = feats.astype(np.float64)
        self.count += np.bincount(label, minlength=len(self.count))
        order = np.argsort(label, kind="stable")
        classes, starts = np.unique(label[order], return_index=True)
        self.first[classes] += np.add.reduceat(wide[order], starts)
        self.second += wide.T @ wide


def estimate_lda(stats: LdaStats, dim: int) -> np.ndarray:
    """Matrix float64 (dim, N): eigenvectors of between-class against within-class covariance, the largest first.

    Raises:
        KdError: fewer dimensions or classes than required, or linearly dependent coefficients.
    """
    frames, (seen,) = stats.count.sum(), np.nonzero(stats.count)
    size = len(stats.second)
    if dim > size or len(seen) < 2:
        raise KdError(f"LDA to {dim} dimensions of {size} with {len(seen)} classes seen: ask for fewer dimensions, or align more data")
    means = stats.first[seen] / stats.count[seen, None]
    centre = stats.first.sum(axis=0) / frames
    outer = (means * stats.count[seen, None]).T @ means
    within = (stats.second - outer) / frames
    between = outer / frames - np.outer(centre, centre)
    try:
        lower = np.linalg.cholesky(within)
    except np.linalg.LinAlgError as e:
        raise KdError(f"LDA: the within-class covariance of {frames:.0f} frames in {size} dimensions is singular; "
                      "is a coefficient constant, or is there too little data?") from e  # fmt: skip
    half = np.linalg.solve(lower, np.linalg.solve(lower, between).T)
    values, vectors = np.linalg.eigh((half + half.T) / 2)
    best = np.argsort(-values, kind="stable")[:dim]
    matrix = np.linalg.solve(lower.T, vectors[:, best]).T
    # An eigenvector's sign is free: the largest coefficient is made positive, for reproducibility.
    return matrix * np.sign(matrix[np.arange(dim), np.abs(matrix).argmax(axis=1)])[:, None]
