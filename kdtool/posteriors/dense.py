"""Options of export, and dense arrays of frames.  In: posteriors of an utterance.  Out: (frames, units) log-probabilities."""

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
                                                         "arrow (one table of the kept entries), lhotse (cuts with a field per dump)"})
    dtype: str = field(default="float16", metadata={"help": "type of dense log-probabilities: float16 or float32"})
    frames: bool = field(default=False, metadata={"help": "safetensors, npy: one row per 10 ms frame instead of per unit"})
    ali: Path | None = field(default=None, metadata={"help": "alignment, with --frames: arrays cover its frames, not only up to "
                                                     "the last unit"})
    data: Path | None = field(default=None, metadata={"help": "lhotse: data or feature folder, or a file of cuts"})
    storage: str = field(default="numpy", metadata={"help": "lhotse: numpy (dense arrays that Lhotse can read by itself) or dump (rows "
                                                    "stay there; programs import kdtool.posteriors.lhotse_field)"})  # fmt: skip


def dense_frames(post: UnitPosteriors, num_units: int, rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Log-probabilities (T, V) of frames with these ``rows`` of their units (-1 for none: all -inf)."""
    table = np.concatenate([post.dense(num_units), np.full((1, num_units), -np.inf, np.float32)]).astype(dtype)
    return table[rows]  # type: ignore[no-any-return]
