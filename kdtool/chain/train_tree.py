"""Step: tree over left biphones with the chain topology.

In: a feature folder, a lang folder, a 10 ms alignment of these features. Out: tree.safetensors, questions.txt, splits.jsonl
(utils/show_tree.sh), meta.json. Each phone has two pdfs, of its first 30 ms and of all later ones; each is split by questions about the
phone before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.inputs import door
from kdtool.core.step import run_step

if TYPE_CHECKING:
    from kdtool.gmm.tree_build import TreeStats

PART = 32  # utterances whose frames are in memory together


@dataclass(frozen=True)
class ChainTreeConfig:
    """Options of the tree."""

    leaves: int = field(default=600, metadata={"help": "largest number of pdfs"})
    min_count: float = field(default=100.0, metadata={"help": "smallest number of 10 ms frames of a pdf"})
    min_gain: float = field(default=100.0, metadata={"help": "smallest gain in log-likelihood (nats) of a split"})
    deltas: int = field(default=2, metadata={"help": "order of the time derivatives (deltas) of the features"})


def gather(paths: dict[str, Path], deltas: int) -> TreeStats:
    """Statistics of every (left phone, phone, first or loop) that the alignment shows; the right phone of all keys is 0."""
    import numpy as np

    from kdtool.chain.labels import chain_states
    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.gmm.feats import FrontEnd
    from kdtool.gmm.tree_build import merge_stats

    features, alignments = FeatureSet.open(paths["feats"]), AlignmentSet.open(paths["ali"])
    front = FrontEnd(features.kind, features.dim, deltas)
    ids = [u for u in features.ids if u in alignments and features.info(u).speed == 1.0]
    parts = []
    for start in range(0, len(ids), PART):
        alis = [alignments.get(u) for u in ids[start : start + PART]]
        left, state = (np.concatenate(column) for column in zip(*map(chain_states, alis), strict=True))
        phone = np.concatenate([a.phone for a in alis]).astype(np.int64)
        keys = np.stack([left, phone, np.zeros_like(phone), state], axis=1)
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        x = np.concatenate([front.features(features, a.id) for a in alis])[order].astype(np.float64)
        count = np.bincount(inverse.reshape(-1), minlength=len(unique))
        starts = np.cumsum(count) - count
        moments = np.concatenate([np.add.reduceat(x**2, starts), np.add.reduceat(x, starts)], axis=1)
        parts.append((unique, count.astype(np.float64), moments))
    return merge_stats(parts)


def train_tree(paths: dict[str, Path], work: Path, cfg: ChainTreeConfig) -> None:
    """Build the tree and write it into `work`. paths: feats, lang, ali."""
    from kdtool.core.tables import write_json
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.formats.tree import CHAIN, Tree
    from kdtool.gmm.folder import check_alignment, phones_digest
    from kdtool.gmm.tree_build import build_tree
    from kdtool.gmm.tree_show import save_nodes
    from kdtool.gmm.triphone import write_questions
    from kdtool.lang.lang import Lang

    lang = Lang.load(paths["lang"])
    check_alignment(AlignmentSet.open(paths["ali"]), lang)
    grown, questions, nodes = build_tree(
        gather(paths, cfg.deltas), dict.fromkeys(lang.num_states, 2), lang.sil, lang.silence_ids, leaves=cfg.leaves,
        min_count=cfg.min_count, min_gain=cfg.min_gain, family=lang.family, position_sets=lang.position_sets,
    )  # fmt: skip
    tree = Tree(grown.pdf_map, grown.family, CHAIN)
    tree.save(work)
    write_questions(work, questions, lang.phone_names)
    save_nodes(work, nodes, lang.phone_names, lang.plain_names)
    write_json(work / "meta.json", {"tree_digest": tree.digest, "phones_digest": phones_digest(lang), "num_pdfs": tree.num_pdfs})
    print(f"train_chain_tree: {len(questions)} questions, {tree.num_pdfs} pdfs of {len(lang.num_states)} phones", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    paths, cfg, common = parse_args(
        ChainTreeConfig,
        [("feats", "feature folder"), ("lang", "lang folder"), ("ali", "10 ms alignment of these features"), ("out", "folder to make")],
        argv, prog="steps/train_chain_tree.sh", description="Tree over left biphones with the chain topology, for LF-MMI students.",
    )  # fmt: skip
    run(paths, cfg, common)


def run(paths: dict[str, Any], cfg: ChainTreeConfig, common: Common) -> None:
    run_step(
        "train_chain_tree",
        out=paths["out"],
        inputs={"features": paths["feats"], "lang": paths["lang"], "alignment": paths["ali"]},
        options=cfg,
        code=("kdtool.chain.train_tree",),
        body=lambda work: train_tree(paths, work, cfg),
        common=common,
        doors=[door("features", paths["feats"]), door("lang", paths["lang"]), door("ali", paths["ali"], feats=paths["feats"])],
    )


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
