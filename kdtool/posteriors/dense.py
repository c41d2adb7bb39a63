"""What export makes, and dense arrays of frames.  In: posteriors of an utterance.  Out: (frames, units) log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kdtool.posteriors.dump import UnitPosteriors


@dataclass(frozen=True)
class ExportConfig:
    """Options of export."""

    format: str = field(default="safetensors", metadata={"help": "safetensors (one file per shard), npy (one file per utterance), "
                                                         "arrow (one table of what was kept), lhotse (cuts with a field for each dump)"})
    dtype: str = field(default="float16", metadata={"help": "of log-probabilities in dense arrays: float16 or float32"})
    frames: bool = field(default=False, metadata={"help": "safetensors, npy: one row per 10 ms frame instead of per unit"})
    ali: Path | None = field(default=None, metadata={"help": "alignment, with --frames: arrays cover its frames, not only up to "
                                                     "the last unit"})
    data: Path | None = field(default=None, metadata={"help": "lhotse: data or feature folder, or a file of cuts"})
    storage: str = field(default="numpy", metadata={"help": "lhotse: numpy (dense arrays that Lhotse alone can read) or dump (they "
                                                    "stay there; programs import kdtool.posteriors.lhotse_field)"})  # fmt: skip


def dense_frames(post: UnitPosteriors, num_units: int, rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Log-probabilities (T, V) of frames whose unit's row is ``rows`` (-1 for none: -inf throughout)."""
    table = np.concatenate([post.dense(num_units), np.full((1, num_units), -np.inf, np.float32)]).astype(dtype)
    return table[rows]  # type: ignore[no-any-return]
