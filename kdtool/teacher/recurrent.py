"""Recurrent teachers.  In: training text, a network.  Out: a model trained on streams of shuffled sentences, and its distributions.

A fixed number of updates, Adam with warm-up and a cosine schedule, one thread: same seed, same weights.
"""

import itertools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kdtool.core.device import choose_device
from kdtool.core.errors import KdError, UsageError
from kdtool.core.progress import progress
from kdtool.teacher.base import Teacher, TrainingText, check_ids, check_options


@dataclass(frozen=True)
class RecurrentOptions:
    """embedding, hidden: widths. layers: of each LSTM. updates: of `streams` windows of `steps` units each. rate: Adam's highest."""

    embedding: int = 64
    hidden: int = 256
    layers: int = 1
    updates: int = 1000
    streams: int = 64
    steps: int = 40
    rate: float = 6e-3


class RecurrentModel(nn.Module, ABC):
    """Embedding, LSTMs and softmax over units; V stands for a sentence's begin and end. ``out``: the output layer, V units wide."""

    out: nn.Linear

    @abstractmethod
    def forward(self, window: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Stretches of the streams (B, L) and the state after those before -> logits (B, n, V), their units (B, n), and the state."""

    @abstractmethod
    def together(self, lines: list[Tensor]) -> Iterable[Tensor]:
        """Logits (L, V) of each sentence, given as V, its L units, V."""


class RecurrentTeacher(Teacher):
    """A network over units; `seen` bool (V,) marks the units of the training text; others have no probability.

    ``overlap``: units of a stream that two updates share.
    """

    options: ClassVar[type[RecurrentOptions]] = RecurrentOptions
    network: ClassVar[type[RecurrentModel]]
    overlap: ClassVar[int]

    def __init__(self, unit: str, num_units: int, model: RecurrentModel, seen: np.ndarray) -> None:
        super().__init__(unit, num_units)
        self.model, self.seen = model.eval(), seen.astype(bool)

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> "RecurrentTeacher":
        cfg: RecurrentOptions = check_options(cls.options, options, cls.kind)
        if min(vars(cfg).values()) <= 0:
            raise UsageError(f"{cls.kind} teacher: every option must be above 0, not {vars(cfg)}")
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        stream, seen = shuffled_stream(text, cfg.streams, cfg.updates * cfg.steps + cls.overlap, seed)
        model = cls.network(text.num_units, cfg)  # type: ignore[call-arg]
        # The bias begins at the units' log frequencies: the first updates need not learn them.
        counts = torch.bincount(stream[stream < text.num_units].long(), minlength=text.num_units) + 1.0
        with torch.no_grad():
            model.out.bias.copy_(torch.log(counts / counts.sum()))
        fit(model.to(choose_device(text.device)), stream, cfg, cls.overlap, cls.kind)
        teacher = cls(text.unit, text.num_units, model, seen)
        teacher.info = {"options": dict(vars(cfg)), "parameters": sum(p.numel() for p in model.parameters())}
        return teacher

    @torch.no_grad()
    def log_probs_many(self, sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
        for ids in sentences:
            check_ids(ids, self.num_units, self.unit)
        edge, device = [self.num_units], self.model.out.weight.device
        lines = [torch.from_numpy(np.concatenate([edge, ids, edge]).astype(np.int64)).to(device) for ids in sentences if len(ids)]
        unseen = torch.from_numpy(np.flatnonzero(~self.seen)).to(device)
        rows = (torch.log_softmax(logits.index_fill_(1, unseen, -math.inf), dim=1).cpu().numpy()
                for logits in (self.model.together(lines) if lines else ()))  # fmt: skip
        return [next(rows) if len(ids) else np.zeros((0, self.num_units), np.float32) for ids in sentences]

    def tensors(self) -> dict[str, np.ndarray]:
        return {"seen": self.seen.astype(np.uint8)} | {n: p.cpu().numpy() for n, p in self.model.state_dict().items()}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "RecurrentTeacher":
        model = cls.network(num_units, check_options(cls.options, info["options"], cls.kind))  # type: ignore[call-arg]
        try:
            model.load_state_dict({n: torch.from_numpy(t) for n, t in tensors.items() if n != "seen"})
        except RuntimeError as e:
            raise KdError(f"{cls.kind.upper()} teacher of {num_units} {unit}s: its weights do not fit its options ({e}); "
                          "train it again") from e  # fmt: skip
        return cls(unit, num_units, model, tensors["seen"])


def shuffled_stream(text: TrainingText, streams: int, length: int, seed: int) -> tuple[Tensor, np.ndarray]:
    """Shuffled sentences as int32 (streams, length), a begin symbol (V) before each; and the units of the text, bool (V,)."""
    blocks = list(text.blocks())
    ids = np.concatenate([np.zeros(0, np.int32), *(b.ids for b in blocks)])
    if len(ids) == 0:
        raise KdError("the LM text gave no sentence to train a teacher on; check the text and the lexicon")
    lengths = np.concatenate([np.diff(b.offsets) for b in blocks])
    first = np.cumsum(lengths) - lengths
    order = np.random.default_rng(seed).permutation(len(lengths))
    parts, have = [], 0
    for i in itertools.cycle(order):
        parts.append(np.append(np.int32(text.num_units), ids[first[i] : first[i] + lengths[i]]))
        have += len(parts[-1])
        if have >= streams * length:
            break
    stream = torch.from_numpy(np.concatenate(parts)[: streams * length].astype(np.int32)).reshape(streams, -1)
    return stream, np.bincount(ids, minlength=text.num_units) > 0


def fit(model: RecurrentModel, stream: Tensor, cfg: RecurrentOptions, overlap: int, name: str) -> None:
    """Train in place, by truncated back-propagation along the streams; begin symbols are only input, never targets."""
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.rate, betas=(0.9, 0.99))
    device, num_units, updates = model.out.weight.device, model.out.out_features, cfg.updates
    warm, recent, state = max(1, updates // 20), 0.0, None
    model.train()
    for update in progress(range(updates), updates, f"{name} updates"):
        share = min(1.0, (update + 1) / warm) * 0.5 * (1 + math.cos(math.pi * max(0, update - warm) / updates))
        optimizer.param_groups[0]["lr"] = cfg.rate * share
        window = stream[:, update * cfg.steps : (update + 1) * cfg.steps + overlap].long().to(device)
        logits, target, state = model(window, state)
        target = target.reshape(-1)
        loss = nn.functional.cross_entropy(logits.reshape(-1, num_units), target.masked_fill(target == num_units, -100))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = loss.item() if update == 0 else 0.98 * recent + 0.02 * loss.item()
        if (update + 1) % 200 == 0:
            print(f"{name}: update {update + 1} of {updates}, training perplexity {math.exp(recent):.2f}", file=sys.stderr)


def read_together(lstm: nn.LSTM, sentences: list[Tensor]) -> list[Tensor]:
    """Hidden states (L, H) of sentences of embedded units (L, E), L at least 1: all sentences in parallel, step by step, which is nearly
    twice as fast as one after the other."""
    packed = nn.utils.rnn.pack_sequence(sentences, enforce_sorted=False)
    padded, lengths = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    return [hidden[:length] for hidden, length in zip(padded, lengths.tolist(), strict=True)]
