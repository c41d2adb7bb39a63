"""Step: dump a teacher's posteriors.  In: lang, a teacher, an alignment.  Out: exp/<teacher>/post_<set>.

The folder: coder.safetensors, shard-*.safetensors, index.jsonl.gz, meta.json (see kdtool.posteriors.dump), dropped.tsv.
"""

import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.device import DEVICE_HELP, check_device
from kdtool.core.dropped import account
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.jobs import run_array, split
from kdtool.core.step import run_step
from kdtool.core.tables import read_json
from kdtool.formats.alignment import AlignmentSet
from kdtool.lang.lang import Lang
from kdtool.posteriors.codec import Coder, before_units, temper
from kdtool.posteriors.dump import finish_dump, save_coder
from kdtool.posteriors.job import part_file, shard_name, shard_plan
from kdtool.posteriors.source import FRAME_SHIFT, RowSource, UnitRows
from kdtool.teacher.base import NAMES, meta_digest, read_meta
from kdtool.teacher.registry import code_of, load_teacher
from kdtool.units.table import units_digest

JOB_MB = 1000  # per job: libraries, one utterance's distributions; plus twice the teacher's file (as read and in memory)


@dataclass(frozen=True)
class Config:
    """Options of the dump step."""

    temperature: float = field(default=1.0, metadata={"help": "dump P ** (1 / T), normalised"})
    top_k: int = field(default=0, metadata={"help": "keep at most N units of a distribution (0: no limit)"})
    mass: float = field(default=0.99, metadata={"help": "keep this share of the mass, on average"})
    step: float = field(default=0.0, metadata={"help": "quantisation step of 2 sqrt(p) (0: the unit's default)"})
    sample: int = field(default=16000, metadata={"help": "number of units for estimating the coder's levels and priors"})
    shard_size: int = field(default=128, metadata={"help": "utterances per file"})
    device: str = field(default="auto", metadata={"help": f"neural teachers: {DEVICE_HELP}", "key": False})
    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})


def check(cfg: Config) -> None:
    """UsageError for invalid values."""
    check_device(cfg.device)
    if not (cfg.temperature > 0 <= cfg.top_k and 0 < cfg.mass <= 1 and 0 <= cfg.step <= 1 and min(cfg.shard_size, cfg.sample) >= 1):
        given = f"--temperature {cfg.temperature} --top-k {cfg.top_k} --mass {cfg.mass} --step {cfg.step} --sample {cfg.sample}"
        raise UsageError(f"{given} --shard-size {cfg.shard_size}: expected a temperature above 0, a top-k of at least 0, a mass above 0 "
                         "and up to 1, a step from 0 to 1, a sample and a shard size of at least 1")  # fmt: skip


def check_fit(teacher: dict[str, Any], ali_meta: dict[str, Any], lang: Any, where: dict[str, Path]) -> None:
    """KdError unless teacher, alignment and lang have the same units."""
    if teacher["unit"] == "senone":
        digest, what = ali_meta.get("tree_digest", ""), f"alignment {where['ali']}"
    else:
        digest, what = units_digest(teacher["unit"], lang, None), f"lang {where['lang']}"
    if digest != teacher["units_digest"]:
        raise KdError(f"teacher {where['teacher']} was trained on {teacher['unit']}s {teacher['units_digest'][:16]}, the {what} has "
                      f"{digest[:16]}; train the teacher again with this lang, GMM and alignment")  # fmt: skip


def dump(paths: dict[str, Path], cfg: Config, work: Path, nj: int) -> None:
    """Dump all utterances of an alignment into `work`."""
    teacher, ali = read_meta(paths["teacher"]), AlignmentSet.open(paths["ali"])
    lang = Lang.load(paths["lang"])
    check_fit(teacher, ali.meta, lang, paths)
    source = UnitRows(load_teacher(paths["teacher"], cfg.device), ali, lang)
    argv = [str(paths["lang"]), str(paths["teacher"]), str(paths["ali"]), str(work), "--temperature", repr(cfg.temperature),
            "--shard-size", str(cfg.shard_size), "--device", cfg.device]  # fmt: skip
    mem = JOB_MB + 2 * ((paths["teacher"] / "model.safetensors").stat().st_size >> 20)
    report(*dump_by_jobs(source, cfg, work, Array("kdtool.posteriors.job", argv, nj, mem), {
        "units_digest": teacher["units_digest"], "teacher_kind": teacher["kind"], "teacher_context": teacher.get("context", "causal"),
        "teacher_digest": meta_digest(teacher), "alignment_digest": ali.digest, "tree_digest": teacher["tree_digest"],
        "lang_digest": teacher["lang_digest"], "aligned_frames": sum(ali.get(u).num_frames for u in ali.ids),
    }))  # fmt: skip


@dataclass(frozen=True)
class Array:
    """The jobs that write a dump's shards (``job.write_shards``): their module, arguments, number and MB."""

    module: str
    argv: list[str]
    nj: int
    mem: int


