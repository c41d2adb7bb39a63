"""Step: dump a teacher's posteriors.  In: lang, a teacher, an alignment.  Out: exp/<teacher>/post_<set>.

The folder: shard-*.safetensors, index.jsonl, meta.json (see kdtool.posteriors.dump), dropped.tsv.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.dropped import account
from kdtool.core.errors import KdError, UsageError
from kdtool.core.jobs import run_array, split
from kdtool.core.step import run_step
from kdtool.core.tables import read_json
from kdtool.validate.registry import door

JOB_MB = 2000  # of one job: libraries, an n-gram or neural teacher, one utterance's distributions


@dataclass(frozen=True)
class Config:
    """Options of the dump step."""

    temperature: float = field(default=1.0, metadata={"help": "P ** (1 / T), normalised, is dumped"})
    top_k: int = field(default=0, metadata={"help": "keep so many units of a distribution at most (0: no limit)"})
    mass: float = field(default=0.99, metadata={"help": "keep no more units than reach this share of the mass"})
    shard_size: int = field(default=32, metadata={"help": "utterances in one file"})
    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})


def check(cfg: Config) -> None:
    """UsageError for values that make no sense."""
    if cfg.temperature <= 0 or cfg.top_k < 0 or not 0 < cfg.mass <= 1 or cfg.shard_size < 1:
        given = f"--temperature {cfg.temperature} --top-k {cfg.top_k} --mass {cfg.mass} --shard-size {cfg.shard_size}"
        raise UsageError(f"{given}: wanted are a temperature above 0, a top-k of at least 0, a mass above 0 and up to 1, a shard size "
                         "of at least 1")  # fmt: skip


def check_fit(teacher: dict[str, Any], ali_meta: dict[str, Any], lang: Any, where: dict[str, Path]) -> None:
    """KdError unless teacher, alignment and lang speak of the same units."""
    from kdtool.units.table import units_digest

    if teacher["unit"] == "senone":
        own, what = ali_meta.get("tree_digest", ""), f"alignment {where['ali']}"
    else:
        own, what = units_digest(teacher["unit"], lang, None), f"lang {where['lang']}"
    if own != teacher["units_digest"]:
        raise KdError(f"teacher {where['teacher']} was trained on {teacher['unit']}s {teacher['units_digest'][:16]}, the {what} has "
                      f"{own[:16]}; train the teacher again with this lang, GMM and alignment")  # fmt: skip


def dump(paths: dict[str, Path], cfg: Config, work: Path, nj: int) -> None:
    """Dump all utterances of an alignment into `work`."""
    from kdtool.ali.store import AlignmentSet
    from kdtool.lang.lang import Lang
    from kdtool.posteriors.dump import finish_dump
    from kdtool.posteriors.dump_job import part_file, shard_name, shard_plan
    from kdtool.teacher.base import meta_digest, read_meta

    teacher, ali = read_meta(paths["teacher"]), AlignmentSet.open(paths["ali"])
    check_fit(teacher, ali.meta, Lang.load(paths["lang"]), paths)
    plan = shard_plan(ali.ids, cfg.shard_size)
    nj = max(1, min(nj, len(plan)))
    (work / "parts").mkdir()
    argv = [str(paths["lang"]), str(paths["teacher"]), str(paths["ali"]), str(work), "--temperature", repr(cfg.temperature),
            "--top-k", str(cfg.top_k), "--mass", repr(cfg.mass), "--shard-size", str(cfg.shard_size)]  # fmt: skip
    start = time.monotonic()

    def made(job: int) -> list[Path]:
        return [path for number, _ in split(plan, job, nj) for path in (part_file(work, number), work / shard_name(number))]

    run_array("kdtool.posteriors.dump_job", argv, nj=nj, log_dir=work / "log", name=f"dump_{teacher['unit']}", mem=JOB_MB, outputs=made)
    seconds = time.monotonic() - start
    parts = [read_json(part_file(work, number)) for number, _ in plan]
    shutil.rmtree(work / "parts")
    dropped = [(u, r) for part in parts for u, r in part["dropped"]]
    kept = sum(len(part["rows"]) for part in parts)
    account(len(ali), kept, dropped, max_share=cfg.max_dropped, where=f"{teacher['unit']} posteriors", work=work)
    units, unseen = (sum(part[name] for part in parts) for name in ("units", "unseen"))
    meta = finish_dump(work, [(shard_name(n), part["rows"]) for (n, _), part in zip(plan, parts, strict=True)], {
        "unit": teacher["unit"], "num_units": teacher["num_units"], "units_digest": teacher["units_digest"],
        "teacher_kind": teacher["kind"], "teacher_digest": meta_digest(teacher), "alignment_digest": ali.digest,
        "tree_digest": teacher["tree_digest"], "lang_digest": teacher["lang_digest"],
        "temperature": cfg.temperature, "top_k": cfg.top_k, "mass": cfg.mass,
        "mean_mass_kept": sum(p["kept_mass"] for p in parts) / max(units, 1), "frames": sum(p["frames"] for p in parts),
        "teacher_nats_per_unit": sum(p["nats"] for p in parts) / max(units - unseen, 1), "unseen": unseen,
    })  # fmt: skip
    report(meta, ali, seconds)


def report(meta: dict[str, Any], ali: Any, seconds: float) -> None:
    """One line: what was kept, how large it is, how fast it went."""
    speech = sum(ali.get(u).num_frames for u in ali.ids) / 100.0
    print(f"{meta['unit']} posteriors: {meta['units']} units, {meta['entries'] / max(meta['units'], 1):.1f} kept of "
          f"{meta['num_units']} ({meta['mean_mass_kept']:.2%} of the mass), teacher's perplexity here "
          f"{math.exp(meta['teacher_nats_per_unit']):.3f} ({meta['unseen']} units unseen); "
          f"{meta['bytes'] / speech:.0f} bytes a second of speech, "
          f"written at {speech / seconds:.0f} x real time", file=sys.stderr)  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("lang", "lang folder"), ("teacher", "teacher folder"), ("ali", "alignment folder"), ("out", "dump folder to make")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/dump_posteriors.sh", description=__doc__ or "")
    check(cfg)
    run_step(
        f"posteriors {paths['out'].name} of {paths['teacher'].name}", out=paths["out"],
        inputs={n: paths[n] for n in ("lang", "teacher", "ali")}, options=cfg,
        code=("kdtool.posteriors.make",),
        body=lambda work: dump(paths, cfg, work, common.nj), common=common,
        doors=[door("lang", paths["lang"]), door("model", paths["teacher"]), door("ali", paths["ali"])],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
