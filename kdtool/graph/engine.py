"""Search engines behind one interface.  In: training graphs or a decoding graph, acoustic scores.  Out: best paths, lattices.

`k2` searches batches of utterances, on the CPU or a CUDA device; `native` is this toolkit's C++, one utterance at a time, on the
CPU (kdtool/graph/viterbi.cc, search.cc). Both find the same best path of an utterance through its training graph, without
pruning. `auto` is k2 for a CUDA device and native for the CPU. Where k2 cannot be installed, native does everything.
"""

import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kdtool.core.errors import UsageError
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.search import Beams, Search, Searcher
from kdtool.graph.training import TrainingGraph
from kdtool.graph.viterbi import viterbi

ENGINES = ("auto", "k2", "native")
BATCH_CELLS = 60_000_000  # frames times arcs of a batch of training graphs: about a gigabyte in k2


class StatePath(NamedTuple):
    """The best path of an utterance: HMM state per frame, int32 (T,); its score in nats, including the graph's."""

    states: np.ndarray
    score: float


class Engine(ABC):
    """An engine; ``name`` appears in records, ``batch``: preferred number of utterances per call when decoding."""

    name: str
    batch: int

    @abstractmethod
    def best_paths(self, graphs: Sequence[TrainingGraph], scores: Sequence[np.ndarray]) -> list[StatePath | None]:
        """The best path of each utterance through its graph, None if there is none; nothing is pruned.

        scores: float32 (T, used pdfs) each, columns as ``graph.used_pdfs()``; -inf forbids a pdf on a frame.
        """

    @abstractmethod
    def search(self, graph: DecodingGraph, beams: Beams) -> Search:
        """The graph, prepared for searching with these beams."""


class Native(Engine):
    """The toolkit's C++ engine."""

    name, batch = "native", 1

    def best_paths(self, graphs: Sequence[TrainingGraph], scores: Sequence[np.ndarray]) -> list[StatePath | None]:
        found = (viterbi(graph, one) for graph, one in zip(graphs, scores, strict=True))
        return [StatePath(*one) if one else None for one in found]

    def search(self, graph: DecodingGraph, beams: Beams) -> Search:
        return Searcher(graph, beams)


class K2(Engine):
    """k2 on a device of torch ("cpu", "cuda:0")."""

    name, batch = "k2", 8

    def __init__(self, device: str = "cpu") -> None:
        from kdtool.graph.k2api import require_k2

        require_k2()
        self.device = device

    def best_paths(self, graphs: Sequence[TrainingGraph], scores: Sequence[np.ndarray]) -> list[StatePath | None]:
        from kdtool.graph.k2search import state_paths

        found: list[StatePath | None] = [None] * len(graphs)
        for part in batches([len(g.src) * len(s) for g, s in zip(graphs, scores, strict=True)], [len(s) for s in scores]):
            for i, path in zip(part, state_paths([graphs[i] for i in part], [scores[i] for i in part], self.device), strict=True):
                found[i] = StatePath(*path) if path else None
        return found

    def search(self, graph: DecodingGraph, beams: Beams) -> Search:
        from kdtool.graph.k2search import K2Search

        return K2Search(graph, beams, self.device)


def batches(cells: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in descending order of length, in batches of at most BATCH_CELLS cells (at least one utterance)."""
    part: list[int] = []
    total = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if part and total + cells[i] > BATCH_CELLS:
            yield part
            part, total = [], 0
        part.append(i)
        total += cells[i]
    if part:
        yield part


def choose_engine(name: str, device: str = "cpu") -> Engine:
    """The engine of that name for a device ("cpu", "cuda:0"); if k2 is not installed: native, with a message.

    Raises:
        UsageError: no such engine.
        KdError: k2 is installed but cannot be loaded.
    """
    return Native() if resolve_engine(name, device) == "native" else K2(device)


def resolve_engine(name: str, device: str = "cpu") -> str:
    """The engine used for `name`, "k2" or "native". Records name it, as equal scores may be two paths.

    Raises:
        UsageError: no such engine.
    """
    if name not in ENGINES:
        raise UsageError(f"--engine {name}: known are {', '.join(ENGINES)}")
    if name == "native" or (name == "auto" and device == "cpu"):
        return "native"
    if importlib.util.find_spec("k2") is None:
        print("note: no k2 is installed for this Python; the native search serves instead, on the CPU", file=sys.stderr)
        return "native"
    return "k2"
