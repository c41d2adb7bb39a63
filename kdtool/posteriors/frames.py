"""Writes a dump of a per-frame teacher, in this process.  In: a ``FrameRows``.  Out: a dump folder.

A teacher that runs as an array of jobs uses kdtool.posteriors.make: it has a ``FrameRows`` in each job.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdtool.core.dropped import account
from kdtool.posteriors.dump import finish_dump, save_coder, write_shard
from kdtool.posteriors.job import Tally, posteriors, shard_name, shard_plan
from kdtool.posteriors.make import Config, kept_meta, learn_coder, tally_meta
from kdtool.posteriors.source import FrameRows


def write_frame_dump(folder: Path, source: FrameRows, facts: dict[str, Any], cfg: Config | None = None) -> dict[str, Any]:
    """Dump all utterances of ``source`` into an empty folder; returns meta.json's content.

    Args:
        facts: facts of the teacher and its units for meta.json: ``units_digest``, ``tree_digest`` (senones), ``teacher_kind``,
            ``teacher_digest``; ``alignment_digest`` only if the labels are those of an alignment.

    Raises:
        ValueError: the facts do not identify the units.
        KdError: rows that are no distributions, or more utterances dropped than ``cfg.max_dropped`` allows.
    """
    needed = "tree_digest" if source.unit == "senone" else "units_digest"
    if not facts.get(needed):
        raise ValueError(f"{needed} is missing: nobody could tell which {source.unit}s the dump is over")
    cfg = cfg or Config()
    folder.mkdir(parents=True, exist_ok=True)
    coder = learn_coder(source, cfg)
    save_coder(folder, coder)
    shards, tallies = [], []
    for number, ids in shard_plan(source.ids, cfg.shard_size):
        tally = Tally()
        rows = write_shard(folder / shard_name(number), coder, posteriors(source, coder, ids, cfg.temperature, tally))
        shards.append((shard_name(number), rows))
        tallies.append(tally)
    dropped = [entry for tally in tallies for entry in tally.dropped]
    kept = sum(len(rows) for _, rows in shards)
    account(len(source.ids), kept, dropped, max_share=cfg.max_dropped, where=f"{source.unit} posteriors", work=folder)
    return finish_dump(folder, shards, {
        "unit": source.unit, "num_units": source.num_units, "units_digest": "", "alignment_digest": "", **facts,
        **kept_meta(source, cfg), **tally_meta([vars(t) for t in tallies]),
    })  # fmt: skip
