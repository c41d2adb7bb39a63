"""One job of the dump array.  In: teacher, lang, alignment, limits.  Out: this job's shards and their index rows.

The assignment of utterances to shards does not depend on the number of jobs, so any --nj gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.core.jobs import split

if TYPE_CHECKING:
    import numpy as np

    from kdtool.formats.alignment import Segments
    from kdtool.posteriors.codec import Coder, Levels
    from kdtool.posteriors.source import Rows, RowSource


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


TOGETHER = 16  # utterances per call of the teacher: 20 MB of senones


class Tally:
    """Sums over the dumped rows, and the dropped utterances.

    ``lost``: nats lost by truncation and quantisation; ``unseen``: units without probability under the teacher, which count in
    ``units`` but not in ``nats``.
    """

    def __init__(self) -> None:
        self.kept_mass, self.lost, self.nats = 0.0, 0.0, 0.0
        self.units, self.unseen, self.frames = 0, 0, 0
        self.dropped: list[tuple[str, str]] = []

    def add(self, own: np.ndarray, left: np.ndarray, lost: np.ndarray, length: np.ndarray) -> None:
        """Units' own log-probabilities, masses not kept, nats lost, and frames; (N,) each."""
        known = own[own > -math.inf].astype("float64")
        self.kept_mass += float((1.0 - left).sum())
        self.lost += float(lost.sum())
        self.nats -= float(known.sum())
        self.units += len(own)
        self.unseen += len(own) - len(known)
        self.frames += int(length.sum())


def posteriors(
    source: RowSource, coder: Coder, ids: Sequence[str], temperature: float, tally: Tally
) -> Iterator[tuple[str, Segments, Levels]]:
    """The quantised posteriors of some utterances; the teacher is asked for TOGETHER of them at a time."""
    import numpy as np

    from kdtool.posteriors.codec import temper

    for first in range(0, len(ids), TOGETHER):
        for utterance, segments, log_probs in _read(source, ids[first : first + TOGETHER], tally):
            tempered = temper(log_probs, temperature)
            levels = coder.quantise(tempered)
            own = log_probs[np.arange(len(segments)), segments.ids]
            tally.add(own, levels.left, coder.lost(tempered, levels), segments.length)
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


def run(paths: dict[str, Any], cfg: Config) -> None:
    """Write this job's shards."""
    from kdtool.core.progress import progress
    from kdtool.core.tables import write_json
    from kdtool.core.tensors import load_tensors
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.lang.lang import Lang
    from kdtool.posteriors.codec import Coder
    from kdtool.posteriors.dump import CODER_FILE, write_shard
    from kdtool.posteriors.source import UnitRows
    from kdtool.teacher.registry import load_teacher

    ali = AlignmentSet.open(paths["ali"])
    source = UnitRows(load_teacher(paths["teacher"], cfg.device), ali, Lang.load(paths["lang"]))
    coder = Coder.from_tensors(load_tensors(paths["work"] / CODER_FILE))
    mine = split(shard_plan(ali.ids, cfg.shard_size), cfg.job, cfg.num_jobs)
    for number, ids in progress(mine, len(mine), f"posteriors, job {cfg.job}, shards"):
        tally = Tally()
        rows = write_shard(paths["work"] / shard_name(number), coder, posteriors(source, coder, ids, cfg.temperature, tally))
        write_json(part_file(paths["work"], number), {"rows": rows, **vars(tally)})


def main(argv: list[str] | None = None) -> None:
    """Command line of one job."""
    positionals = [("lang", "lang folder"), ("teacher", "teacher folder"), ("ali", "alignment folder"), ("work", "folder to write to")]
    paths, cfg, _ = parse_args(Config, positionals, argv, prog="python -m kdtool.posteriors.job", description=__doc__ or "")
    run(paths, cfg)


if __name__ == "__main__":
    cli_main(main)
