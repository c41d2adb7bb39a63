"""Step: an alignment with a chain tree's pdfs.

In: a lang folder, a 10 ms alignment, a folder with a chain tree. Out: an alignment folder (ali.safetensors, index.jsonl, meta.json,
dropped.tsv) that LF-MMI and cross-entropy students of this tree train on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.chain.labels import load_tree, to_chain
from kdtool.core.cli import cli_main
from kdtool.core.dropped import account
from kdtool.core.main import ALI, LANG, TREE, step_main
from kdtool.formats.alignment import Alignment, save_alignments
from kdtool.formats.tree import CHAIN
from kdtool.gmm.folder import open_alignments, phones_digest


@dataclass(frozen=True)
class ConvertConfig:
    """Options of the conversion."""

    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})


def convert(paths: dict[str, Path], work: Path, cfg: ConvertConfig, _nj: int) -> None:
    """Convert all alignments of a folder into `work`. paths: lang, ali, tree."""
    lang, alignments = open_alignments(paths["lang"], paths["ali"])
    tree = load_tree(paths["tree"])
    made = {u: to_chain(alignments.get(u), tree) for u in alignments.ids}
    kept = [a for a in made.values() if isinstance(a, Alignment)]
    dropped = [(u, reason) for u, reason in made.items() if isinstance(reason, str)]
    save_alignments(work, kept, {
        "tree_digest": tree.digest, "lang_digest": lang.digest, "phones_digest": phones_digest(lang), "num_pdfs": tree.num_pdfs,
        "frames": sum(a.num_frames for a in kept), "topology": CHAIN,
    })  # fmt: skip
    account(len(alignments), len(kept), dropped, max_share=cfg.max_dropped, where="convert_ali", work=work)


def main(argv: Sequence[str] | None = None) -> None:
    step_main(
        "convert_ali", ConvertConfig, {"lang": LANG, "ali": ALI, "tree": TREE}, "alignment folder to make", convert, argv,
        code="kdtool.chain.convert", description="Give an alignment the pdfs of a chain tree, for LF-MMI students.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
