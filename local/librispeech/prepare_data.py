"""Step: corpus.  In: a folder in LibriSpeech's layout.  Out: <data>/<train part>, <data>/<dev part> with Lhotse manifests.

Part names become set names with underscores. With --test DIR all utterances below that folder, in one part or several, are the set
test. Each set: recordings.jsonl.gz, supervisions.jsonl.gz, dropped.tsv.
Faults of single utterances (see kdtool.corpus.utterance) are collected over the whole set; the step fails when more
than --max-dropped of them would be dropped, by default when one is: LibriSpeech has no faults, so a fault is a bad copy.
"""

from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.corpus.sets import CorpusSet, make_sets
from kdtool.corpus.utterance import Limits
from local.librispeech.layout import find_part, scan_part


@dataclass(frozen=True)
class Config:
    """Options of the corpus step."""

    train_part: str = field(default="train-clean-5", metadata={"help": "training part, such as train-clean-100"})
    dev_part: str = field(default="dev-clean-2", metadata={"help": "development part"})
    max_utts: int = field(default=0, metadata={"help": "at most this many training utterances, speakers in turn; 0 for all"})
    max_dev_utts: int = field(default=0, metadata={"help": "at most this many development utterances; 0 for all"})
    test: Path | None = field(default=None, metadata={"help": "folder in LibriSpeech's layout whose utterances are the set test"})
    max_test_utts: int = field(default=0, metadata={"help": "at most this many test utterances; 0 for all"})
    max_dropped: float = field(default=0.0, metadata={"help": "largest share of a set that may be dropped"})
    max_chars_per_second: float = field(default=30.0, metadata={"help": "refuse utterances with more transcript characters per second"})


def check_options(cfg: Config) -> None:
    """UsageError for invalid values."""
    if min(cfg.max_utts, cfg.max_dev_utts, cfg.max_test_utts) < 0:
        raise UsageError("--max-utts, --max-dev-utts, --max-test-utts: a number of utterances, 0 for all")
    if cfg.max_chars_per_second <= 0:
        raise UsageError(f"--max-chars-per-second {cfg.max_chars_per_second}: more than 0")
    if cfg.train_part == cfg.dev_part:
        raise UsageError(f"--train-part and --dev-part are both {cfg.dev_part}: dev figures would be worth nothing")


def arguments() -> tuple[dict[str, Path], Config, Common]:
    """Paths and options of the command line."""
    places = [("corpus", "folder that holds the parts, or LibriSpeech/ with the parts"), ("data", "folder that the sets go to")]
    return parse_args(Config, places, None, prog="local/librispeech/prepare_data.sh", description=__doc__ or "")


def outputs() -> list[Path]:
    """The folders to make, for a recipe that plans before the corpus exists."""
    paths, cfg, _ = arguments()
    return [paths["data"] / part.replace("-", "_") for part in (cfg.train_part, cfg.dev_part, *(["test"] if cfg.test else []))]


def main() -> None:
    paths, cfg, common = arguments()
    check_options(cfg)
    folders = [find_part(paths["corpus"], part) for part in (cfg.train_part, cfg.dev_part)]
    if cfg.test:
        if not cfg.test.is_dir():
            raise KdError(f"--test {cfg.test}: no such folder; give a folder in LibriSpeech's layout")
        folders.append(cfg.test.absolute())
    counts = (cfg.max_utts, cfg.max_dev_utts, cfg.max_test_utts)
    sets = [CorpusSet(out, folder, {"corpus": folder}, scan_part(folder), count)
            for folder, out, count in zip(folders, outputs(), counts, strict=False)]  # fmt: skip
    for one, other in combinations(sets, 2):
        if both := {u.id for u in one.scanned[0]} & {u.id for u in other.scanned[0]}:
            raise KdError(f"{other.place}: utterance {min(both)} is in {one.place} too ({len(both)} such); "
                          "remove them from one of the parts")  # fmt: skip
    limits = Limits(max_chars_per_second=cfg.max_chars_per_second)
    make_sets(sets, limits, cfg.max_dropped, ("local.librispeech.layout", "local.librispeech.prepare_data"), common)


if __name__ == "__main__":
    cli_main(main)
