"""Writes a dump of a per-frame teacher, in this process.  In: a ``FrameRows``.  Out: a dump folder.

A teacher that runs as an array of jobs uses kdtool.posteriors.make: it has a ``FrameRows`` in each job.
"""

from pathlib import Path
from typing import Any

from kdtool.posteriors.dump import save_coder
from kdtool.posteriors.job import shard_plan, write_part
from kdtool.posteriors.make import Config, finish, learn_coder
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
    parts = [write_part(folder, number, source, coder, ids, cfg.temperature) for number, ids in shard_plan(source.ids, cfg.shard_size)]
    return finish(folder, source, cfg, parts, {"units_digest": "", "alignment_digest": "", **facts})
