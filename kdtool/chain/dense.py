"""Total scores of the denominator by a forward-backward pass over its HMM, as Kaldi computes them; needs no k2.

In: network outputs (B, n, V), a denominator. Out: log-sums over all paths, float64 (B,), with their gradients. Exact, as k2's totals are.
With a leak (Kaldi's leaky HMM) a path may go on, after each output, from a state drawn by the initial probabilities, times the leak: so
phone sequences that were never seen compete, too.

Probabilities are scaled per frame, so that they need no logarithms; and states of the HMM that share a history of phones go on by the same
arcs, which are computed once for all of them. On a CPU it takes a tenth of k2's time, which builds a lattice first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdtool.chain.denominator import Denominator

TINY = 1e-30


class Sums:
    """Sums of the rows (N, B) that have the same index (N,), int64: (size, B). On a CPU a tenth of the time of ``index_add_``."""

    def __init__(self, index: Tensor, size: int) -> None:
        ordered, self.order = index.sort(stable=True)
        self.begin = torch.searchsorted(ordered, torch.arange(size, device=index.device))

    def __call__(self, rows: Tensor) -> Tensor:
        return F.embedding_bag(self.order, rows, self.begin, mode="sum")


class DenseGraph:
    """The HMM's arcs as tensors on one device: G histories, S states, A arcs from histories to states.

    ``history`` (S,): of each state; ``stay`` (S, 1): 0.5, or 0 for the begin of an utterance; ``go`` (S, 1): what is left, 0.5 or 1.
    ``src``, ``dst``, ``pdf`` int64 (A,), ``weight`` (A, 1); ``loop`` int64 (S,), ``init`` (S, 1); ``leak``: a factor from 0 up.
    ``by_history`` sums over states, ``by_src`` and ``by_dst`` over arcs, ``by_pdf`` over arcs and then states.
    """

    def __init__(self, den: Denominator, device: torch.device, leak: float = 0.0) -> None:
        hmm = den.hmm
        begin = hmm.loop < 0
        first = np.unique(hmm.lm_state, return_index=True)[1]  # one state of each history says what all of them do
        own = np.isin(hmm.src, first)
        gone = np.where(begin, 1.0, 0.5)
        weight = np.exp(hmm.log_prob[own]) / gone[hmm.src[own]]
        order = np.argsort(hmm.dst[own], kind="stable")

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        self.leak = leak
        self.history, self.loop = tensor(hmm.lm_state), tensor(np.maximum(hmm.loop, 0))
        self.src, self.dst = tensor(hmm.lm_state[hmm.src[own]][order]), tensor(hmm.dst[own][order])
        self.pdf = tensor(hmm.pdf[own][order])
        self.weight = tensor(weight[order].astype(np.float32)[:, None])
        self.stay, self.go = (tensor(x.astype(np.float32)[:, None]) for x in (np.where(begin, 0.0, 0.5), gone))
        self.init = tensor(np.exp(hmm.log_init).astype(np.float32)[:, None])
        histories, states = int(hmm.lm_state.max()) + 1, len(self.history)
        self.by_history, self.by_src, self.by_dst = Sums(self.history, histories), Sums(self.src, histories), Sums(self.dst, states)
        self.by_pdf = Sums(torch.cat([self.pdf, self.loop]), int(den.meta["num_pdfs"]))


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, graph: DenseGraph, lengths: Tensor) -> Tensor:
        """logits: float32 (n, V, B), lengths: int64 (B,). Out: float64 (B,)."""
        top = logits.amax(1, keepdim=True)
        score = (logits - top).exp_()
        alphas, scales = [graph.init.expand(-1, logits.shape[2]).contiguous()], []
        total = torch.zeros(logits.shape[2], dtype=torch.float64, device=logits.device)
        for t, y in enumerate(score):
            alpha = alphas[-1]
            left = graph.by_history(alpha * graph.go).index_select(0, graph.src)
            new = alpha * graph.stay * y.index_select(0, graph.loop)
            new += graph.by_dst(left * graph.weight * y.index_select(0, graph.pdf))
            scale = new.sum(0).clamp_(min=TINY)
            total += torch.where(t < lengths, scale.double().log() + top[t, 0].double(), 0.0)
            alphas.append(new.div_(scale).add_(graph.init, alpha=graph.leak) if graph.leak else new.div_(scale))
            scales.append(scale)
        ctx.graph, ctx.alphas, ctx.scales = graph, alphas, scales
        ctx.save_for_backward(score, lengths)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Posteriors of the pdfs, times the gradients of the totals."""
        score, lengths = ctx.saved_tensors
        graph, alphas, scales = ctx.graph, ctx.alphas, ctx.scales
        out = torch.zeros_like(score)
        beta = torch.ones_like(alphas[0])
        for t in range(len(score) - 1, -1, -1):
            alpha, y = alphas[t], score[t]
            beta = torch.where(t < lengths - 1, beta, torch.ones_like(beta)) / scales[t]  # all states are final
            left = graph.by_history(alpha * graph.go).index_select(0, graph.src)
            moved = graph.weight * y.index_select(0, graph.pdf) * beta.index_select(0, graph.dst)
            stayed = graph.stay * y.index_select(0, graph.loop) * beta
            out[t] = graph.by_pdf(torch.cat([left * moved, alpha * stayed]))
            beta = graph.by_src(moved).index_select(0, graph.history) * graph.go + stayed
            if graph.leak:
                beta = beta + graph.leak * (graph.init * beta).sum(0)
        inside = torch.arange(len(score), device=score.device)[:, None] < lengths
        return out * (inside * grad.float())[:, None, :], None, None


def dense_totals(logits: Tensor, graph: DenseGraph, lengths: Sequence[int]) -> Tensor:
    """Totals of chunks: logits (B, n, V), lengths: outputs of each chunk. Out: float64 (B,), nats."""
    given = torch.tensor(list(lengths), dtype=torch.int64, device=logits.device)
    total: Tensor = _Total.apply(logits.float().permute(1, 2, 0).contiguous(), graph, given)
    return total
