"""Training of neural teachers.  In: training text, a loss.  Out: shuffled sentences as even streams; a trained model.

A fixed number of updates, Adam with warm-up and a cosine schedule, one thread: same seed, same weights.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn

from kdtool.core.errors import KdError
from kdtool.core.progress import progress
from kdtool.teacher.base import TrainingText


def shuffled_stream(text: TrainingText, streams: int, length: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Shuffled sentences as int32 (streams, length), a begin symbol (V) before each; and the units of the text, bool (V,)."""
    blocks = list(text.blocks())
    ids = np.concatenate([b.ids for b in blocks]) if blocks else np.zeros(0, np.int32)
    if len(ids) == 0:
        raise KdError("the LM text gave no sentence to train a teacher on; check the text and the lexicon")
    seen = np.bincount(ids, minlength=text.num_units) > 0
    lengths = np.concatenate([np.diff(b.offsets) for b in blocks])
    first = np.cumsum(lengths) - lengths
    parts, have = [], 0
    order = np.random.default_rng(seed).permutation(len(lengths))
    while have < streams * length:
        for i in order:
            parts.append(np.append(np.int32(text.num_units), ids[first[i] : first[i] + lengths[i]]))
            have += len(parts[-1])
            if have >= streams * length:
                break
    return torch.from_numpy(np.concatenate(parts)[: streams * length].astype(np.int32)).reshape(streams, -1), seen


def begin_at_unigrams(out: nn.Linear, stream: torch.Tensor) -> None:
    """Set an output layer's bias to the units' log frequencies: the first updates need not learn them."""
    counts = torch.bincount(stream[stream < out.out_features].long(), minlength=out.out_features) + 1.0
    with torch.no_grad():
        out.bias.copy_(torch.log(counts / counts.sum()))


def fit(model: nn.Module, loss_of: Callable[[int], torch.Tensor], updates: int, rate: float, name: str) -> None:
    """Train in place. `loss_of` gives the mean loss (nats per unit) of an update by its number; `rate` is Adam's highest."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.99))
    warm = max(1, updates // 20)
    recent = 0.0
    model.train()
    for update in progress(range(updates), updates, f"{name} updates"):
        share = min(1.0, (update + 1) / warm) * 0.5 * (1 + math.cos(math.pi * max(0, update - warm) / updates))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        loss = loss_of(update)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = loss.item() if update == 0 else 0.98 * recent + 0.02 * loss.item()
        if (update + 1) % 200 == 0:
            print(f"{name}: update {update + 1} of {updates}, training perplexity {math.exp(recent):.2f}", file=sys.stderr)


def read_together(lstm: nn.LSTM, sentences: list[torch.Tensor]) -> list[torch.Tensor]:
    """Hidden states (L, H) of sentences of embedded units (L, E), L at least 1: all sentences in parallel, step by step, which is nearly
    twice as fast as one after the other."""
    packed = nn.utils.rnn.pack_sequence(sentences, enforce_sorted=False)
    padded, lengths = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    return [hidden[:length] for hidden, length in zip(padded, lengths.tolist(), strict=True)]


def log_distributions(logits: Iterable[torch.Tensor], seen: np.ndarray, sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities float32 (N, V) of the seen units per sentence; empty sentences have no logits (N, V)."""
    unseen = torch.from_numpy(np.flatnonzero(~seen))
    rows = iter(logits)

    def of_next() -> np.ndarray:
        values = next(rows)
        return torch.log_softmax(values.index_fill_(1, unseen.to(values.device), -math.inf), dim=1).cpu().numpy()  # type: ignore[no-any-return]

    return [of_next() if len(ids) else np.zeros((0, len(seen)), np.float32) for ids in sentences]


def unit_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits (.., V) against units (..); begin symbols (V) are only input, never targets."""
    size = logits.shape[-1]
    wanted = target.reshape(-1)
    return nn.functional.cross_entropy(logits.reshape(-1, size), wanted.masked_fill(wanted == size, -100))
