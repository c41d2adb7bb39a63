"""A decoding graph in memory and on disk, the input of every search.

In: an FST over pdf labels, or a folder. Out: DecodingGraph; ``graph.safetensors``, ``words.txt``, ``meta.json`` in a
folder. ``kdtool.graph.search`` searches it; k2 takes the arrays as they are.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_table, write_json, write_table
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.graph.epsilons import Outputs, add_self_loops, remove_epsilons
from kdtool.graph.fst import FstArrays, breadth_first

GRAPH_FILE, WORDS_FILE, META_FILE = "graph.safetensors", "words.txt", "meta.json"
_ARRAYS = {
    "src": np.int32, "dst": np.int32, "label": np.int32, "aux": np.int32, "score": np.float32,
    "sequence_offsets": np.int32, "sequence_words": np.int32,
}  # fmt: skip


@dataclass
class DecodingGraph:
    """An epsilon-free acceptor of pdf strings with word outputs, arcs sorted by (src, label, dst).

    ``label`` int32 (A,): pdf + 1, and -1 on arcs into the only final state, which is the last state. ``aux`` int32 (A,):
    0 nothing, below ``len(words)`` that word, from there on a word sequence of the table ``sequence_*``. ``score``
    float32 (A,): log-probability (nats) of LM and optional silence; no transition probabilities, which are constant.
    """

    src: np.ndarray
    dst: np.ndarray
    label: np.ndarray
    aux: np.ndarray
    score: np.ndarray
    sequence_offsets: np.ndarray
    sequence_words: np.ndarray
    num_pdfs: int
    words: list[str]
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def num_states(self) -> int:
        return int(self.dst.max(initial=-1)) + 1

    @property
    def num_arcs(self) -> int:
        return len(self.src)

    @classmethod
    def from_fst(
        cls, fst: FstArrays, num_pdfs: int, words: Sequence[str], spelled: tuple[np.ndarray, np.ndarray] | None = None
    ) -> "DecodingGraph":
        """Remove epsilons, add self-loops and one final state. ``words``: output symbols, index = id; ``spelled``: see add_self_loops."""
        outputs = Outputs(len(words))
        looped = breadth_first(add_self_loops(remove_epsilons(fst, outputs), spelled))
        ends = np.flatnonzero(np.isfinite(looped.final)).astype(np.int32)
        last, none = looped.num_states, np.zeros(len(ends), dtype=np.int32)
        src = np.concatenate([looped.src, ends])
        dst = np.concatenate([looped.dst, np.full(len(ends), last, np.int32)])
        label = np.concatenate([looped.ilabel, none - 1])
        aux = np.concatenate([looped.olabel, none])
        score = -np.concatenate([looped.weight, looped.final[ends]])
        # k2 requires arcs in source order; the final arc's -1 counts as the largest label.
        del looped
        order = np.lexsort((dst, label.astype(np.uint32), src))
        columns = {"src": src, "dst": dst, "label": label, "aux": aux, "score": score}
        arrays: dict[str, Any] = {name: np.ascontiguousarray(value[order], dtype=_ARRAYS[name]) for name, value in columns.items()}
        sizes = [0, *(len(sequence) for sequence in outputs.sequences)]
        graph = cls(
            **arrays, sequence_offsets=np.cumsum(sizes).astype(np.int32),
            sequence_words=np.array([w for s in outputs.sequences for w in s], dtype=np.int32),
            num_pdfs=num_pdfs, words=list(words),
        )  # fmt: skip
        graph.check("graph")
        return graph

    def check(self, where: object) -> None:
        """Raise KdError unless the arrays agree and hold valid values; ``where`` names their source."""
        self.check_sizes(where)
        if bad := [name for name, arcs in self.faults().items() if len(arcs)]:
            raise KdError(f"{where}: {', '.join(bad)} out of range ({self.num_pdfs} pdfs, {len(self.words)} words); make the graph again")

    def check_sizes(self, where: object) -> None:
        """Raise KdError unless there are arcs and all arrays have as many entries."""
        sizes = {len(array) for array in (self.src, self.dst, self.label, self.aux, self.score)}
        if len(sizes) != 1 or not self.num_arcs:
            raise KdError(f"{where}: arrays of {sorted(sizes)} arcs are no graph; make it again")

    def faults(self) -> dict[str, np.ndarray]:
        """Faults of the arcs: kind -> indices of the arcs; the kinds are always the same five."""
        top = len(self.words) + len(self.sequence_offsets) - 1
        last = self.num_states - 1
        order = np.diff(self.src, prepend=0) < 0
        order[0] |= self.src[0] != 0
        bad = {
            "states": order | (self.dst < 0) | (self.src >= last),
            "label": (self.label < -1) | (self.label == 0) | (self.label > self.num_pdfs),
            "final": (self.label == -1) != (self.dst == last),
            "output": (self.aux < 0) | (self.aux >= top),
            "weight": ~np.isfinite(self.score),
        }
        return {name: np.flatnonzero(wrong) for name, wrong in bad.items()}

    @functools.cached_property
    def spelling(self) -> np.ndarray:
        """int32 (outputs, M): the word ids of each value of ``aux``, padded with zeros."""
        lengths = np.diff(self.sequence_offsets)
        table = np.zeros((len(self.words) + len(lengths), max([1, *lengths])), dtype=np.int32)
        table[: len(self.words), 0] = np.arange(len(self.words))
        for n, (first, last) in enumerate(zip(self.sequence_offsets[:-1], self.sequence_offsets[1:], strict=True)):
            table[len(self.words) + n, : last - first] = self.sequence_words[first:last]
        return table

    def as_fst(self) -> FstArrays:
        """The graph as a transducer with final costs: for searches other than k2."""
        end = self.label == -1
        final = np.full(self.num_states - 1, np.inf, dtype=np.float32)
        final[self.src[end]] = -self.score[end]
        keep = ~end
        return FstArrays.build(self.src[keep], self.dst[keep], self.label[keep], self.aux[keep], -self.score[keep], final)

    def to_k2(self) -> Any:
        """A k2 Fsa: labels pdf + 1, -1 on final arcs; ragged ``aux_labels`` (word ids); ``scores`` and ``lm_scores``: the graph's, nats."""
        from kdtool.graph.k2api import make_fsa, with_words

        return with_words(make_fsa(self.src, self.dst, self.label, self.score), self.spelling[self.aux], self.score)

    def save(self, folder: Path) -> None:
        """Write the three files into an existing folder."""
        save_tensors(folder / GRAPH_FILE, {name: getattr(self, name) for name in _ARRAYS}, {"num_pdfs": str(self.num_pdfs)})
        write_table(folder / WORDS_FILE, {word: number for number, word in enumerate(self.words)})
        megabytes = round((folder / GRAPH_FILE).stat().st_size / 1e6, 2)
        sizes = {"states": self.num_states, "arcs": self.num_arcs, "num_pdfs": self.num_pdfs, "megabytes": megabytes}
        write_json(folder / META_FILE, {**self.meta, **sizes})

    @classmethod
    def load(cls, folder: Path, check: bool = True) -> "DecodingGraph":
        """Read a graph folder; missing, corrupt or (unless ``check`` is off) contradictory files are a KdError."""
        folder = Path(folder)
        tensors = load_tensors(folder / GRAPH_FILE)
        table = read_table(folder / WORDS_FILE)
        meta = read_json(folder / META_FILE)
        if set(tensors) != set(_ARRAYS) or sorted(table.values()) != list(range(len(table))):
            raise KdError(f"{folder} is no graph folder ({sorted(tensors)}); make the graph again")
        graph = cls(**tensors, num_pdfs=int(meta["num_pdfs"]), words=sorted(table, key=table.__getitem__), meta=meta)
        graph.check_sizes(folder)
        if check:
            graph.check(folder)
        return graph
