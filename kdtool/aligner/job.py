"""One job of `kdtool align`.  In: features, audio, pronunciations, a GMM folder.  Out: WORK/part.J.jsonl, one line per utterance.

A line holds: id, frames, loglike, words and phones (as `posterior.Piece`), edges (times of the phones' boundaries, seconds), fit
(as `fit.TextFit`); or id and `failed`, the reason.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError
from kdtool.features.store import FRAME_SHIFT

if TYPE_CHECKING:
    import numpy as np

    from kdtool.aligner.loop import PhoneLoop
    from kdtool.aligner.posterior import Found
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import Gmm
    from kdtool.graph.training import GraphBuilder

AUDIO_TABLE = "staged.jsonl"  # {"id", "path", "seconds"} per line: audio at the model's rate, exact duration of the original


@dataclass(frozen=True)
class Options:
    """scale: acoustic, for posteriors; min_silence: seconds, shorter silences between words are joined; refine: move silence edges."""

    scale: float
    min_silence: float
    refine: bool


@dataclass(frozen=True)
class Aligner:
    """What all utterances of a job share: models, graphs, tables."""

    features: FeatureSet
    builder: GraphBuilder
    gmm: Gmm
    loop: PhoneLoop
    units: GraphBuilder  # graphs over the loop's units
    silence: int
    staged: dict[str, dict[str, Any]]
    options: Options


def align_part(work: Path, lang_dir: Path, gmm_dir: Path, options: Options, job: int, num_jobs: int) -> None:
    """Align one job's share."""
    import torch

    from kdtool.ali import aligner as adapting
    from kdtool.aligner.loop import PhoneLoop
    from kdtool.core.jobs import split_groups
    from kdtool.core.progress import progress
    from kdtool.core.tables import read_jsonl, write_jsonl
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import open_gmm
    from kdtool.graph.training import GraphBuilder
    from kdtool.lang.lang import Lang, read_prons

    torch.set_num_threads(1)
    lang, features = Lang.load(lang_dir), FeatureSet.open(work / "feats")
    gmm = open_gmm(gmm_dir)
    prons = read_prons(work / "prons.txt", lang.phones)
    probs, loop = lang.probs.part(prons) if lang.probs else None, PhoneLoop(gmm.tree, lang.num_states, lang.family)
    builder, units = (GraphBuilder(prons, lang.sil, lang.oov, tree, probs) for tree in (gmm.tree, loop.units))
    speakers = split_groups(features.by_speaker(features.ids), job, num_jobs)
    staged = {row["id"]: row for row in read_jsonl(work / AUDIO_TABLE)}
    aligner, rows = Aligner(features, builder, gmm, loop, units, lang.sil, staged, options), []
    adapter = adapting.Aligner(features, builder, gmm)
    for ids in progress(speakers, len(speakers), f"align, job {job}"):
        transform = adapter.learn(ids)
        rows += [try_one(aligner, u, transform) for u in ids]
    write_jsonl(work / f"part.{job}.jsonl", rows)


def try_one(aligner: Aligner, utterance: str, transform: np.ndarray | None) -> dict[str, Any]:
    """`align_one`; an error becomes the utterance's reason and does not stop the others."""
    try:
        return align_one(aligner, utterance, transform)
    except (KdError, MemoryError) as e:
        from kdtool.gmm.shard import too_large

        return {"id": utterance, "failed": str(e) or too_large(aligner.features.info(utterance).num_frames)}


def align_one(aligner: Aligner, utterance: str, transform: np.ndarray | None) -> dict[str, Any]:
    """One utterance's line. transform: the speaker's fMLLR, None if the model has none."""
    from kdtool.aligner.fit import text_fit
    from kdtool.aligner.posterior import align_scores
    from kdtool.gmm.shard import too_short

    info = aligner.features.info(utterance)
    words = aligner.builder.known_words(info.text)[0]
    graph = aligner.builder.build(words)
    if info.num_frames < graph.min_frames:
        return {"id": utterance, "failed": too_short(graph.min_frames, info.num_frames)}
    feats = aligner.gmm.front.features(aligner.features, utterance, transform)
    scores, units = aligner.loop.scores(aligner.gmm.model, feats, graph.used_pdfs())
    found = align_scores(graph, graph.to_fsa(), scores, aligner.options.scale)
    if found is None:
        return {"id": utterance, "failed": "no path through the text was found; does the text belong to this audio?"}
    judged = {"fit": asdict(text_fit(aligner.loop, aligner.units, words, found, units))}
    return {"id": utterance, "frames": info.num_frames, **judged, **_finished(aligner, found, aligner.staged[utterance])}


def _finished(aligner: Aligner, found: Found, staged: dict[str, Any]) -> dict[str, Any]:
    """The result with short silences joined and the times of all boundaries."""
    from kdtool.aligner.audio import read_staged
    from kdtool.aligner.refine import edges, join_short_silences

    found = join_short_silences(found, {aligner.silence}, math.ceil(aligner.options.min_silence / FRAME_SHIFT - 1e-9))
    if aligner.options.refine:
        samples, rate = read_staged(Path(staged["path"]))
        times = edges(found.phones, {aligner.silence}, samples, rate, staged["seconds"])
    else:
        times = [*(round(p.start * FRAME_SHIFT, 6) for p in found.phones), staged["seconds"]]
    return {**asdict(found), "edges": times}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="one job of kdtool align")
    for name in ("work", "lang", "gmm"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--min-silence", type=float, required=True)
    parser.add_argument("--refine", action="store_true")
    parser.add_argument("--job", type=int, required=True)
    parser.add_argument("--num-jobs", type=int, required=True)
    a = parser.parse_args(argv)
    align_part(a.work, a.lang, a.gmm, Options(a.scale, a.min_silence, a.refine), a.job, a.num_jobs)


if __name__ == "__main__":
    cli_main(main)
