"""One job of the dump array.  In: teacher, lang, alignment, limits.  Out: this job's shards and their index rows.

Which utterances share a shard does not depend on the number of jobs, so any --nj gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.core.jobs import split

if TYPE_CHECKING:
    from kdtool.ali.store import AlignmentSet, Segments
    from kdtool.lang.lang import Lang
    from kdtool.posteriors.codec import Coder, Levels
    from kdtool.teacher.base import Teacher


@dataclass(frozen=True)
class Config:
    """Options of one job."""

    temperature: float = 1.0
    shard_size: int = 128
    job: int = field(default=1, metadata={"help": "which job this is, from 1"})
    num_jobs: int = field(default=1, metadata={"help": "of how many"})


def shard_plan(ids: Sequence[str], size: int) -> list[tuple[int, list[str]]]:
    """(shard number, utterances) of the whole dump."""
    return [(n, list(ids[first : first + size])) for n, first in enumerate(range(0, len(ids), size))]


def part_file(work: Path, number: int) -> Path:
    """Where a job leaves the index rows of a shard for the step to collect."""
    return work / "parts" / f"{number:05d}.json"


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


class Tally:
    """Sums over the units that were dumped, and the utterances that could not be.

    ``lost``: nats that truncation and quantising lose; ``unseen``: units that the teacher gives no probability, which count in
    ``units`` and not in ``nats``.
    """

    def __init__(self) -> None:
        self.kept_mass, self.lost, self.nats = 0.0, 0.0, 0.0
        self.units, self.unseen, self.frames = 0, 0, 0
        self.dropped: list[tuple[str, str]] = []


def posteriors(
    teacher: Teacher, coder: Coder, ali: AlignmentSet, ids: Sequence[str], lang: Lang, temperature: float, tally: Tally
) -> Iterator[tuple[str, Segments, Levels]]:
    """The quantised posteriors of some utterances."""
    import numpy as np

    from kdtool.posteriors.codec import temper
    from kdtool.units.segments import unit_segments

    for utterance in ids:
        segments = unit_segments(ali.get(utterance), teacher.unit, lang)
        try:
            log_probs = teacher.log_probs(segments.ids)
        except KdError as e:
            tally.dropped.append((utterance, str(e)))
            continue
        own = log_probs[np.arange(len(segments)), segments.ids].astype(np.float64)
        tempered = temper(log_probs, temperature)
        levels = coder.quantise(tempered)
        tally.kept_mass += float((1.0 - levels.left).sum())
        tally.lost += float(coder.lost(tempered, levels).sum())
        known = own > -np.inf
        tally.nats -= float(own[known].sum())
        tally.units += len(segments)
        tally.unseen += int((~known).sum())
        tally.frames += int(segments.length.sum())
        yield utterance, segments, levels


def run(paths: dict[str, Any], cfg: Config) -> None:
    """Write this job's shards."""
    from kdtool.ali.store import AlignmentSet
    from kdtool.core.progress import progress
    from kdtool.core.tables import write_json
    from kdtool.core.tensors import load_tensors
    from kdtool.lang.lang import Lang
    from kdtool.posteriors.codec import Coder
    from kdtool.posteriors.dump import CODER_FILE, write_shard
    from kdtool.teacher.registry import load_teacher

    lang, teacher, ali = Lang.load(paths["lang"]), load_teacher(paths["teacher"]), AlignmentSet.open(paths["ali"])
    coder = Coder.from_tensors(load_tensors(paths["work"] / CODER_FILE))
    mine = split(shard_plan(ali.ids, cfg.shard_size), cfg.job, cfg.num_jobs)
    for number, ids in progress(mine, len(mine), f"posteriors, job {cfg.job}, shards"):
        tally = Tally()
        rows = write_shard(paths["work"] / shard_name(number), coder,
                           posteriors(teacher, coder, ali, ids, lang, cfg.temperature, tally))  # fmt: skip
        write_json(part_file(paths["work"], number), {"rows": rows, **vars(tally)})


def main(argv: list[str] | None = None) -> None:
    """Command line of one job."""
    positionals = [("lang", "lang folder"), ("teacher", "teacher folder"), ("ali", "alignment folder"), ("work", "folder to write to")]
    paths, cfg, _ = parse_args(Config, positionals, argv, prog="python -m kdtool.posteriors.dump_job", description=__doc__ or "")
    run(paths, cfg)


if __name__ == "__main__":
    cli_main(main)
