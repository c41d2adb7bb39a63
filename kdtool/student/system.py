"""Describes a student.  In: its options, the dumps that it learned from, its arithmetic.  Out: a ``System`` (system.json)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from kdtool.core.registry import Registry
from kdtool.core.tables import read_json
from kdtool.formats.system import HYBRID, LABEL_LOSSES, System, head
from kdtool.objectives import AUX_OBJECTIVES, MAIN_OBJECTIVES
from kdtool.posteriors.dump import META_FILE, UNIT
from kdtool.student.config import Posts, StudentConfig


def system_of(cfg: StudentConfig, posts: Sequence[Posts], precision: str) -> System:
    """The system that ``cfg`` describes; ``posts`` are the dumps, ``precision`` is the arithmetic in use."""
    return System(
        kind=cfg.kind, seed=cfg.seed, step="train_student", minutes=cfg.minutes, precision=precision,
        main=_marked({"loss": cfg.main, "options": dict(cfg.main_options)}, MAIN_OBJECTIVES) if cfg.kind == HYBRID
        else {"loss": cfg.kind, "options": dict(cfg.kind_options), "labels": True},
        heads=tuple(_marked(head(dataclasses.asdict(spec)), AUX_OBJECTIVES) for spec in cfg.head_specs()),
        teachers=tuple(map(_teacher, posts)), encoder={"name": cfg.encoder, "options": dict(cfg.encoder_options)},
    )  # fmt: skip


def _marked(entry: dict[str, Any], losses: Registry[Any]) -> dict[str, Any]:
    """The entry of a head, marked "labels" if its loss reads only labels and its name does not say so."""
    loss = entry["loss"]
    return entry if loss in LABEL_LOSSES or losses[loss].uses_posteriors else {**entry, "labels": True}


def _teacher(posts: Posts) -> dict[str, Any]:
    """One teacher: ``name`` is what heads call its dump; the path's last two parts find it in any experiment folder."""
    meta = read_json(posts.folder / META_FILE)
    facts = {name: meta.get(name) for name in ("unit", "teacher_kind", "teacher_digest", "temperature")}
    return {"name": posts.name, "dump": "/".join(posts.folder.resolve().parts[-2:]), "rows": meta.get("rows", UNIT), **facts}
