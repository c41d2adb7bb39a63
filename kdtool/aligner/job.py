"""One job of `kdtool align`.  In: features, audio, pronunciations, a GMM folder.  Out: WORK/part.J.jsonl, one line per utterance.

A line holds: id, frames, loglike, words and phones (as `posterior.Piece`), edges (times of the phones' boundaries, seconds), fit
(as `fit.TextFit`); or id and `failed`, the reason.
"""

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError
from kdtool.core.jobs import job_parser, split_groups
from kdtool.features.store import FRAME_SHIFT

if TYPE_CHECKING:
    import numpy as np

AUDIO_TABLE = "staged.jsonl"  # {"id", "path", "seconds"} per line: audio at the model's rate, exact duration of the original


class Aligner:
    """What all utterances of a job share: models, graphs, tables."""

    def __init__(self, work: Path, lang_dir: Path, gmm_dir: Path, options: argparse.Namespace) -> None:
        from kdtool.aligner.loop import PhoneLoop
        from kdtool.core.tables import read_jsonl
        from kdtool.features.store import FeatureSet
        from kdtool.gmm.folder import open_gmm
        from kdtool.graph.training import GraphBuilder, Words
        from kdtool.lang.lang import Lang, read_prons

        lang, self.features = Lang.load(lang_dir), FeatureSet.open(work / "feats")
        self.options, self.gmm, self.silence = options, open_gmm(gmm_dir), {lang.sil}
        prons = read_prons(work / "prons.txt", lang.phones)
        words = Words(prons, lang.sil, lang.oov, lang.probs.part(prons) if lang.probs else None)
        self.loop = PhoneLoop(self.gmm.tree, lang.num_states, lang.family)
        self.builder, self.units = (GraphBuilder(words, t) for t in (self.gmm.tree, self.loop.units))
        self.staged = {row["id"]: row for row in read_jsonl(work / AUDIO_TABLE)}

    def row(self, utterance: str, transform: "np.ndarray | None") -> dict[str, Any]:
        """One utterance's line; an error becomes its reason and does not stop the others. transform: the speaker's fMLLR."""
        from kdtool.gmm.search import too_large

        try:
            return {"id": utterance, **self._align(utterance, transform)}
        except (KdError, MemoryError) as e:
            return {"id": utterance, "failed": str(e) or too_large(self.features.info(utterance).num_frames)}

    def _align(self, utterance: str, transform: "np.ndarray | None") -> dict[str, Any]:
        from kdtool.aligner.fit import text_fit
        from kdtool.aligner.posterior import align_scores
        from kdtool.aligner.refine import edges, join_short_silences
        from kdtool.audio.reader import read
        from kdtool.gmm.search import too_short

        info, staged = self.features.info(utterance), self.staged[utterance]
        words = self.builder.known_words(info.text)[0]
        graph = self.builder.build(words)
        if info.num_frames < graph.min_frames:
            return {"failed": too_short(graph.min_frames, info.num_frames)}
        feats = self.gmm.front.features(self.features, utterance, transform)
        scores, units = self.loop.scores(self.gmm.model, feats, graph.used_pdfs())
        path = align_scores(graph, graph.to_fsa(), scores, self.options.scale)
        if path is None:
            return {"failed": "no path through the text was found; does the text belong to this audio?"}
        fit = asdict(text_fit(self.loop, self.units, words, path, units))
        path = join_short_silences(path, self.silence, math.ceil(self.options.min_silence / FRAME_SHIFT - 1e-9))
        if self.options.refine:
            samples, rate = read(Path(staged["path"]))
            times = edges(path.phones, self.silence, samples[0], rate, staged["seconds"])
        else:
            times = [*(round(p.start * FRAME_SHIFT, 6) for p in path.phones), staged["seconds"]]
        return {"frames": info.num_frames, "fit": fit, **asdict(path), "edges": times}


def main(argv: list[str] | None = None) -> None:
    parser = job_parser("one job of kdtool align", "work", "lang", "gmm")
    parser.add_argument("--scale", type=float, required=True, help="acoustic scale for posteriors")
    parser.add_argument("--min-silence", type=float, required=True, help="seconds; shorter silences between words are joined")
    parser.add_argument("--refine", action="store_true", help="move the edges of silence")
    a = parser.parse_args(argv)
    import torch

    from kdtool.ali import aligner as adapting
    from kdtool.core.progress import progress
    from kdtool.core.tables import write_jsonl

    torch.set_num_threads(1)
    aligner, rows = Aligner(a.work, a.lang, a.gmm, a), []
    adapter = adapting.Aligner(aligner.features, aligner.builder, aligner.gmm)
    speakers = split_groups(aligner.features.by_speaker(aligner.features.ids), a.job, a.num_jobs)
    for ids in progress(speakers, len(speakers), f"align, job {a.job}"):
        transform = adapter.learn(ids)
        rows += [aligner.row(u, transform) for u in ids]
    write_jsonl(a.work / f"part.{a.job}.jsonl", rows)


if __name__ == "__main__":
    cli_main(main)
