"""Step: decision tree and triphone GMM.

In: a feature folder, a lang folder, an alignment of these features. Out: a GMM folder (see ``kdtool.gmm.folder``),
questions.txt, splits.jsonl (utils/show_tree.sh) and dropped.tsv.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main
from kdtool.core.main import step_main
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.triphone import INPUTS, TriphoneConfig, open_sources, train_triphone


@dataclass(frozen=True)
class TriConfig(TriphoneConfig):
    """Options of the triphone training."""

    deltas: int = field(default=2, metadata={"help": "order of the time derivatives (deltas)"})


def train_tri(paths: dict[str, Path], work: Path, cfg: TriConfig, nj: int) -> None:
    """Build the tree, train, and write the GMM folder into `work`. paths: feats, lang, ali."""
    sources = open_sources(paths)
    front = FrontEnd(sources.features.kind, sources.features.dim, cfg.deltas)
    train_triphone(sources, front, cfg, work, nj, step="train_tri", label="triphone")


def main(argv: Sequence[str] | None = None) -> None:
    step_main(
        "train_tri", TriConfig, INPUTS, "GMM folder to make", train_tri, argv, code="kdtool.gmm.train_tri",
        description="Build a decision tree and train a triphone GMM.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
