"""Diagonal-covariance Gaussian mixtures, one per pdf of a tree.

In: means, variances and weights from ``kdtool.gmm.em``. Out: log-likelihoods of frames in nats, and the file ``gmm.safetensors``.
"""

from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_metadata, load_tensors, save_tensors

GMM_FILE = "gmm.safetensors"
CHUNK = 512  # frames scored at a time: keeps the scores of all Gaussians in the processor's cache


class DiagGmm:
    """Gaussians of all pdfs, concatenated: pdf j owns rows offsets[j] to offsets[j + 1].

    means, variances: (G, D) float64; weights: (G,) float64, summing to 1 within a pdf; offsets: int64 (num_pdfs + 1,).
    """

    TENSORS = frozenset({"means", "inv_vars", "log_weights", "offsets"})

    def __init__(self, means: np.ndarray, variances: np.ndarray, weights: np.ndarray, offsets: np.ndarray, tree_digest: str = "") -> None:
        self.means, self.variances = means.astype(np.float64), variances.astype(np.float64)
        self.weights, self.offsets = weights.astype(np.float64), offsets.astype(np.int64)
        self.tree_digest = tree_digest
        if not (self.means.shape == self.variances.shape and len(self.means) == len(weights) == offsets[-1]):
            raise KdError(f"GMM: {len(means)} means, {len(variances)} variances, {len(weights)} weights, last offset {offsets[-1]}")
        if np.any(np.diff(offsets) < 1) or not np.all(self.variances > 0) or not np.all(np.isfinite(self.means)):
            raise KdError("GMM: a pdf without Gaussians, or a mean or variance that is not a number; train it again")
        # log N(x) = [x^2, x, 1] @ quadratic: one matrix product for all frames and Gaussians.
        inv = 1.0 / self.variances
        const = np.log(self.weights) + 0.5 * (np.log(inv) - self.means**2 * inv - np.log(2 * np.pi)).sum(axis=1)
        self.quadratic = np.concatenate([-0.5 * inv, self.means * inv, const[:, None]], axis=1).T.astype(np.float32)

    @property
    def num_pdfs(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_gaussians(self) -> int:
        return len(self.weights)

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    def log_likelihood(self, feats: np.ndarray, pdfs: np.ndarray | None = None) -> np.ndarray:
        """Log-likelihoods (nats) of frames (T, D) by the given pdfs (None: all), float32 (T, number of pdfs), contiguous."""
        import torch

        if feats.ndim != 2 or feats.shape[1] != self.dim:
            raise KdError(f"GMM of dimension {self.dim} given features of shape {feats.shape}; use the features it was trained on")
        chosen = np.arange(self.num_pdfs) if pdfs is None else np.asarray(pdfs)
        counts = (self.offsets[chosen + 1] - self.offsets[chosen]).astype(np.int64)
        # Pdfs with equal numbers of Gaussians form one dense block: log-sum-exp without ragged indexing.
        order = np.argsort(counts, kind="stable")
        rows = np.concatenate([np.arange(self.offsets[p], self.offsets[p + 1]) for p in chosen[order]])
        sizes, firsts = np.unique(counts[order], return_index=True)
        blocks = list(zip(sizes.tolist(), firsts.tolist(), [*firsts[1:].tolist(), len(order)], strict=True))
        weights = torch.from_numpy(np.ascontiguousarray(self.quadratic[:, rows].T))
        expanded = torch.from_numpy(expand(feats))
        out = np.empty((len(feats), len(chosen)), np.float32)
        buffer = torch.empty((len(rows), min(CHUNK, len(feats))))
        for begin in range(0, len(feats), CHUNK):
            chunk = expanded[begin : begin + CHUNK]
            scores = buffer if len(chunk) == buffer.shape[1] else torch.empty((len(rows), len(chunk)))
            torch.mm(weights, chunk.T, out=scores)
            start = 0
            for size, first, last in blocks:
                stop = start + (last - first) * size
                block = scores.numpy()[start:stop].reshape(last - first, size, len(chunk))
                out[begin : begin + CHUNK, order[first:last]] = _log_sum_exp(block).T
                start = stop
        return out

    def boosted(self, pdfs: np.ndarray, factor: float) -> "DiagGmm":
        """The same with the likelihoods of `pdfs`, bool (num_pdfs,), multiplied by `factor`; itself if the factor is 1."""
        if factor == 1.0:
            return self
        weights = self.weights * np.repeat(np.where(pdfs, factor, 1.0), np.diff(self.offsets))
        return DiagGmm(self.means, self.variances, weights, self.offsets, self.tree_digest)

    def save(self, folder: Path, name: str = GMM_FILE) -> None:
        """Write ``gmm.safetensors``."""
        tensors = {
            "means": self.means.astype(np.float32), "inv_vars": (1.0 / self.variances).astype(np.float32),
            "log_weights": np.log(self.weights).astype(np.float32), "offsets": self.offsets,
        }  # fmt: skip
        save_tensors(Path(folder) / name, tensors, {"tree": self.tree_digest})

    @classmethod
    def load(cls, folder: Path, name: str = GMM_FILE) -> "DiagGmm":
        """Read ``gmm.safetensors``; a missing or foreign file is a KdError."""
        path = Path(folder) / name
        t = load_tensors(path)
        if set(t) != cls.TENSORS:
            raise KdError(f"{path} is not a GMM file (it holds {', '.join(sorted(t))}); train the GMM again")
        weights = np.exp(t["log_weights"].astype(np.float64))
        digest = load_metadata(path).get("tree", "")
        return cls(t["means"], 1.0 / t["inv_vars"].astype(np.float64), weights, t["offsets"], digest)


def _log_sum_exp(block: np.ndarray) -> np.ndarray:
    """Over axis 1 of (N, K, T), in place: numpy's exp was 3 times as fast here as torch.logsumexp, which allocates anew."""
    if block.shape[1] == 1:
        return block[:, 0]
    top = block.max(axis=1)
    block -= top[:, None]
    np.exp(block, out=block)
    total = block.sum(axis=1)
    np.log(total, out=total)
    total += top
    return total


def expand(feats: np.ndarray) -> np.ndarray:
    """[x^2, x, 1] of each frame: float32 (T, 2 D + 1)."""
    out = np.empty((len(feats), 2 * feats.shape[1] + 1), np.float32)
    dim = feats.shape[1]
    np.multiply(feats, feats, out=out[:, :dim])
    out[:, dim : 2 * dim] = feats
    out[:, -1] = 1.0
    return out
