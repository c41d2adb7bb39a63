"""Total scores of numerators and denominator, and their gradients.

In: network outputs (B, n, V), acceptors. Out: log-sums over all their paths, float64 (B,). Nothing is pruned. Numerators, which are a graph
per chunk, are k2's; the denominator, one graph for all, is k2's or this package's own (dense.py), which is faster on a CPU.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdtool.chain.denominator import Denominator
from kdtool.chain.dense import DenseGraph, dense_totals
from kdtool.graph.k2api import SCORE_FLOOR, make_fsa_vec, require_k2, to_device

EVERYTHING = 1.0e10  # output beam
ENGINES = ("auto", "k2", "dense")


class Totals:
    """Total scores of one denominator and of chunks' numerators. engine: "k2" or "dense", by which the denominator is computed; ``leak``:
    of the denominator (dense.py), with "dense" alone."""

    def __init__(self, den: Denominator, engine: str, leak: float = 0.0) -> None:
        self.den, self.engine, self.leak = den, engine, leak
        self._copies: dict[tuple[int, str], Any] = {}
        self._dense: dict[str, DenseGraph] = {}

    def denominators(self, size: int, device: torch.device) -> Any:
        """``size`` copies of the denominator as an FsaVec on a device, made once for each size of a batch."""
        key = (size, str(device))
        if key not in self._copies:
            self._copies = {key: to_device(make_fsa_vec([self.den.fsa()] * size), str(device))}
        return self._copies[key]

    def __call__(self, logits: Tensor, lengths: Sequence[int], arcs: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(numerators' totals, denominators' totals), nats, float64 (B,).

        logits: (B, n, V), any real numbers; lengths: outputs of each chunk, falling. arcs: int32 (A, 4) of all numerators end to
        end (kdtool.chain.numerator); sizes: arcs of each. Each frame's maximum is taken off both totals, and added to both again: their
        difference, and its gradient, is that of the logits as they are.
        """
        logits = logits.float()
        if self.engine == "dense":
            graph = self._dense.setdefault(str(logits.device), DenseGraph(self.den, logits.device, self.leak))
            return self._with_k2(logits, lengths, arcs, sizes)[0], dense_totals(logits, graph, lengths)
        num, den = self._with_k2(logits, lengths, arcs, sizes, self.denominators(len(lengths), logits.device))
        return num, den

    @staticmethod
    def _with_k2(logits: Tensor, lengths: Sequence[int], arcs: Tensor, sizes: Sequence[int], *graphs: Any) -> list[Tensor]:
        """Totals of the numerators, then of further FsaVecs."""
        k2 = require_k2()
        top = logits.detach().amax(2, keepdim=True)
        floor = torch.full_like(logits[:, :, :1], SCORE_FLOOR)
        scores = torch.cat([floor, (logits - top).clamp(min=SCORE_FLOOR)], dim=2).contiguous()
        segments = torch.tensor([[i, 0, n] for i, n in enumerate(lengths)], dtype=torch.int32, device="cpu")
        dense = k2.DenseFsaVec(scores, segments)
        numerators = make_fsa_vec([k2.Fsa(one.contiguous()) for one in arcs.split(list(sizes))])
        totals = []
        for vec in (numerators, *graphs):
            lattice = k2.intersect_dense(vec, dense, EVERYTHING)
            totals.append(lattice.get_tot_scores(use_double_scores=True, log_semiring=True))
        inside = torch.arange(logits.shape[1], device=logits.device) < torch.tensor(list(lengths), device=logits.device)[:, None]
        offset = torch.where(inside, top[:, :, 0].double(), 0.0).sum(1)
        return [total + offset for total in totals]
