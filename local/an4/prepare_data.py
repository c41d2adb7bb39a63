"""Step: corpus.  In: AN4's folder (audio as sphere, wav or flac).  Out: <data>/train_all, <data>/test with Lhotse manifests.

Faults of single utterances (see kdtool.corpus.utterance) are collected over the whole set; the step fails when more
than --max-dropped of them would be dropped, by default when one is.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.corpus.sets import CorpusSet, make_sets
from kdtool.corpus.utterance import Limits
from local.an4.layout import find_corpus, scan_part

SETS = {"train": "train_all", "test": "test"}


@dataclass(frozen=True)
class Config:
    """Options of the corpus step."""

    max_utts: int = field(default=0, metadata={"help": "at most this many training utterances, speakers in turn; 0 for all"})
    max_test_utts: int = field(default=0, metadata={"help": "at most this many test utterances; 0 for all"})
    max_dropped: float = field(default=0.0, metadata={"help": "largest share of a set that may be dropped"})


def outputs() -> list[Path]:
    """The folders to make, for a recipe whose corpus does not exist yet."""
    return [Path(sys.argv[-1]) / name for name in SETS.values()]


def main(argv: list[str] | None = None) -> None:
    positionals = [("corpus", "AN4's folder, which holds etc and wav"), ("data", "folder that the sets go to")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="local/an4/prepare_data.sh", description=__doc__ or "")
    if cfg.max_utts < 0 or cfg.max_test_utts < 0:
        raise UsageError("--max-utts and --max-test-utts: a number of utterances, 0 for all")
    corpus = find_corpus(paths["corpus"])
    scanned = {part: scan_part(corpus, part) for part in SETS}
    speakers = {part: {i.split("-")[0] for i in [*(u.id for u in good), *(i for i, _ in bad)]} for part, (good, bad) in scanned.items()}
    if both := speakers["train"] & speakers["test"]:
        raise KdError(f"{corpus}/etc: speaker {min(both)} is in the training and the test list ({len(both)} such); keep them apart")
    sets = []
    for (part, name), count in zip(SETS.items(), (cfg.max_utts, cfg.max_test_utts), strict=True):
        lists = {kind: corpus / "etc" / f"an4_{part}.{kind}" for kind in ("fileids", "transcription")}
        sets.append(CorpusSet(paths["data"] / name, corpus, {**lists, "audio": corpus / "wav"}, scanned[part], count))
    make_sets(sets, Limits(), cfg.max_dropped, ("local.an4.layout", "local.an4.prepare_data"), common)


if __name__ == "__main__":
    cli_main(main)
