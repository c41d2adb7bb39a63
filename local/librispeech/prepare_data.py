"""Step: corpus.  In: a folder in LibriSpeech's layout.  Out: <data>/<train part>, <data>/<dev part> with Lhotse manifests.

Part names become set names with underscores. With --test DIR all utterances below that folder, in one part or several, are the set
test. Each set: recordings.jsonl.gz, supervisions.jsonl.gz, dropped.tsv.
Faults of single utterances (see kdtool.corpus.utterance) are collected over the whole set; the step fails when more
than --max-dropped of them would be dropped, by default when one is: LibriSpeech has no faults, so a fault is a bad copy.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.ownership import check_unasked
from kdtool.core.step import run_step
from kdtool.corpus.manifests import choose, write_set
from kdtool.corpus.utterance import Limits, Utterance
from local.librispeech.layout import Fault, find_part, scan_part


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
    if not 0 <= cfg.max_dropped < 1:
        raise UsageError(f"--max-dropped {cfg.max_dropped}: a share from 0 to less than 1")
    if cfg.max_chars_per_second <= 0:
        raise UsageError(f"--max-chars-per-second {cfg.max_chars_per_second}: more than 0")
    if cfg.train_part == cfg.dev_part:
        raise UsageError(f"--train-part and --dev-part are both {cfg.dev_part}: dev figures would be worth nothing")


def prepare_set(folder: Path, scanned: tuple[list[Utterance], list[Fault]], out: Path, count: int, cfg: Config, common: Common) -> None:
    """Make one set's folder. A limited set reads only the chosen utterances; missing audio or text counts everywhere."""
    utterances, faults = scanned
    limits = Limits(max_chars_per_second=cfg.max_chars_per_second)
    utterances = choose(utterances, count)

    def body(work: Path) -> None:
        write_set(work, utterances, faults, limits, max_dropped=cfg.max_dropped, nj=common.nj, where=f"corpus {out.name}")

    # The manifests name the audio by path, so the path counts beside the content.
    options = {**dataclasses.asdict(limits), "max_dropped": cfg.max_dropped, "count": count, "place": str(folder)}
    code = ("kdtool.corpus", "local.librispeech.layout", "local.librispeech.prepare_data")
    run_step(f"corpus {out.name}", out=out, inputs={"corpus": folder}, options=options, code=code, body=body, common=common)


def arguments() -> tuple[dict[str, Path], Config, Common]:
    """Paths and options of the command line."""
    places = [("corpus", "folder that holds the parts, or LibriSpeech/ with the parts"), ("data", "folder that the sets go to")]
    return parse_args(Config, places, None, prog="local/librispeech/prepare_data.sh", description=__doc__ or "")


def outputs() -> list[Path]:
    """The folders to make, for a recipe that plans before the corpus exists."""
    paths, cfg, _ = arguments()
    return [paths["data"] / part.replace("-", "_") for part in (cfg.train_part, cfg.dev_part, *(["test"] if cfg.test else []))]


def check_apart(one: Path, ids: set[str], other: Path, others: set[str]) -> None:
    """KdError when two sets share an utterance."""
    if both := ids & others:
        raise KdError(f"{other}: utterance {min(both)} is in {one} too ({len(both)} such); remove them from one of the parts")


def main() -> None:
    paths, cfg, common = arguments()
    check_options(cfg)
    folders = [find_part(paths["corpus"], part) for part in (cfg.train_part, cfg.dev_part)]
    if cfg.test:
        if not cfg.test.is_dir():
            raise KdError(f"--test {cfg.test}: no such folder; give a folder in LibriSpeech's layout")
        folders.append(cfg.test.absolute())
    counts = (cfg.max_utts, cfg.max_dev_utts, cfg.max_test_utts)
    jobs = [(folder, scan_part(folder), out, count) for folder, out, count in zip(folders, outputs(), counts, strict=False)]
    ids = [(folder, {u.id for u in found}) for folder, (found, _), _, _ in jobs]
    for i, (folder, own) in enumerate(ids):
        for earlier, others in ids[:i]:
            check_apart(earlier, others, folder, own)
    for out in outputs():  # check all before making the first
        check_unasked(out)
    for folder, scanned, out, count in jobs:
        prepare_set(folder, scanned, out, count, cfg, common)


if __name__ == "__main__":
    cli_main(main)
