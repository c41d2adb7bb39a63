"""One job of the align step.

In: feature, lang and GMM folders, the job's number. Out: WORK/part.J (alignments of this job's utterances) with the
failed utterances in its meta.json.
"""

import argparse
import sys
from pathlib import Path

from kdtool.ali.aligner import Aligner
from kdtool.core.cli import cli_main
from kdtool.core.jobs import split_groups
from kdtool.core.progress import progress
from kdtool.core.tables import read_json
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import save_alignments
from kdtool.formats.transforms import TRANSFORMS_FILE, save_transforms
from kdtool.gmm.folder import open_gmm, original_ids, used_words
from kdtool.graph.engine import choose_engine
from kdtool.graph.training import GraphBuilder
from kdtool.lang.lang import Lang


def align_part(feat_dir: Path, lang_dir: Path, gmm_dir: Path, work: Path, job: int, num_jobs: int) -> None:
    """Align one job's share and write work/part.<job>. All utterances of a speaker are in one share."""
    import torch

    torch.set_num_threads(1)
    lang, features, gmm = Lang.load(lang_dir), FeatureSet.open(feat_dir), open_gmm(gmm_dir)
    options = read_json(work / "log" / "job.json")
    speakers = split_groups(features.by_speaker(original_ids(features)), job, num_jobs)
    ids = [u for group in speakers for u in group]
    builder = GraphBuilder(used_words(lang, features, ids), gmm.tree)
    engine = choose_engine(options.pop("engine"))
    aligner = Aligner(features, builder, gmm, **options, engine=engine)
    groups = speakers if gmm.front.adapted else [ids[i : i + engine.batch] for i in range(0, len(ids), engine.batch)]
    alignments = [a for group in progress(groups, len(groups), f"align, job {job}") for a in aligner.align(group)]
    save_alignments(work / f"part.{job}", alignments, {
        "engine": engine.name,
        "lost": aligner.lost, "frames": aligner.frames, "loglike": aligner.loglike, "unknown_words": aligner.unknown_words,
    })  # fmt: skip
    save_transforms(work / f"part.{job}" / TRANSFORMS_FILE, aligner.transforms)


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