def dump_by_jobs(source: RowSource, cfg: Config, work: Path, array: Array, facts: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Dump all rows of ``source`` by jobs that make the same source; returns meta.json's content and the jobs' seconds."""
    save_coder(work, learn_coder(source, cfg))
    plan = shard_plan(source.ids, cfg.shard_size)
    nj = max(1, min(array.nj, len(plan)))
    (work / "parts").mkdir()
    start = time.monotonic()

    def made(job: int) -> list[Path]:
        return [path for number, _ in split(plan, job, nj) for path in (part_file(work, number), work / shard_name(number))]

    run_array(array.module, array.argv, nj=nj, log_dir=work / "log", name=f"dump_{source.unit}", mem=array.mem, outputs=made)
    seconds = time.monotonic() - start
    parts = [read_json(part_file(work, number)) for number, _ in plan]
    shutil.rmtree(work / "parts")
    return finish(work, source, cfg, parts, facts), seconds


def finish(folder: Path, source: RowSource, cfg: Config, parts: Sequence[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """Account for dropped utterances, write index and meta.json; returns meta.

    Args:
        parts: those of ``job.write_part``, in the order of the shards.
        facts: of teacher, units and alignment.
    """

    dropped = [(u, r) for part in parts for u, r in part["dropped"]]
    kept = sum(len(part["rows"]) for part in parts)
    account(len(source.ids), kept, dropped, max_share=cfg.max_dropped, where=f"{source.unit} posteriors", work=folder)
    total = {name: sum(part[name] for part in parts) for name in ("units", "unseen", "frames", "lost", "kept_mass", "nats")}
    units = max(total["units"], 1)
    return finish_dump(folder, [(shard_name(n), part["rows"]) for n, part in enumerate(parts)], {
        "unit": source.unit, "num_units": source.num_units, **facts, "rows": source.rows,
        "frame_shift": round(FRAME_SHIFT * source.frames_per_row, 6), "temperature": cfg.temperature, "top_k": cfg.top_k, "mass": cfg.mass,
        "step": cfg.step, "nats_lost_per_unit": total["lost"] / units, "mean_mass_kept": total["kept_mass"] / units,
        "frames": total["frames"], "teacher_nats_per_unit": total["nats"] / max(total["units"] - total["unseen"], 1),
        "unseen": total["unseen"],
    })  # fmt: skip


def learn_coder(source: RowSource, cfg: Config) -> Coder:
    """The code of a dump, from utterances spread evenly over the set, independent of the number of jobs."""


    rows, before, found = [], [], 0
    for utterance in source.ids[:: max(1, round(source.count() / cfg.sample))]:
        try:
            _, segments, log_probs = source.read(utterance)
        except KdError:
            continue  # its job will report why it is dropped
        rows.append(temper(log_probs, cfg.temperature))
        before.append(before_units(segments.ids, source.num_units))
        found += len(segments)
    if not found:
        raise KdError(f"none of the {len(source.ids)} utterances of {source.name} gave posteriors; see the messages above, {source.again}")
    after = source.after_one()
    if after is not None:
        after = temper(after, cfg.temperature)
    return Coder.fit(np.concatenate(rows), np.concatenate(before), mass=cfg.mass, top_k=cfg.top_k, step=cfg.step or source.step,
                     after_one=after)  # fmt: skip


def report(meta: dict[str, Any], seconds: float) -> None:
    """Print one line: kept entries, size, speed."""
    speech = meta["aligned_frames"] / 100.0
    print(f"{meta['unit']} posteriors: {meta['units']} units, {meta['entries'] / max(meta['units'], 1):.1f} kept of "
          f"{meta['num_units']} ({meta['mean_mass_kept']:.2%} of the mass, {meta['nats_lost_per_unit']:.4f} nats per unit lost), "
          f"teacher's {NAMES[meta['teacher_context']]} here "
          f"{math.exp(meta['teacher_nats_per_unit']):.3f} ({meta['unseen']} units unseen); "
          f"{meta['bytes'] / speech:.0f} bytes per second of speech, "
          f"written at {speech / seconds:.0f} x real time", file=sys.stderr)  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("lang", "lang folder"), ("teacher", "teacher folder"), ("ali", "alignment folder"), ("out", "dump folder to make")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/dump_posteriors.sh", description=__doc__ or "")
    check(cfg)
    run_step(
        f"posteriors {paths['out'].name} of {paths['teacher'].name}", out=paths["out"],
        inputs={n: paths[n] for n in ("lang", "teacher", "ali")}, options=cfg,
        code=("kdtool.posteriors.make", *code_of(paths["teacher"])),
        body=lambda work: dump(paths, cfg, work, common.nj), common=common,
        doors=[door("lang", paths["lang"]), door("model", paths["teacher"]), door("ali", paths["ali"])],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
