"""Command graph: a decoding graph for users of k2.  In: a graph folder.  Out: a file that holds a k2 Fsa.

    kdtool graph export DIR OUT.pt --format k2      then: fsa = k2.Fsa.from_dict(torch.load("OUT.pt"))

Labels are senone + 1 (column 0 of the scores is epsilon), -1 on final arcs; aux_labels are word ids of words.txt, ragged, since an arc may
say several words; scores are log-probabilities (nats) of LM and lexicon, and lm_scores the same. The file is written, never read back here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import UsageError
from kdtool.core.own_file import check_file, keep_previous, note_own
from kdtool.graph.decoding_graph import DecodingGraph

FORMATS = ("k2",)


@dataclass(frozen=True)
class Config:
    """Options of `kdtool graph export`."""

    format: str = field(default="k2", metadata={"help": "k2: the dict that k2.Fsa.from_dict takes, in torch's file format"})


def to_k2(graph: DecodingGraph) -> Any:
    """The graph as a k2 Fsa with ragged ``aux_labels`` and ``lm_scores``; what a search in k2 takes."""
    import numpy as np
    import torch

    from kdtool.graph.k2api import make_fsa, require_k2

    k2 = require_k2()
    fsa = make_fsa(graph.src, graph.dst, graph.label, graph.score)
    words = graph.spelling[graph.aux]
    lengths = (words > 0).sum(axis=1)
    # -1 on final arcs, as in k2's scripts.
    rows = np.where(graph.label == -1, 1, lengths)
    splits = np.concatenate([[0], np.cumsum(rows)]).astype(np.int32)
    values = np.full(splits[-1], -1, np.int32)
    inner = np.repeat(graph.label != -1, rows)
    values[inner] = words[(words > 0) & (graph.label != -1)[:, None]]
    shape = k2.ragged.create_ragged_shape2(torch.from_numpy(splits), None, int(splits[-1]))
    fsa.aux_labels = k2.RaggedTensor(shape, torch.from_numpy(values))
    fsa.lm_scores = fsa.scores.clone()
    return fsa


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    places = [("what", "export"), ("graph", "graph folder"), ("out", "file to write")]
    paths, cfg, _ = parse_args(Config, places, argv, prog="kdtool graph", description=__doc__ or "")
    if str(paths["what"]) != "export" or cfg.format not in FORMATS:
        raise UsageError(f"kdtool graph {paths['what']} --format {cfg.format}: known is 'export' with --format {', '.join(FORMATS)}")
    out = Path(os.path.realpath(paths["out"]))
    check_file(out)
    import torch

    fsa = to_k2(DecodingGraph.load(paths["graph"]))
    with tempfile.TemporaryDirectory(prefix=f".{out.name[:40]}.", dir=out.parent) as folder:
        temporary = Path(folder) / "fsa.pt"
        torch.save(fsa.as_dict(), temporary)
        keep_previous(out)
        os.replace(temporary, out)
    note_own(out)
    print(f"{paths['out']}: k2 Fsa with {fsa.shape[0]} states, {fsa.num_arcs} arcs")


if __name__ == "__main__":
    cli_main(main)
