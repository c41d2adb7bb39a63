"""Statistics that the tree is grown from.  In: the context and the features of each frame.  Out: ``TreeStats``, and sums of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.tree import Tree
from kdtool.gmm.em import Stats


@dataclass
class TreeStats:
    """Sums by context: keys int64 (N, 4) = left, centre, right, state; count (N,), moments (N, 2 D) of [x^2, x], float64."""

    keys: np.ndarray
    count: np.ndarray
    moments: np.ndarray


def group(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct keys (N, 4), an order that puts equal ones together, and where each begins in it."""
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    return unique, np.argsort(inverse, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(inverse))[:-1]])


def frame_stats(keys: np.ndarray, feats: np.ndarray) -> TreeStats:
    """Sums of frames: keys (T, 4), feats (T, D)."""
    unique, order, starts = group(keys)
    x = feats[order].astype(np.float64)
    moments = np.concatenate([np.add.reduceat(x**2, starts), np.add.reduceat(x, starts)], axis=1)
    return TreeStats(unique.astype(np.int64), np.diff(starts, append=len(x)).astype(np.float64), moments)


def merge_stats(parts: Sequence[TreeStats | None]) -> TreeStats:
    """Sum statistics (in their order) by context; None: a shard without utterances."""
    some = [p for p in parts if p is not None]
    if not some:
        raise KdError("no statistics for the tree: the alignments share no utterance with the features")
    unique, order, starts = group(np.concatenate([p.keys for p in some]))
    count = np.add.reduceat(np.concatenate([p.count for p in some])[order], starts)
    return TreeStats(unique, count, np.add.reduceat(np.concatenate([p.moments for p in some])[order], starts, axis=0))


def first_stats(tree: Tree, stats: TreeStats) -> Stats:
    """Statistics of one Gaussian per leaf, from the tree's."""
    pdf = tree.pdf_map[tuple(stats.keys.T)]
    leaves = Stats.zeros(tree.num_pdfs, stats.moments.shape[1] // 2)
    np.add.at(leaves.gamma, pdf, stats.count)
    np.add.at(leaves.moments, pdf, stats.moments)
    return leaves
