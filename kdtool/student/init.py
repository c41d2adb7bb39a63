"""Initial weights from a finished student (--init, --init-encoder).  In: a student folder, any model.  Out: the initialised model.

Training in two phases is two steps, the second with ``--init`` of the first. An encoder trained on frames may initialise another kind of
student by ``--init-encoder``. The encoder's tensors are called ``encoder.*`` in every kind of student.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_tensors
from kdtool.student.model import HEADS_FILE, MODEL_FILE

ENCODER = "encoder."
OWN = ("log_priors",)  # depends on a student's training data, so never copied


@torch.no_grad()
def take_weights(model: nn.Module, folder: Path, *, encoder_only: bool = False) -> list[str]:
    """Copy the tensors that the student in ``folder`` shares with ``model``; returns the names of those that keep their random values.

    Heads that only one of them has are left alone (a student trained without ``heads.safetensors`` has its main head only); the encoder
    must be complete. Raises KdError: no student, a damaged one, or a tensor of another shape (both shapes are named).
    """
    path = folder / (HEADS_FILE if (folder / HEADS_FILE).is_file() else MODEL_FILE)
    given = {n: a for n, a in load_tensors(path).items() if n not in OWN and (n.startswith(ENCODER) or not encoder_only)}
    state = model.state_dict()
    for name in sorted(state):
        shape = tuple(given[name].shape) if name in given else None
        if (name in given or name.startswith(ENCODER)) and shape != tuple(state[name].shape):
            raise KdError(f"{path}: tensor {name} has shape {shape}, this student's is {tuple(state[name].shape)}; give a student of the "
                          "same encoder and encoder_options, of the same tree and width")  # fmt: skip
    for name in state.keys() & given.keys():
        state[name].copy_(torch.from_numpy(np.array(given[name])))
    fresh = sorted({".".join(n.split(".")[:2]) if n.startswith("aux.") else n.split(".")[0] for n in state.keys() - given.keys()} - {*OWN})
    print(f"train_student: {len(state.keys() & given.keys())} tensors from {path}" + (f"; new: {', '.join(fresh)}" if fresh else ""),
          file=sys.stderr)  # fmt: skip
    return fresh
