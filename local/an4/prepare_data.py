"""Step: corpus.  In: AN4's folder (audio as sphere, wav or flac).  Out: <data>/train_all, <data>/test with Lhotse manifests.

Faults of single utterances (see kdtool.corpus.utterance) are collected over the whole set; the step fails when more
than --max-dropped of them would be dropped, by default when one is.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.ownership import check_unasked
from kdtool.core.step import run_step
from kdtool.corpus.manifests import choose, write_set
from kdtool.corpus.utterance import Limits, Utterance
from local.an4.layout import Fault, find_corpus, scan_part

SETS = {"train": "train_all", "test": "test"}


@dataclass(frozen=True)
class Config:
    """Options of the corpus step."""

    max_utts: int = field(default=0, metadata={"help": "at most this many training utterances, speakers in turn; 0 for all"})
    max_test_utts: int = field(default=0, metadata={"help": "at most this many test utterances; 0 for all"})
    max_dropped: float = field(default=0.0, metadata={"help": "largest share of a set that may be dropped"})


def prepare_set(corpus: Path, part: str, scanned: tuple[list[Utterance], list[Fault]], out: Path, cfg: Config, common: Common) -> None:
    """Make one set's folder. A limited set reads only the chosen utterances; missing audio or text counts everywhere."""
    utterances, faults = scanned
    limits, count = Limits(), cfg.max_utts if part == "train" else cfg.max_test_utts
    utterances = choose(utterances, count)

    def body(work: Path) -> None:
        write_set(work, utterances, faults, limits, max_dropped=cfg.max_dropped, nj=common.nj, where=f"corpus {out.name}")

    lists = {kind: corpus / "etc" / f"an4_{part}.{kind}" for kind in ("fileids", "transcription")}
    # The manifests name the audio by path, so the path counts beside the content.
    options = {**dataclasses.asdict(limits), "max_dropped": cfg.max_dropped, "count": count, "place": str(corpus)}
    code = ("kdtool.corpus", "local.an4.layout", "local.an4.prepare_data")
    inputs = {**lists, "audio": corpus / "wav"}
    run_step(f"corpus {out.name}", out=out, inputs=inputs, options=options, code=code, body=body, common=common)


def outputs(data: Path | None = None) -> list[Path]:
    """The folders to make in `data`; without it those of the command line, for a recipe whose corpus does not exist yet."""
    return [(data or Path(sys.argv[-1])) / name for name in SETS.values()]


def main(argv: list[str] | None = None) -> None:
    paths, cfg, common = parse_args(
        Config,
        [("corpus", "AN4's folder, which holds etc and wav"), ("data", "folder that the sets go to")],
        argv,
        prog="local/an4/prepare_data.sh",
        description=__doc__ or "",
    )
    if cfg.max_utts < 0 or cfg.max_test_utts < 0:
        raise UsageError("--max-utts and --max-test-utts: a number of utterances, 0 for all")
    if not 0 <= cfg.max_dropped < 1:
        raise UsageError(f"--max-dropped {cfg.max_dropped}: a share from 0 to less than 1")
    corpus = find_corpus(paths["corpus"])
    scanned = {part: scan_part(corpus, part) for part in SETS}
    speakers = {part: {i.split("-")[0] for i in [*(u.id for u in good), *(i for i, _ in bad)]} for part, (good, bad) in scanned.items()}
    if both := speakers["train"] & speakers["test"]:
        raise KdError(f"{corpus}/etc: speaker {min(both)} is in the training and the test list ({len(both)} such); keep them apart")
    for out in outputs(paths["data"]):  # check both before making the first
        check_unasked(out)
    for part, name in SETS.items():
        prepare_set(corpus, part, scanned[part], paths["data"] / name, cfg, common)


if __name__ == "__main__":
    cli_main(main)
