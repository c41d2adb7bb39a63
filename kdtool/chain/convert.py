"""Step: an alignment with a chain tree's pdfs.

In: a lang folder, a 10 ms alignment, a folder with a chain tree. Out: an alignment folder (ali.safetensors, index.jsonl, meta.json,
dropped.tsv) that LF-MMI and cross-entropy students of this tree train on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.inputs import door
from kdtool.core.step import run_step


@dataclass(frozen=True)
class ConvertConfig:
    """Options of the conversion."""

    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})


def convert(paths: dict[str, Path], work: Path, cfg: ConvertConfig) -> None:
    """Convert all alignments of a folder into `work`. paths: lang, ali, tree."""
    from kdtool.chain.labels import check_tree, to_chain
    from kdtool.core.dropped import account
    from kdtool.formats.alignment import Alignment, AlignmentSet, save_alignments
    from kdtool.formats.tree import CHAIN, Tree
    from kdtool.gmm.folder import check_alignment, phones_digest
    from kdtool.lang.lang import Lang

    lang, alignments = Lang.load(paths["lang"]), AlignmentSet.open(paths["ali"])
    tree = check_tree(Tree.load(paths["tree"]), paths["tree"])
    check_alignment(alignments, lang)
    made = {u: to_chain(alignments.get(u), tree) for u in alignments.ids}
    kept = [a for a in made.values() if isinstance(a, Alignment)]
    dropped = [(u, reason) for u, reason in made.items() if isinstance(reason, str)]
    save_alignments(work, kept, {
        "tree_digest": tree.digest, "lang_digest": lang.digest, "phones_digest": phones_digest(lang), "num_pdfs": tree.num_pdfs,
        "frames": sum(a.num_frames for a in kept), "topology": CHAIN,
    })  # fmt: skip
    account(len(alignments), len(kept), dropped, max_share=cfg.max_dropped, where="convert_ali", work=work)


def main(argv: Sequence[str] | None = None) -> None:
    paths, cfg, common = parse_args(
        ConvertConfig,
        [("lang", "lang folder"), ("ali", "10 ms alignment"), ("tree", "folder with a chain tree"), ("out", "alignment folder to make")],
        argv, prog="steps/convert_ali.sh", description="Give an alignment the pdfs of a chain tree, for LF-MMI students.",
    )  # fmt: skip
    run(paths, cfg, common)


def run(paths: dict[str, Any], cfg: ConvertConfig, common: Common) -> None:
    run_step(
        "convert_ali",
        out=paths["out"],
        inputs={"lang": paths["lang"], "alignment": paths["ali"], "tree": paths["tree"] / "tree.safetensors"},
        options=cfg,
        code=("kdtool.chain.convert",),
        body=lambda work: convert(paths, work, cfg),
        common=common,
        doors=[door("lang", paths["lang"]), door("ali", paths["ali"])],
    )


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
