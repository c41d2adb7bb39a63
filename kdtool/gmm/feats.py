"""The front end of the GMMs: features as a GMM folder records them, used by everything that scores with it.

In: a FeatureSet (per-speaker normalised). Out: frames with time derivatives, or spliced and projected (LDA + MLLT), and, for
models trained on speaker-adapted features, mapped by the speaker's transform. Files: feature.json, transform.safetensors.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, write_json
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.features.store import FeatureSet

FEATURE_FILE, TRANSFORM_FILE = "feature.json", "transform.safetensors"


def add_deltas(feats: np.ndarray, order: int = 2, window: int = 2) -> np.ndarray:
    """Features with their first to `order`-th derivatives beside them.

    feats: (T, D); returns float32 (T, (order + 1) D), contiguous. The regression formula of HTK and Kaldi over `window` frames to each
    side. Higher orders convolve the window with itself first, so that only the original frames are repeated at the edges.
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


def splice(feats: np.ndarray, context: int) -> np.ndarray:
    """Each frame with `context` frames to each side: (T, D) to float32 (T, (2 context + 1) D); the edge frames are repeated."""
    padded = np.pad(feats.astype(np.float32), ((context, context), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + len(feats)] for k in range(2 * context + 1)], axis=1)


def transform_features(transform: np.ndarray, feats: np.ndarray) -> np.ndarray:
    """A speaker's affine transform (D, D + 1), offset last, of frames (T, D): float32 (T, D)."""
    wide = transform.astype(np.float32)
    return feats @ np.ascontiguousarray(wide[:, :-1].T) + wide[:, -1]


def log_det(transform: np.ndarray | None) -> float:
    """log |det A| of a speaker's transform: what it adds to each frame's log-likelihood of the unadapted features."""
    return 0.0 if transform is None else float(np.linalg.slogdet(transform[:, :-1].astype(np.float64))[1])


@dataclass(frozen=True)
class FrontEnd:
    """How a model's features are computed from a feature folder's of that kind and input_dim. deltas: orders of derivatives; context:
    frames spliced to each side; matrix: float32 (D, spliced dimension) or None; adapted: whether the model needs each speaker's features
    transformed (fMLLR)."""

    kind: str
    input_dim: int
    deltas: int = 0
    context: int = 0
    matrix: np.ndarray | None = None
    adapted: bool = False

    @property
    def dim(self) -> int:
        """Output dimension."""
        if self.matrix is not None:
            return len(self.matrix)
        return self.input_dim * (self.deltas + 1) * (2 * self.context + 1)

    def features(self, features: FeatureSet, utterance: str, transform: np.ndarray | None = None) -> np.ndarray:
        """Frames of one utterance in the model's form, float32 (T, dim); `transform`: of its speaker, (dim, dim + 1)."""
        x = add_deltas(features.get(utterance, normalise=True), self.deltas)
        if self.context:
            x = splice(x, self.context)
        if self.matrix is not None:
            x = x @ np.ascontiguousarray(self.matrix.T)
        return x if transform is None else transform_features(transform, x)

    def save(self, folder: Path) -> None:
        """Write feature.json and, if there is a matrix, transform.safetensors."""
        write_json(folder / FEATURE_FILE, {
            "kind": self.kind, "input_dim": self.input_dim, "deltas": self.deltas, "context": self.context,
            "projected": self.matrix is not None, "adapted": self.adapted, "dim": self.dim,
        })  # fmt: skip
        if self.matrix is not None:
            save_tensors(folder / TRANSFORM_FILE, {"matrix": self.matrix.astype(np.float32)})

    @classmethod
    def load(cls, folder: Path) -> "FrontEnd":
        """Read them back; KdError when the parts contradict each other."""
        row = read_json(folder / FEATURE_FILE)
        names = ("kind", "input_dim", "deltas", "context", "projected", "adapted", "dim")
        if not isinstance(row, dict) or not set(names) <= set(row):
            raise KdError(f"{folder / FEATURE_FILE}: lacks one of {', '.join(names)}; train the GMM again")
        matrix = load_tensors(folder / TRANSFORM_FILE).get("matrix") if row["projected"] else None
        front = cls(row["kind"], row["input_dim"], row["deltas"], row["context"], matrix, row["adapted"])
        wide = front.input_dim * (front.deltas + 1) * (2 * front.context + 1)
        if front.dim != row["dim"] or (row["projected"] and (matrix is None or matrix.shape != (row["dim"], wide))):
            shape = None if matrix is None else matrix.shape
            raise KdError(f"{folder}: {FEATURE_FILE} says {wide} to {row['dim']} dimensions, {TRANSFORM_FILE} holds {shape}; train again")
        return front

    def check(self, folder: Path, features: FeatureSet) -> None:
        """KdError unless the feature folder is of the kind that the model in `folder` was trained on."""
        if features.kind != self.kind or features.dim != self.input_dim:
            raise KdError(f"{folder} was trained on {self.kind} of {self.input_dim} coefficients, these features are "
                          f"{features.kind} of {features.dim} coefficients; extract {self.kind} features for this set")  # fmt: skip
