"""What the GMMs see of an utterance.

In: a FeatureSet of MFCCs (per-speaker normalised). Out: the same with time derivatives, (T, 3 D) for two orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kdtool.features.store import FeatureSet

WINDOW = 2


def add_deltas(feats: np.ndarray, order: int = 2, window: int = WINDOW) -> np.ndarray:
    """Features with their first to `order`-th derivatives beside them.

    feats: (T, D); returns float32 (T, (order + 1) D), contiguous. The regression formula of HTK and Kaldi over `window`
    frames to each side; the edge frames are repeated. Higher orders convolve the window with itself first, so that
    only the original frames are repeated at the edges.
    """
    base = np.arange(-window, window + 1, dtype=np.float64)
    base /= (base**2).sum()
    kernel = np.ones(1)
    parts = [feats.astype(np.float32)]
    for _ in range(order):
        kernel = np.convolve(kernel, base)
        half = len(kernel) // 2
        padded = np.pad(feats, ((half, half), (0, 0)), mode="edge")
        parts.append(sum(w * padded[k : k + len(feats)] for k, w in enumerate(kernel.astype(np.float32))))
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


def gmm_features(features: FeatureSet, utterance: str, deltas: int = 2) -> np.ndarray:
    """Normalised features of one utterance with `deltas` orders of derivatives: float32 (T, (deltas + 1) D)."""
    return add_deltas(features.get(utterance, normalise=True), deltas)
