"""Optimiser, learning-rate schedule, average of the weights.  In: a model and the config.  Out: updates; one checkpoint file
(safetensors) with everything for an exact resume: weights, optimiser state, average, update number, history."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdtool.core.errors import KdError
from kdtool.core.tensors import load_metadata, load_tensors, save_tensors
from kdtool.student.config import StudentConfig
from kdtool.student.model import load_state


def learning_rate(update: int, total: int, cfg: StudentConfig) -> float:
    """Rate of update number ``update`` (from 0) of ``total``: linear warm-up, then the chosen decay to lr * final_lr."""
    warm = max(1, round(cfg.warmup * total))
    if update < warm:
        return cfg.lr * (update + 1) / warm
    share = (update - warm) / max(1, total - warm)
    if cfg.decay == "exponential":
        return cfg.lr * math.exp(share * math.log(max(cfg.final_lr, 1e-8)))
    shape = 1.0 - share if cfg.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))
    return cfg.lr * (cfg.final_lr + (1.0 - cfg.final_lr) * shape)


def make_optimizer(model: nn.Module, cfg: StudentConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum; vectors (biases, normalisation) do not decay."""
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == large] for large in (True, False))
    groups = [{"params": matrices, "weight_decay": cfg.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if cfg.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=cfg.lr, betas=(0.9, 0.98), foreach=True)
    return torch.optim.SGD(groups, lr=cfg.lr, momentum=0.9, nesterov=True, foreach=True)


@torch.no_grad()
def clip_gradient(model: nn.Module, largest: float) -> None:
    """Scale the gradient down to norm ``largest`` if it is larger; handles all tensors at once, unlike torch's."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    scale = largest / (float(norm) + 1e-6)
    if not scale >= 1.0:
        torch._foreach_mul_(gradients, scale)


class Average:
    """Moving average of weights and normalisation statistics; its decay grows with the updates up to ``decay``.  Whole numbers,
    and buffers that a module lists in ``not_averaged``, are copied."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._copied = not_averaged(model)
        self.state = {n: t.detach().clone() for n, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, update: int) -> None:
        """Include the weights after update number ``update`` (from 0)."""
        decay = min(self.decay, (1.0 + update) / (10.0 + update))
        current = model.state_dict()
        averaged = [n for n, t in self.state.items() if t.is_floating_point() and n not in self._copied]
        torch._foreach_mul_([self.state[n] for n in averaged], decay)
        torch._foreach_add_([self.state[n] for n in averaged], [current[n] for n in averaged], alpha=1.0 - decay)
        for name in self.state.keys() - set(averaged):
            self.state[name].copy_(current[name])


def not_averaged(model: nn.Module) -> set[str]:
    """Names in the model's state of what its modules list in ``not_averaged``: totals and counters, whose mean is meaningless."""
    return {f"{prefix}.{name}" if prefix else name for prefix, m in model.named_modules() for name in getattr(m, "not_averaged", ())}


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, progress: dict[str, Any]
) -> None:
    """Write everything to one file, atomically; ``progress`` (JSON) holds the next update and the history."""
    tensors: dict[str, Tensor] = {f"model/{n}": t for n, t in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{n}": t for n, t in average.state.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{n}": torch.as_tensor(v) for n, v in state.items() if v is not None}
    save_tensors(path, tensors, {"progress": json.dumps(progress)})


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None) -> dict[str, Any]:
    """Restore model, optimiser and average; returns ``progress``. Raises KdError: a damaged checkpoint, or another model's."""
    parts: dict[str, dict[str, Any]] = {"model": {}, "average": {}, "optimizer": {}}
    for name, array in load_tensors(path).items():
        kind, _, rest = name.partition("/")
        parts[kind][rest] = array
    load_state(model, parts["model"], str(path))
    if average is not None:
        if set(parts["average"]) != set(average.state):
            raise KdError(f"{path}: the average does not fit the model; delete {path.parent} and train again")
        for name, array in parts["average"].items():
            average.state[name].copy_(torch.from_numpy(array))
    state: dict[int, dict[str, Tensor]] = {}
    for name, array in parts["optimizer"].items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = torch.from_numpy(array.copy())
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads(load_metadata(path)["progress"])  # type: ignore[no-any-return]
