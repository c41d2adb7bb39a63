"""A small chain tree, phone sequences and alignments for the tests of LF-MMI, and its total scores in plain torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdtool.formats.alignment import Alignment
from kdtool.formats.tree import CHAIN, Tree

PHONES = 4  # phone 1 is silence, free of context


def chain_tree(seed: int = 0) -> Tree:
    """Two pdfs, shared out over left phones at random, for the first frame of each phone and for its loop; one each for silence."""
    rng = np.random.default_rng(seed)
    table = np.full((PHONES + 1, PHONES + 1, PHONES + 1, 2), -1, np.int32)
    pdf = 0
    for phone in range(1, PHONES + 1):
        for state in range(2):
            choice = np.zeros(PHONES + 1, np.int32) if phone == 1 else rng.permutation(PHONES + 1) % 2
            table[:, phone, :, state] = pdf + choice[:, None]
            pdf += 1 + int(choice.max())
    return Tree(table, None, CHAIN)


def sequences(count: int = 12, seed: int = 0) -> list[list[int]]:
    """Phone sequences that begin and end with silence."""
    rng = np.random.default_rng(seed)
    return [[1, *rng.integers(2, PHONES + 1, rng.integers(3, 9)).tolist(), 1] for _ in range(count)]


def aligned(name: str, phones: list[int], tree: Tree, rng: np.random.Generator, shortest: int = 3) -> Alignment:
    """A 10 ms alignment of phones of three to eleven frames, one HMM state each; its pdfs mean nothing."""
    lengths = rng.integers(shortest, 12, len(phones))
    start = (np.cumsum(lengths) - lengths).astype(np.int32)
    phone = np.repeat(phones, lengths).astype(np.int16)
    return Alignment(name, np.zeros(len(phone), np.int32), np.zeros(len(phone), np.int16), phone, start, [])


def plain_total(arcs: np.ndarray, scores: np.ndarray, logits: Tensor) -> Tensor:
    """Log of the sum over all paths from state 0 to the last state, which take one arc a row of logits (n, V) and then one of label -1."""
    states = int(arcs[:, :2].max()) + 1
    src, dst, label = (torch.from_numpy(arcs[:, k].astype(np.int64)) for k in range(3))
    weight = torch.from_numpy(scores.astype(np.float64))
    alpha = torch.full((states,), -torch.inf, dtype=torch.float64)
    alpha[0] = 0.0

    def step(alpha: Tensor, use: Tensor, gain: Tensor) -> Tensor:
        value, to = alpha[src[use]] + weight[use] + gain, dst[use]
        columns = [value[to == s] for s in range(states)]
        none = torch.tensor(-torch.inf, dtype=torch.float64)
        alive = [c[torch.isfinite(c)] for c in columns]
        return torch.stack([torch.logsumexp(c, 0) if len(c) else none for c in alive])

    inside = label > 0
    for row in logits:
        alpha = step(alpha, inside, row[label[inside] - 1])
    return step(alpha, label == -1, torch.zeros(1, dtype=torch.float64))[-1]
