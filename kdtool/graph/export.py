"""Command graph: a decoding graph for users of k2.  In: a graph folder.  Out: a file that holds a k2 Fsa.

    kdtool graph export DIR OUT.pt --format k2      then: fsa = k2.Fsa.from_dict(torch.load("OUT.pt"))

Labels are senone + 1 (column 0 of the scores is epsilon), -1 on final arcs; aux_labels are word ids of words.txt, ragged, since an arc may
say several words; scores are log-probabilities (nats) of LM and lexicon, and lm_scores the same. The file is written, never read back here.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import UsageError
from kdtool.core.own_file import check_file, keep_previous, note_own
from kdtool.graph.decoding_graph import DecodingGraph

FORMATS = ("k2",)


@dataclass(frozen=True)
class Config:
    """Options of `kdtool graph export`."""

    format: str = field(default="k2", metadata={"help": "k2: the dict that k2.Fsa.from_dict takes, in torch's file format"})


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    places = [("what", "export"), ("graph", "graph folder"), ("out", "file to write")]
    paths, cfg, _ = parse_args(Config, places, argv, prog="kdtool graph", description=__doc__ or "")
    if str(paths["what"]) != "export" or cfg.format not in FORMATS:
        raise UsageError(f"kdtool graph {paths['what']} --format {cfg.format}: known is 'export' with --format {', '.join(FORMATS)}")
    out = Path(os.path.realpath(paths["out"]))
    check_file(out)
    import torch

    fsa = DecodingGraph.load(paths["graph"]).to_k2()
    with tempfile.TemporaryDirectory(prefix=f".{out.name[:40]}.", dir=out.parent) as folder:
        temporary = Path(folder) / "fsa.pt"
        torch.save(fsa.as_dict(), temporary)
        keep_previous(out)
        os.replace(temporary, out)
    note_own(out)
    print(f"{paths['out']}: k2 Fsa with {fsa.shape[0]} states, {fsa.num_arcs} arcs")


if __name__ == "__main__":
    cli_main(main)
