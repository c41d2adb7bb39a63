"""One job of the align step.

In: feature, lang and GMM folders, the job's number. Out: WORK/part.J (alignments of this job's utterances) with the
failed utterances in its meta.json.
"""

from kdtool.ali.aligner import Aligner
from kdtool.core.cli import cli_main
from kdtool.core.jobs import job_parser, split_groups
from kdtool.core.progress import progress
from kdtool.core.tables import read_json
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import save_alignments
from kdtool.formats.transforms import TRANSFORMS_FILE, save_transforms
from kdtool.gmm.folder import open_gmm, original_ids, used_words
from kdtool.graph.engine import choose_engine
from kdtool.graph.training import GraphBuilder
from kdtool.lang.lang import Lang


def main(argv: list[str] | None = None) -> None:
    """Align one job's share and write work/part.<job>. All utterances of a speaker are in one share."""
    import torch

    a = job_parser("one job of steps/align.sh", "feats", "lang", "gmm", "work").parse_args(argv)
    torch.set_num_threads(1)
    lang, features, gmm = Lang.load(a.lang), FeatureSet.open(a.feats), open_gmm(a.gmm)
    options = read_json(a.work / "log" / "job.json")
    speakers = split_groups(features.by_speaker(original_ids(features)), a.job, a.num_jobs)
    ids = [u for group in speakers for u in group]
    builder = GraphBuilder(used_words(lang, features, ids), gmm.tree)
    engine = choose_engine(options.pop("engine"))
    aligner = Aligner(features, builder, gmm, **options, engine=engine)
    groups = speakers if gmm.front.adapted else [ids[i : i + engine.batch] for i in range(0, len(ids), engine.batch)]
    alignments = [one for group in progress(groups, len(groups), f"align, job {a.job}") for one in aligner.align(group)]
    part = a.work / f"part.{a.job}"
    sums = {name: getattr(aligner, name) for name in ("lost", "frames", "loglike", "unknown_words")}
    save_alignments(part, alignments, {"engine": engine.name, **sums})
    save_transforms(part / TRANSFORMS_FILE, aligner.transforms)


if __name__ == "__main__":
    cli_main(main)
