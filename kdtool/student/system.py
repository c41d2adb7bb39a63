"""What a student is.  In: its options, the dumps that it learned from, its arithmetic.  Out: a ``System`` (system.json)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdtool.core.tables import read_json
from kdtool.formats.system import System, head
from kdtool.posteriors.dump import META_FILE
from kdtool.student.config import StudentConfig


def system_of(cfg: StudentConfig, posts: Sequence[Path], precision: str) -> System:
    """The system that ``cfg`` describes; ``posts`` are dump folders, ``precision`` is the arithmetic that is used."""
    return System(
        kind=cfg.kind, seed=cfg.seed, step="train_student", minutes=cfg.minutes, precision=precision,
        main={"loss": cfg.main, "options": dict(cfg.main_options)},
        heads=tuple(head(dataclasses.asdict(spec)) for spec in cfg.head_specs()),
        teachers=tuple(map(_teacher, posts)), encoder={"name": cfg.encoder, "options": dict(cfg.encoder_options)},
    )  # fmt: skip


def _teacher(dump: Path) -> dict[str, Any]:
    """One teacher: the last two parts of its dump's path name it, wherever the experiment folder is."""
    meta = read_json(dump / META_FILE)
    named = {"unit": "unit", "teacher_kind": "teacher_kind", "teacher_digest": "teacher_digest", "temperature": "temperature"}
    return {"dump": "/".join(dump.resolve().parts[-2:]), **{name: meta.get(field) for name, field in named.items()}}
