"""Step: hold speakers out.  In: data/<set>.  Out: two data folders without a common speaker: the rest and the held-out part.

Everything that is tuned (options, scales, which checkpoint is kept) is tuned on the held-out part, so that the test set stays
unseen. Speakers are drawn by the hash of seed and name, or given by name; all utterances of a speaker go to one side.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.ownership import check_unasked
from kdtool.core.step import run_step
from kdtool.core.tables import read_lines, write_jsonl, write_lines
from kdtool.formats.rows import MANIFESTS, SUPERVISION, read_rows


@dataclass(frozen=True)
class Config:
    """Options of the split."""

    share: float = field(default=0.1, metadata={"help": "share of speakers to hold out, at least one"})
    seed: int = field(default=0, metadata={"help": "random seed"})
    speakers: list[str] = field(default_factory=list, metadata={"help": "hold these speakers out instead of drawing some"})


def draw(speakers: Sequence[str], share: float, seed: int) -> set[str]:
    """`share` of the speakers, at least one; a speaker's rank does not depend on the other speakers."""
    ranked = sorted(set(speakers), key=lambda s: (hashlib.sha256(f"{seed} {s}".encode()).hexdigest(), s))
    return set(ranked[: max(1, round(share * len(ranked)))])


def held_out_speakers(rows: Sequence[dict[str, Any]], data: Path, cfg: Config) -> set[str]:
    """The speakers to hold out; KdError when an utterance has no speaker, a named one does not exist, or no speaker would be left."""
    if nameless := [row["id"] for row in rows if not row.get("speaker")]:
        raise KdError(f"{data}: utterance {nameless[0]} has no speaker ({len(nameless)} such), so no split by speakers can be made")
    known = {row["speaker"] for row in rows}
    if unknown := sorted(set(cfg.speakers) - known):
        raise KdError(f"{data}: speaker {unknown[0]} is not there; it has {', '.join(sorted(known)[:10])}{' ..' * (len(known) > 10)}")
    chosen = set(cfg.speakers) or draw(sorted(known), cfg.share, cfg.seed)
    if chosen == known:
        raise KdError(f"{data}: holding {len(chosen)} of {len(known)} speakers out leaves none; take fewer")
    return chosen


def write_part(data: Path, work: Path, speakers: set[str]) -> str:
    """The manifests' rows of these speakers, in their order; returns a summary of their amount."""
    supervisions = [row for row in read_rows(data / MANIFESTS[1], SUPERVISION) if row["speaker"] in speakers]
    utterances, recordings = {row["id"] for row in supervisions}, {row["recording_id"] for row in supervisions}
    write_jsonl(work / MANIFESTS[1], supervisions)
    write_jsonl(work / MANIFESTS[0], (r for r in read_rows(data / MANIFESTS[0], {"id": (str,)}) if r["id"] in recordings))
    if (data / "audio.tsv").is_file():
        write_lines(work / "audio.tsv", (f"{line}" for line in read_lines(data / "audio.tsv") if line.split("\t")[0] in utterances))
    seconds = sum(row["duration"] for row in supervisions)
    return f"{len(supervisions)} utterances, {len(speakers)} speakers, {seconds / 60:.1f} minutes"


def outputs() -> list[Path]:
    """The folders to make, for a recipe that plans before the data folder exists."""
    return [Path(word) for word in sys.argv[-2:]]


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("data", "data folder to split"), ("rest", "data folder to make: all other speakers"),
                   ("held_out", "data folder to make: the held-out speakers")]  # fmt: skip
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/split_set.sh", description=__doc__ or "")
    if not 0 < cfg.share < 1:
        raise UsageError(f"--share {cfg.share}: a share above 0 and below 1")
    data = paths["data"]
    for name in MANIFESTS:
        if not (data / name).is_file():
            raise KdError(f"{data}: {name} is missing; prepare the corpus first (local/*/prepare_data.sh)")
    rows = list(read_rows(data / MANIFESTS[1], SUPERVISION))
    chosen = held_out_speakers(rows, data, cfg)
    sides = {"rest": {row["speaker"] for row in rows} - chosen, "held_out": chosen}
    # Only the manifests count, not the folder: it holds features as well.
    inputs = {name: data / name for name in (*MANIFESTS, "audio.tsv") if (data / name).is_file()}
    for side in sides:  # check both before making the first
        check_unasked(paths[side])
    for side, speakers in sides.items():
        out: Path = paths[side]

        def body(work: Path, speakers: set[str] = speakers, out: Path = out) -> None:
            print(f"split {out.name}: {write_part(data, work, speakers)}")

        run_step(f"split {out.name}", out=out, inputs=inputs, options={"speakers": sorted(speakers)}, code=("kdtool.corpus.split",),
                 body=body, common=common)  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
