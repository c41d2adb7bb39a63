"""One job of the align step.

In: feature, lang and GMM folders, the job's number. Out: WORK/part.J (alignments of this job's utterances) with the
utterances lost in its meta.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import cli_main

if TYPE_CHECKING:
    from kdtool.ali.store import Alignment


def align_part(feat_dir: Path, lang_dir: Path, gmm_dir: Path, work: Path, job: int, num_jobs: int) -> None:
    """Align one job's share and write work/part.<job>."""
    import torch

    from kdtool.ali.store import save_alignments
    from kdtool.core.jobs import split
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import open_gmm, original_ids, used_words
    from kdtool.graph.training import GraphBuilder
    from kdtool.lang.lang import Lang

    torch.set_num_threads(1)
    lang, features = Lang.load(lang_dir), FeatureSet.open(feat_dir)
    model, tree, feature = open_gmm(gmm_dir)
    ids = split(original_ids(features), job, num_jobs)
    builder = GraphBuilder.of(used_words(lang, features, ids), tree)
    totals: dict[str, Any] = {"lost": [], "frames": 0, "loglike": 0.0, "unknown_words": 0}
    found = align(features, ids, builder, model, feature["deltas"], totals, f"align, job {job}")
    alignments = list(found)
    save_alignments(work / f"part.{job}", alignments, totals)


def align(
    features: Any, ids: list[str], builder: Any, model: Any, deltas: int, totals: dict[str, Any], label: str
) -> Iterator[Alignment]:
    """Alignments of `ids` in order; what is lost, and sums, go to `totals`."""
    from kdtool.ali.from_path import to_alignment
    from kdtool.core.progress import progress
    from kdtool.gmm.feats import gmm_features
    from kdtool.gmm.shard import too_short, viterbi_states

    for utterance in progress(ids, len(ids), label):
        info = features.info(utterance)
        known, unknown = builder.known_words(info.text)
        totals["unknown_words"] += unknown
        graph = builder.build(known)
        if info.num_frames < graph.min_frames:
            totals["lost"].append([utterance, too_short(graph.min_frames, info.num_frames)])
            continue
        best = viterbi_states(model, graph, graph.to_fsa(), gmm_features(features, utterance, deltas))
        if best is None:
            totals["lost"].append([utterance, "the alignment found no path"])
            continue
        totals["frames"] += info.num_frames
        totals["loglike"] += best[1]
        yield to_alignment(utterance, graph, best[0], info.text.split())


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="one job of steps/align.sh")
    for name in ("feats", "lang", "gmm", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--job", type=int, required=True)
    parser.add_argument("--num-jobs", type=int, required=True)
    a = parser.parse_args(argv)
    align_part(a.feats, a.lang, a.gmm, a.work, a.job, a.num_jobs)


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
