"""Step: the denominator graph of LF-MMI.

In: a lang folder, the training alignment (its phones), a folder with a chain tree. Out: denominator.safetensors, meta.json with its
size. The phone n-gram has no back-off: see kdtool/chain/phone_lm.py.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.chain.denominator import Denominator
from kdtool.chain.labels import load_tree
from kdtool.chain.phone_lm import estimate
from kdtool.core.cli import cli_main
from kdtool.core.errors import UsageError
from kdtool.core.main import ALI, LANG, TREE, step_main
from kdtool.gmm.folder import open_alignments


@dataclass(frozen=True)
class DenominatorConfig:
    """Options of the denominator."""

    order: int = field(default=3, metadata={"help": "order of the phone n-gram"})
    keep: int = field(default=2, metadata={"help": "order up to which no history is pruned"})
    states: int = field(default=200, metadata={"help": "number of longer histories that are kept"})

    def __post_init__(self) -> None:
        if not 2 <= self.keep <= self.order or self.states < 0:
            raise UsageError(f"order {self.order}, keep {self.keep}, states {self.states}: 2 <= keep <= order and states >= 0 are expected")


def make(paths: dict[str, Path], work: Path, cfg: DenominatorConfig, _nj: int) -> None:
    """Write the denominator into `work`. paths: lang, ali, tree."""
    _, alignments = open_alignments(paths["lang"], paths["ali"])
    tree = load_tree(paths["tree"])
    sequences = [alignments.get(u).phone_segments().ids.tolist() for u in alignments.ids]
    lm = estimate(sequences, len(tree.pdf_map) - 1, order=cfg.order, keep=cfg.keep, states=cfg.states)
    denominator = Denominator.make(lm, tree)
    scores = [lm.walk(s)[1] for s in sequences]
    perplexity = math.exp(-sum(s.sum() for s in scores) / sum(map(len, scores)))
    denominator.meta |= {"order": cfg.order, "keep": cfg.keep, "perplexity": round(float(perplexity), 3)}
    denominator.save(work)
    meta = denominator.meta
    print(f"make_denominator: {meta['lm_states']} histories, perplexity {perplexity:.2f} per phone on {len(sequences)} utterances; "
          f"{meta['states']} states, {meta['arcs']} arcs over {tree.num_pdfs} pdfs", file=sys.stderr)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    inputs = {"lang": LANG, "ali": ALI.called("training alignment"), "tree": TREE}
    step_main(
        "make_denominator", DenominatorConfig, inputs, "folder to make", make, argv, code="kdtool.chain.make_denominator",
        description="Denominator graph of LF-MMI: phone n-gram and tree as one acceptor.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
