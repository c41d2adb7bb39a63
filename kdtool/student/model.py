"""The student: an encoder, the main senone head, and auxiliary heads that exist in training only.

In: features (B, D, T) at 10 ms.  Out: logits at one frame in ``subsampling`` (training), or log-posteriors (T, num_pdfs) of every 10 ms
frame (decoding).  On disk: ``model.safetensors`` with encoder, main head and log priors; its metadata describes the model's shape.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_metadata, load_tensors, save_tensors
from kdtool.student.encoders import make_encoder
from kdtool.student.encoders.base import BatchNorm1d, ChannelDropout, Conv1d, crop

MODEL_FILE, HEADS_FILE = "model.safetensors", "heads.safetensors"
FORMAT = "kdtool student 1"
ROUND = 32  # outputs; a convolution's first call with a length costs as much as the second one, so few lengths are used
CE_HEAD = "ce"  # of LF-MMI students: a head on the last layer that is the kind's own, not one of the options


@dataclass(frozen=True)
class Shape:
    """The shape of a model, stored beside the weights. ``tree_digest``: the tree of the main head's senones."""

    encoder: str
    encoder_options: dict[str, Any]
    input_dim: int
    num_pdfs: int
    hidden: int
    feature_kind: str = "fbank"
    tree_digest: str = ""


@dataclass(frozen=True)
class AuxShape:
    """An auxiliary head: encoder layer, width of its projection, number of units, stride in output frames."""

    name: str
    layer: int
    hidden: int
    num_units: int
    stride: int = 1


