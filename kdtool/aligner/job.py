"""One job of `kdtool align`.  In: features, pronunciations, a GMM folder.  Out: WORK/part.J.jsonl, an utterance a line.

A line: id, frames, loglike, words and phones as `posterior.Piece` holds them; or id and `failed`, the reason.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main


def align_part(work: Path, lang_dir: Path, gmm_dir: Path, scale: float, job: int, num_jobs: int) -> None:
    """Align one job's share."""
    import torch

    from kdtool.core.jobs import split
    from kdtool.core.progress import progress
    from kdtool.core.tables import write_jsonl
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import open_gmm
    from kdtool.graph.training import GraphBuilder
    from kdtool.lang.lang import Lang, read_prons

    torch.set_num_threads(1)
    lang, features = Lang.load(lang_dir), FeatureSet.open(work / "feats")
    model, tree, feature = open_gmm(gmm_dir)
    prons = read_prons(work / "prons.txt", lang.phones)
    builder = GraphBuilder(prons, lang.sil, lang.oov, tree, lang.probs.part(prons) if lang.probs else None)
    ids = split(features.ids, job, num_jobs)
    rows = (align_one(u, features, builder, model, feature, scale) for u in progress(ids, len(ids), f"align, job {job}"))
    write_jsonl(work / f"part.{job}.jsonl", rows)


def align_one(utterance: str, features: Any, builder: Any, model: Any, feature: dict[str, Any], scale: float) -> dict[str, Any]:
    """One utterance's line."""
    import numpy as np

    from kdtool.aligner.posterior import align_scores
    from kdtool.gmm.feats import gmm_features
    from kdtool.gmm.shard import too_short

    info = features.info(utterance)
    graph = builder.build(builder.known_words(info.text)[0])
    if info.num_frames < graph.min_frames:
        return {"id": utterance, "failed": too_short(graph.min_frames, info.num_frames)}
    pdfs = graph.used_pdfs()
    scores = np.zeros((info.num_frames, 1 + len(pdfs)), np.float32)
    scores[:, 1:] = model.log_likelihood(gmm_features(features, utterance, feature["deltas"]), pdfs)
    found = align_scores(graph, graph.to_fsa(), scores, scale)
    if found is None:
        return {"id": utterance, "failed": "no path through the text was found; does the text belong to this audio?"}
    return {"id": utterance, "frames": info.num_frames, **asdict(found)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="one job of kdtool align")
    for name in ("work", "lang", "gmm"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--job", type=int, required=True)
    parser.add_argument("--num-jobs", type=int, required=True)
    a = parser.parse_args(argv)
    align_part(a.work, a.lang, a.gmm, a.scale, a.job, a.num_jobs)


if __name__ == "__main__":
    cli_main(main)
