"""One job of the dump array.  In: teacher, lang, alignment, limits.  Out: this job's shards and their index rows.

The assignment of utterances to shards does not depend on the number of jobs, so any --nj gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.core.jobs import split
from kdtool.core.progress import progress
from kdtool.core.tables import write_json
from kdtool.core.tensors import load_tensors
from kdtool.formats.alignment import AlignmentSet, Segments
from kdtool.lang.lang import Lang
from kdtool.posteriors.codec import Coder, Levels, temper
from kdtool.posteriors.dump import CODER_FILE, write_shard
from kdtool.posteriors.source import Rows, RowSource, UnitRows
from kdtool.teacher.registry import load_teacher

TOGETHER = 16  # utterances per call of the teacher: 20 MB of senones


@dataclass(frozen=True)
class Config:
    """Options of one job."""

    temperature: float = 1.0
    shard_size: int = 128
    device: str = "cpu"
    job: int = field(default=1, metadata={"help": "number of this job, from 1"})
    num_jobs: int = field(default=1, metadata={"help": "number of jobs"})


def shard_plan(ids: Sequence[str], size: int) -> list[tuple[int, list[str]]]:
    """(shard number, utterances) of the whole dump."""
    return [(n, list(ids[first : first + size])) for n, first in enumerate(range(0, len(ids), size))]


def part_file(work: Path, number: int) -> Path:
    """File in which a job leaves the index rows of a shard for the step."""
    return work / "parts" / f"{number:05d}.json"


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


class Tally:
    """Sums over the dumped rows, and the dropped utterances.

    ``lost``: nats lost by truncation and quantisation; ``unseen``: units without probability under the teacher, which count in
    ``units`` but not in ``nats``.
    """

    def __init__(self) -> None:
        self.kept_mass = self.lost = self.nats = 0.0
        self.units = self.unseen = self.frames = 0
        self.dropped: list[tuple[str, str]] = []

    def add(self, nats: np.ndarray, left: np.ndarray, lost: np.ndarray, length: np.ndarray) -> None:
        """Log-probabilities of the rows' units, masses not kept, nats lost, and frames; (N,) each."""
        known = nats[nats > -np.inf].astype(np.float64)
        self.kept_mass += float((1.0 - left).sum())
        self.lost += float(lost.sum())
        self.nats -= float(known.sum())
        self.units += len(nats)
        self.unseen += len(nats) - len(known)
        self.frames += int(length.sum())


def posteriors(
    source: RowSource, coder: Coder, ids: Sequence[str], temperature: float, tally: Tally
) -> Iterator[tuple[str, Segments, Levels]]:
    """The quantised posteriors of some utterances; the teacher is asked for TOGETHER of them at a time."""


    for first in range(0, len(ids), TOGETHER):
        for utterance, segments, log_probs in _read(source, ids[first : first + TOGETHER], tally):
            tempered = temper(log_probs, temperature)
            levels = coder.quantise(tempered)
            tally.add(log_probs[np.arange(len(segments)), segments.ids], levels.left, coder.lost(tempered, levels), segments.length)
            yield utterance, segments, levels


def _read(source: RowSource, ids: Sequence[str], tally: Tally) -> list[Rows]:
    """The rows of utterances; unreadable ones are tallied as dropped."""
    try:
        return source.read_many(ids)
    except KdError as e:
        if len(ids) == 1:
            tally.dropped.append((ids[0], str(e)))
            return []
        return [rows for utterance in ids for rows in _read(source, [utterance], tally)]


def write_part(folder: Path, number: int, source: RowSource, coder: Coder, ids: Sequence[str], temperature: float) -> dict[str, Any]:
    """Write one shard; returns its index rows ("rows") and the sums of its ``Tally``."""
    tally = Tally()
    rows = write_shard(folder / shard_name(number), coder, posteriors(source, coder, ids, temperature, tally))
    return {"rows": rows, **vars(tally)}


def write_shards(source: RowSource, cfg: Config, work: Path) -> None:
    """Write the shards of one job, and their index rows for the step."""
    coder = Coder.from_tensors(load_tensors(work / CODER_FILE))
    shards = split(shard_plan(source.ids, cfg.shard_size), cfg.job, cfg.num_jobs)
    for number, ids in progress(shards, len(shards), f"posteriors, job {cfg.job}, shards"):
        write_json(part_file(work, number), write_part(work, number, source, coder, ids, cfg.temperature))


def main(argv: list[str] | None = None) -> None:
    """Command line of one job."""
    positionals = [("lang", "lang folder"), ("teacher", "teacher folder"), ("ali", "alignment folder"), ("work", "folder to write to")]
    paths, cfg, _ = parse_args(Config, positionals, argv, prog="python -m kdtool.posteriors.job", description=__doc__ or "")
    ali = AlignmentSet.open(paths["ali"])
    write_shards(UnitRows(load_teacher(paths["teacher"], cfg.device), ali, Lang.load(paths["lang"])), cfg, paths["work"])


if __name__ == "__main__":
    cli_main(main)