class Head(nn.Module):
    """Projection (1 x 1 convolution, ReLU, batch normalisation) and output layer: (B, C, n) -> logits (B, V, n)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.project = Conv1d(inputs, hidden, 1)
        self.norm = BatchNorm1d(hidden)
        self.dropout = ChannelDropout(dropout)
        self.output = Conv1d(hidden, outputs, 1)

    def forward(self, x: Tensor, pad: Tensor | None = None) -> Tensor:
        logits: Tensor = self.output(self.dropout(self.norm(torch.relu(self.project(x)), pad)))
        return logits


class Student(nn.Module):
    """Encoder and heads.  ``log_priors`` (num_pdfs,): log relative frequency of each senone in the training alignment."""

    log_priors: Tensor

    def __init__(self, shape: Shape, aux: list[AuxShape] | None = None, head_dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = make_encoder(shape.encoder, shape.input_dim, shape.encoder_options)
        dims = self.encoder.dims
        self.main = Head(dims[-1], shape.hidden, shape.num_pdfs, head_dropout)
        self.aux = nn.ModuleDict()
        self.aux_shapes = {head.name: head for head in aux or []}
        for head in aux or []:
            if not -len(dims) <= head.layer < len(dims):
                raise KdError(f"head {head.name}: layer {head.layer}, the encoder '{shape.encoder}' has {len(dims)} layers, "
                              f"0 to {len(dims) - 1} (or -1 for the last); change the head's layer")  # fmt: skip
            self.aux[head.name] = Head(dims[head.layer], head.hidden, head.num_units, head_dropout)
        self.register_buffer("log_priors", torch.zeros(shape.num_pdfs))

    @property
    def num_pdfs(self) -> int:
        """Number of senones of the main head."""
        return self.shape.num_pdfs

    @property
    def feature_kind(self) -> str:
        """Kind of the features in training."""
        return self.shape.feature_kind

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> dict[str, Tensor]:
        """Logits of every head, (B, V, n), by name: 'main', and the auxiliary heads on every stride-th frame.

        feats: (B, D, encoder.input_frames(n)); pad: int64 (B,), number of padding frames at the end (None: none).
        """
        layers = self.encoder(feats, pad)
        logits = {"main": self.main(layers[-1], pad)}
        for name, head in self.aux.items():
            stride = self.aux_shapes[name].stride
            taken = crop(layers[self.aux_shapes[name].layer], 0, 0, stride)
            logits[name] = head(taken, None if pad is None else strided_pad(layers[-1].shape[2], pad, stride))
        return logits

    def _logits(self, head: str, feats: Tensor, pad: Tensor | None = None) -> Tensor:
        """Logits of one head, (B, V, n); an auxiliary head's stride does not count."""
        layers = self.encoder(feats, pad)
        logits: Tensor = self.main(layers[-1]) if head == "main" else self.aux[head](layers[self.aux_shapes[head].layer])
        return logits

    @torch.no_grad()
    def log_posteriors(self, feats: np.ndarray, head: str = "main") -> np.ndarray:
        """Log-posteriors of all frames: float32 (T, D) -> float32 (T, num_pdfs, or an auxiliary head's units), natural log.

        The encoder gives one frame in ``subsampling``; it runs once per starting frame, and the results are interleaved, so that every 10
        ms frame has an output. Raises KdError: no frames, or features of another size than in training.
        """
        step = self.encoder.subsampling
        outputs = -(-len(feats) // step)
        length = self.encoder.input_frames(outputs)
        padded = self._padded(feats, length + step - 1)
        shifted = torch.stack([padded[:, s : s + length] for s in range(step)])
        # The later starting frames may have one output frame less, or none for very short utterances.
        lengths = (len(feats) - torch.arange(step, device=padded.device) + step - 1).div(step, rounding_mode="floor").clamp(min=1)
        pad = outputs - lengths if bool((lengths < outputs).any()) else None
        logits = self._logits(head, shifted, pad)
        frames = torch.log_softmax(logits, dim=1).permute(2, 0, 1).reshape(-1, logits.shape[1])
        return np.ascontiguousarray(frames[: len(feats)].cpu().numpy())

    @torch.no_grad()
    def outputs(self, feats: np.ndarray, head: str = "main") -> np.ndarray:
        """A head's logits at one frame in ``subsampling`` from the first on: (T, D) -> float32 (outputs, V). Raises KdError: as
        ``log_posteriors``."""
        outputs = -(-len(feats) // self.encoder.subsampling)
        rounded = -(-outputs // ROUND) * ROUND
        padded = self._padded(feats, self.encoder.input_frames(rounded))
        pad = torch.tensor([rounded - outputs], device=padded.device)
        return np.ascontiguousarray(self._logits(head, padded[None], pad)[0, :, :outputs].T.cpu().numpy())

    def _padded(self, feats: np.ndarray, length: int) -> Tensor:
        """Features (D, length) from the first output's context on; beyond its ends an utterance repeats its edge frames."""
        if feats.ndim != 2 or feats.shape[1] != self.shape.input_dim or len(feats) == 0:
            raise KdError(f"features of shape {feats.shape}, the model wants (frames > 0, {self.shape.input_dim}); "
                          "were they made with the model's own feature settings?")  # fmt: skip
        self.eval()
        index = np.arange(-self.encoder.left, length - self.encoder.left).clip(0, len(feats) - 1)
        return torch.from_numpy(np.ascontiguousarray(feats[index].T)).to(self.log_priors.device)

    def save(self, folder: Path) -> None:
        """Write the decoding model: encoder, main head and priors, without auxiliary heads."""
        tensors = {n: t for n, t in self.state_dict().items() if not n.startswith("aux.")}
        meta = {"format": FORMAT, "shape": json.dumps(vars(self.shape), sort_keys=True)}
        save_tensors(Path(folder) / MODEL_FILE, tensors, meta)

    @classmethod
    def load(cls, folder: Path) -> "Student":
        """The decoding model of a student's folder, in evaluation mode. Raises KdError: no model, a damaged file, or weights that do not
        match the stored shape."""
        path = Path(folder) / MODEL_FILE
        meta = load_metadata(path)
        if meta.get("format") != FORMAT:
            raise KdError(f"{path}: not a student of this version ('{meta.get('format')}' instead of '{FORMAT}'); train it again")
        model = cls(Shape(**json.loads(meta["shape"])))
        load_state(model, load_tensors(path), str(path))
        return model.eval()


def strided_pad(n: int, pad: Tensor, stride: int) -> Tensor:
    """Padding that remains of n frames after taking every ``stride``-th, from the first on."""
    return -(-n // stride) - (n - pad + stride - 1).div(stride, rounding_mode="floor")


def load_state(model: nn.Module, tensors: dict[str, np.ndarray], where: str) -> None:
    """Put arrays into a module; KdError naming ``where`` and the first name that is missing, extra or of another shape."""
    state = model.state_dict()
    for name in sorted({*state, *tensors}):
        shape, expected = (tuple(part[name].shape) if name in part else None for part in (tensors, state))
        if shape != expected:
            raise KdError(f"{where}: tensor {name} has shape {shape}, the model wants {expected}; it belongs to another model, train again")
    model.load_state_dict({name: torch.from_numpy(np.array(t)) for name, t in tensors.items()})


def log_priors(counts: np.ndarray) -> Tensor:
    """log((count + 1) / sum): add-one, so that senones without frames have a finite prior."""
    smoothed = counts.astype(np.float64) + 1.0
    return torch.from_numpy(np.log(smoothed / smoothed.sum()).astype(np.float32))
