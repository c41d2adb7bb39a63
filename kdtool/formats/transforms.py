"""Speakers' feature transforms on disk.  In: float32 (D, D + 1) by speaker.  Out: one safetensors file; several are read as one."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kdtool.core.tensors import load_tensors, save_tensors

TRANSFORMS_FILE = "transforms.safetensors"


def save_transforms(path: Path, transforms: dict[str, np.ndarray]) -> None:
    """Transforms by speaker."""
    save_tensors(path, {speaker: w.astype(np.float32) for speaker, w in transforms.items()})


def load_transforms(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """Transforms by speaker, from one file or from several jobs' files."""
    return {speaker: w for path in paths for speaker, w in load_tensors(path).items()}
