"""Phone bigram or free phone loop -> decoding graph for phone error rates.

In: alignments (their phones, silence being a phone like any other) and the tree. Out: a DecodingGraph whose outputs are phones. With the
bigram it measures the acoustic model with almost no language knowledge, with the loop (--order 0) with none but the model's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError, UsageError
from kdtool.core.main import LANG, TREE, Input, step_main
from kdtool.graph.fst import FstArrays

if TYPE_CHECKING:
    from kdtool.graph.decoding_graph import DecodingGraph
    from kdtool.lang.lang import Lang


@dataclass(frozen=True)
class Config:
    """Options of make_phone_graph."""

    order: int = field(default=2, metadata={"help": "2: bigram of the alignments' phones; 0: free loop, all phones equally likely"})
    min_count: int = field(default=5, metadata={"help": "leave out phones that occur less often in the alignments"})

    def __post_init__(self) -> None:
        if self.order not in (0, 2):
            raise UsageError(f"--order {self.order}: 0 (free loop) or 2 (bigram)")


def bigram_counts(sequences: Iterable[np.ndarray], size: int) -> np.ndarray:
    """Counts int64 (size, size) of neighbours [first, second]; index 0 is the start (as first) and the end (as second)."""
    counts = np.zeros((size, size), dtype=np.int64)
    for phones in sequences:
        edged = np.concatenate([[0], phones, [0]])
        np.add.at(counts, (edged[:-1], edged[1:]), 1)
    return counts


def witten_bell(counts: np.ndarray) -> np.ndarray:
    """Log P(second | first), float64, interpolated with the unigram (Witten & Bell 1991); -inf for phones never seen.

    A phone without any successor in the counts still gets the unigram's share, so no seen phone is impossible.
    """
    total = counts.sum(axis=1)
    types = (counts > 0).sum(axis=1)
    unigram = counts.sum(axis=0) / max(1, counts.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        prob = (counts + types[:, None] * unigram[None]) / (total + types)[:, None]
        return np.where(total[:, None] > 0, np.log(prob), -np.inf)


def free_loop(counts: np.ndarray) -> np.ndarray:
    """Log P(second | first), float64, equal for every phone in the counts and for the end; -inf for the others."""
    seen = counts.sum(axis=0) > 0
    row = np.where(seen, -np.log(seen.sum()), -np.inf)
    return np.where(counts.sum(axis=1)[:, None] > 0, row, -np.inf)


def bigram_fst(log_prob: np.ndarray) -> FstArrays:
    """The bigram as an acceptor of phone strings; state = last phone, state 0 = start of the utterance."""
    first, second = np.nonzero(np.isfinite(log_prob))
    phones = second > 0
    # The start state cannot end: there is no utterance without a phone.
    final = np.where(np.arange(len(log_prob)) > 0, -log_prob[:, 0], np.inf)
    weight = -log_prob[first, second][phones]
    return FstArrays.build(first[phones], second[phones], second[phones], second[phones], weight, final)


def make(paths: dict[str, Path], work: Path, cfg: Config, _nj: int) -> None:
    """Estimate the bigram, compile the graph and write it to ``work``. paths: lang, alignments, model."""
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.formats.tree import Tree
    from kdtool.graph.hclg import Clock, build_graph
    from kdtool.lang.lang import Lang

    lang, tree, alignments = Lang.load(paths["lang"]), Tree.load(paths["model"]), AlignmentSet.open(paths["alignments"])
    counts = bigram_counts((alignments.get(u).phone_segments().ids for u in alignments.ids), len(lang.phone_names))
    rare = np.flatnonzero(counts.sum(axis=0) < cfg.min_count)
    counts[rare[rare > 0]], counts[:, rare[rare > 0]] = 0, 0
    if not counts.any():
        raise KdError(f"{alignments.folder}: no phone occurs {cfg.min_count} times in {len(alignments)} alignments; lower --min-count")
    log_prob = witten_bell(counts) if cfg.order else free_loop(counts)
    clock = Clock("make_phone_graph")
    graph = build_graph(bigram_fst(log_prob), None, tree, lang.phone_names, clock)
    say_plain(graph, lang)
    seen = counts > 0
    entropy = -float((counts[seen] * log_prob[seen]).sum() / counts.sum())
    graph.meta.update(
        kind="phone", lm="phone" if cfg.order else "loop", order=cfg.order, tree=tree.digest, lang=lang.digest, alignment=alignments.digest,
        silence_words=sorted(lang.phone_names[p] for p in lang.silence_ids), perplexity=round(float(np.exp(entropy)), 3),
        phones_left_out=[lang.phone_names[p] for p in rare if p > 0],
    )  # fmt: skip
    graph.save(work)
    clock.write(work)


def say_plain(graph: "DecodingGraph", lang: "Lang") -> None:
    """Strip positions in the word from the graph's outputs, in place: error rates compare plain phones."""
    head = np.arange(len(graph.words) + len(graph.sequence_offsets) - 1, dtype=np.int32)
    head[list(lang.family)] = list(lang.family.values())
    graph.aux, graph.sequence_words = head[graph.aux], head[graph.sequence_words]
    graph.words = [lang.plain_names[p] if lang.family.get(p, p) == p else name for p, name in enumerate(graph.words)]


def main(argv: list[str] | None = None) -> None:
    inputs = {
        "lang": LANG.called("language folder"),
        "alignments": Input("alignments", "training alignments (phones)", "ali", beside=("lang",)),
        "model": TREE.called("folder with the tree"),
    }
    step_main(
        "make_phone_graph", Config, inputs, "graph folder to make", make, argv, code="kdtool.graph.phone_graph",
        description="Decoding graph of a phone bigram or a free phone loop, for phone error rates.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
