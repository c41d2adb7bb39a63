"""One job of a decode array: recognise a part of the utterances.

In: model, features, an options file written by ``kdtool.decode.decode``. Out: ``candidates.<J>.tsv.gz``, ``failed.<J>.tsv`` (utterances
without result, with a reason), ``seconds.<J>.json``; the transforms of the speakers, each of whom is in one job, if the model adapts.
"""

from kdtool.core.cli import cli_main
from kdtool.core.dropped import write_dropped
from kdtool.core.jobs import job_parser, split_groups
from kdtool.core.progress import progress
from kdtool.core.tables import read_json, write_json
from kdtool.decode.candidates import write_candidates
from kdtool.decode.recogniser import recogniser_of
from kdtool.formats.transforms import save_transforms


def main() -> None:
    """Entry of the array's jobs; not called by hand."""
    import torch

    args = job_parser("one job of steps/decode.sh", "model", "feats", "work").parse_args()
    torch.set_num_threads(1)
    options = read_json(args.work / "log" / "job.json")
    recogniser = recogniser_of(args.model)(args.model, args.feats, options)
    speakers = split_groups(recogniser.features.by_speaker(options["utterances"]), args.job, args.num_jobs)
    groups = recogniser.groups([u for group in speakers for u in group])
    found = (pair for group in groups for pair in recogniser.recognise(group))
    rows, failed = [], []
    for utterance, candidates in progress(found, sum(map(len, groups)), f"decode {args.job}"):
        if candidates is None:
            failed.append((utterance, f"no path through the graph ({recogniser.features.info(utterance).num_frames} frames)"))
        else:
            rows.append((utterance, candidates))
    write_candidates(args.work / f"candidates.{args.job}.tsv.gz", rows)
    write_dropped(args.work / f"failed.{args.job}.tsv", failed)
    write_json(args.work / "log" / f"seconds.{args.job}.json", recogniser.seconds)
    save_transforms(args.work / f"transforms.{args.job}.safetensors", recogniser.transforms)


if __name__ == "__main__":
    cli_main(main)
