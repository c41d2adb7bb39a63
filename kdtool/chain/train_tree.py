"""Step: tree over left biphones with the chain topology.

In: a feature folder, a lang folder, a 10 ms alignment of these features. Out: tree.safetensors, questions.txt, splits.jsonl
(utils/show_tree.sh), meta.json. Each phone has two pdfs, of its first 30 ms and of all later ones; each is split by questions about the
phone before.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdtool.chain.labels import chain_states
from kdtool.core.cli import cli_main
from kdtool.core.main import FEATS, LANG, Input, step_main
from kdtool.core.tables import write_json
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import CHAIN, Tree
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import open_alignments, phones_digest
from kdtool.gmm.tree_build import grow_tree
from kdtool.gmm.tree_stats import TreeStats, frame_stats, merge_stats

PART = 32  # utterances whose frames are in memory together


@dataclass(frozen=True)
class ChainTreeConfig:
    """Options of the tree."""

    leaves: int = field(default=600, metadata={"help": "largest number of pdfs"})
    min_count: float = field(default=100.0, metadata={"help": "smallest number of 10 ms frames of a pdf"})
    min_gain: float = field(default=100.0, metadata={"help": "smallest gain in log-likelihood (nats) of a split"})
    deltas: int = field(default=2, metadata={"help": "order of the time derivatives (deltas) of the features"})


def gather(features: FeatureSet, alignments: AlignmentSet, deltas: int) -> TreeStats:
    """Statistics of every (left phone, phone, first or loop) that the alignment shows; the right phone of all keys is 0."""
    front = FrontEnd(features.kind, features.dim, deltas)
    ids = [u for u in features.ids if u in alignments and features.info(u).speed == 1.0]
    parts = []
    for start in range(0, len(ids), PART):
        alis = [alignments.get(u) for u in ids[start : start + PART]]
        left, state = (np.concatenate(column) for column in zip(*map(chain_states, alis), strict=True))
        phone = np.concatenate([a.phone for a in alis]).astype(np.int64)
        keys = np.stack([left, phone, np.zeros_like(phone), state], axis=1)
        parts.append(frame_stats(keys, np.concatenate([front.features(features, a.id) for a in alis])))
    return merge_stats(parts)


def train_tree(paths: dict[str, Path], work: Path, cfg: ChainTreeConfig, _nj: int) -> None:
    """Build the tree and write it into `work`. paths: feats, lang, ali."""
    lang, alignments = open_alignments(paths["lang"], paths["ali"])
    stats = gather(FeatureSet.open(paths["feats"]), alignments, cfg.deltas)
    grown, questions = grow_tree(stats, lang, dict.fromkeys(lang.num_states, 2), cfg, work)
    tree = Tree(grown.pdf_map, grown.family, CHAIN)
    tree.save(work)
    write_json(work / "meta.json", {"tree_digest": tree.digest, "phones_digest": phones_digest(lang), "num_pdfs": tree.num_pdfs})
    print(f"train_chain_tree: {questions} questions, {tree.num_pdfs} pdfs of {len(lang.num_states)} phones", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    ali = Input("alignment", "10 ms alignment of these features", "ali", beside=("feats",))
    step_main(
        "train_chain_tree", ChainTreeConfig, {"feats": FEATS, "lang": LANG, "ali": ali}, "folder to make", train_tree, argv,
        code="kdtool.chain.train_tree", description="Tree over left biphones with the chain topology, for LF-MMI students.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
