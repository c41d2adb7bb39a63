"""Step collect_ablation: decodes of an ablation -> ablation.json and ABLATION.md.

In: the ablation's folder: ``conf/plan.json`` and, of each system and seed, ``<system>_<seed>`` with decodes in it. Out:
``ablation.json`` there, ABLATION.md where it is asked for. What is not made yet is left out and named. ``--check`` writes
nothing and fails when ABLATION.md is not what ablation.json gives.

ablation.json; paths are relative to the ablation's folder, rates and intervals in percent:
    scales                        "pooled", where one point per graph was chosen for all students; else it is not there
    references, graphs, sweeps    as in ablation.yaml (kdtool.ablation.plan); sweeps: {axis: [[value, system name], ..]}
    resamples                     of the bootstrap
    teachers      {folder name: {folder, ppl}}; ppl: the content of its ppl.json, null when there is none
    missing       [name, ..]: SYSTEM_SEED of the plan that is not trained, or nowhere decoded
    stale         [name, ..]: trained with other options than the plan has now; not in the table
    earlier       [name, ..]: taken over from an earlier ablation.json (kdtool.ablation.earlier)
    scored        {"SET RATE": {ids, words}}: the utterances and their reference words (phones, for per), space-separated
    systems       list, in the plan's order, one object a system:
      name, system, setting       "hmt-10min", "hmt", "10min" (setting: "" for none)
      about, changed              a line for readers; the options that differ from the base's
      teachers                    {unit: folder name}
      references                  names that it is compared with: the plan's, in its own setting
      students    one object a seed: seed, folder (curve.jsonl is there), about (the content of student.json), seconds, git, learns_from
                  (kdtool.formats.system), options (digest of those that it was trained with, its seed apart)
      results     one object a set and graph:
        set, lm, first_pass_lm    lm is the graph's LM, or that of the rescoring; rate: "per" or "wer"
        mean, ci95, deviation     over seeds; bootstrap over utterances and seeds; standard deviation of the seeds' rates
        within, between           standard deviation of one seed's rate over redrawn utterances; that of the seeds beyond it
        words, utterances         of the references
        sub, ins, del, failed     means over seeds
        runs      one object a seed: seed, decode (folder: per_utt.tsv is there), value (its rate), sub, ins, del, failed, empty, scales,
                  errors (of each utterance of ``scored``, space-separated)
        versus    {name of a reference: {delta, low, high, relative, p, holm, seeds}}; kdtool.ablation.compare says what they are;
                  relative: percent of the reference; holm: p corrected over all comparisons of one set, graph and setting; seeds: how
                  many of them the reference has
    detectable  one object a set, graph and setting: set, lm, first_pass_lm, setting, points: the smallest difference that is found at
                p < 0.05 in 80% of trials, null where no two systems have the same seeds
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.ablation.earlier import Scored, take_over
from kdtool.ablation.plan import NAMES, PLAN
from kdtool.ablation.significance import compare
from kdtool.ablation.tables import render
from kdtool.core.cli import cli_main, parse_args
from kdtool.core.digest import canonical, combine, read_record
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json
from kdtool.formats.system import read_system
from kdtool.results.collect import find_scores, per_utterance, read_result
from kdtool.results.generated import check, check_files, commits, would_change, write

JSON = "ablation.json"
# The options that the digests of published results are of.
PUBLISHED = frozenset({
    "average", "balance", "batch", "chunk", "clip", "decay", "encoder", "encoder_options", "epochs", "eval_epochs", "final_lr",
    "freq_masks", "freq_width", "head_dropout", "heads", "hidden", "lr", "main", "main_options", "max_dropped", "minutes",
    "optimizer", "precision", "seed", "time_masks", "time_width", "warmup", "warp", "weight_decay",
})  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Options of collect_ablation."""

    earlier: Path | None = field(default=None, metadata={"help": "an ablation.json of the same data: its students fill in where there are "
                                                                 "none here of that system and seed; with --results"})  # fmt: skip
    results: Path | None = field(default=None, metadata={"help": "ablation.json to write; none: in the ablation's folder"})
    title: str = field(default="Ablation", metadata={"help": "heading of ABLATION.md"})
    note: str = field(default="", metadata={"help": "a sentence under the heading: which data these are"})
    command: str = field(default="", metadata={"help": "command that made the results, for the record"})
    check: bool = field(default=False, metadata={"help": "true: write nothing, fail when ABLATION.md does not match ablation.json"})


class Students:
    """The students of an ablation that are there: ``found`` system -> {seed: folder}, and the names of those that are not."""

    def __init__(self, root: Path, plan: dict[str, Any]) -> None:
        self.root, self.missing, self.stale = root, [], []
        pooled = plan.get("scales") == "pooled"
        planned = {f"{s['name']}_{seed}" for s in plan["systems"] for seed in plan["seeds"]}
        self.found: dict[str, dict[int, Path]] = {s["name"]: {} for s in plan["systems"]}
        self.scores: dict[str, list[Path]] = {}
        for folder in sorted(p for p in root.iterdir() if p.is_dir() and read_record(p) is not None):
            system, _, seed = folder.name.rpartition("_")
            if system not in self.found or not seed.isdigit():
                continue
            if trained_digest(folder / "config.yaml") not in planned_digests(root / "conf" / f"{system}_{plan['seeds'][0]}.yaml"):
                self.stale.append(folder.name)
            elif scores := [path for path in find_scores([folder]) if bool(read_json(path).get("pooled")) == pooled]:
                self.found[system][int(seed)] = folder
                self.scores[folder.name] = scores
        there = {f.name for folders in self.found.values() for f in folders.values()}
        self.missing = sorted(planned - there - set(self.stale))


def planned_digests(path: Path) -> set[str]:
    """``options_digest`` of a student's file in the plan, of each precision that it allows: auto is resolved where it is trained."""
    import dataclasses

    from kdtool.student.config import CHOICES, StudentConfig

    cfg = parse_args(StudentConfig, [], ["--config", str(path)], prog="plan", description="")[1]
    allowed = CHOICES["precision"] if cfg.precision == "auto" else (cfg.precision,)
    return {options_digest(dataclasses.replace(cfg, precision=p)) for p in allowed}


def trained_digest(path: Path) -> str:
    """``options_digest`` of what a student was trained with; options that there were once and are not now do not count."""
    import yaml

    from kdtool.core.state import defaults_of
    from kdtool.student.config import StudentConfig

    first = defaults_of(StudentConfig())
    known = {k: v for k, v in yaml.safe_load(path.read_text(encoding="utf-8")).items() if k in StudentConfig.__dataclass_fields__}
    return options_digest(StudentConfig(**{**first, **known}))


def options_digest(cfg: Any) -> str:
    """Digest of a student's options, its seed and where its teachers' dumps lie apart.

    An option that is younger than published results counts only where it is not as it was before it existed (kdtool.core.state).
    """
    from kdtool.core.state import defaults_of, plain_options
    from kdtool.student.config import parse_posts

    first = defaults_of(cfg)
    options = {n: v for n, v in plain_options(cfg).items() if n in PUBLISHED or canonical(v) != canonical(first.get(n))}
    dumps = sorted((f"{p.name}=" if p.named else "") + "/".join(p.folder.parts[-2:]) for p in parse_posts(cfg.posts))
    return combine([canonical({**options, "seed": 0}), *dumps])


def collect(root: Path, earlier: Path | None = None) -> dict[str, Any]:
    """The content of ablation.json; KdError when there is no plan or nothing decoded, or ``earlier`` is of other data."""
    if not (root / "conf" / PLAN).is_file():
        raise KdError(f"{root / 'conf' / PLAN}: missing; plan the ablation first (steps/plan_ablation.sh)")
    plan = read_json(root / "conf" / PLAN)
    students = Students(root, plan)
    if not students.scores:
        raise KdError(f"{root}: no student of conf/{NAMES} is decoded; train and decode first (stage ablation)")
    from kdtool.decode.bootstrap import RESAMPLES

    exp = root / plan["exp"]
    teachers = sorted({t for s in plan["systems"] for t in s["teachers"].values()})
    scored = Scored()
    results = {name: results_of(students, folders, scored) for name, folders in students.found.items()}
    made = {name: [student_of(f, seed) for seed, f in sorted(folders.items())] for name, folders in students.found.items()}
    taken = take_over(read_json(earlier), str(earlier), planned(root, plan), made, results, scored) if earlier else []
    if plan.get("scales") == "pooled":
        check_pooled(results)
    designs = compare(plan, results, scored)
    return {
        **{k: plan[k] for k in ("references", "graphs", "sweeps", "base", "options", "scales") if k in plan}, "resamples": RESAMPLES,
        "teachers": {t: {"folder": f"{plan['exp']}/{t}", "ppl": _maybe(exp / t / "ppl.json")} for t in teachers},
        "missing": sorted({*students.missing} - {*taken}), "stale": students.stale, "earlier": taken, "scored": scored.as_json(),
        "detectable": designs,
        "systems": [{**s, "students": made[s["name"]], "results": results[s["name"]]} for s in plan["systems"] if made[s["name"]]],
    }  # fmt: skip


def planned(root: Path, plan: dict[str, Any]) -> dict[str, set[str]]:
    """System -> the digests of the options that the plan has for it."""
    return {s["name"]: planned_digests(root / "conf" / f"{s['name']}_{plan['seeds'][0]}.yaml") for s in plan["systems"]}


def _maybe(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def student_of(folder: Path, seed: int) -> dict[str, Any]:
    """One trained student: where it is and what is known of its training."""
    record = read_record(folder) or {}
    return {
        "seed": seed, "folder": folder.name, "about": _maybe(folder / "student.json"), "seconds": record.get("seconds"),
        "git": commits([folder]), "learns_from": read_system(folder).learns_from, "options": trained_digest(folder / "config.yaml"),
    }  # fmt: skip


def check_pooled(results: dict[str, list[dict[str, Any]]]) -> None:
    """KdError when students of one set and graph were decoded at different scales, where these are pooled."""
    first: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in (r for own in results.values() for r in own):
        for run in result["runs"]:
            other = first.setdefault((result["set"], result["lm"], result["first_pass_lm"]), run)
            if run["scales"] != other["scales"]:
                raise KdError(f"{run['decode']} was decoded at other pooled scales than {other['decode']}: the choice has changed since; "
                              "run the ablation's stage again with all systems and seeds of the table")  # fmt: skip


def results_of(students: Students, folders: dict[int, Path], scored: Scored) -> list[dict[str, Any]]:
    """The results of one system, a set and graph each, without intervals and comparisons; seeds rising."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for seed, folder in sorted(folders.items()):
        for path in students.scores[folder.name]:
            score = read_result(path, students.root)
            key = (score["set"], score["lm"], score["first_pass_lm"])
            rate = "per" if score["wer"] is None else "wer"
            result = found.setdefault(key, {"set": key[0], "lm": key[1], "first_pass_lm": key[2], "rate": rate, "runs": []})
            if any(run["seed"] == seed for run in result["runs"]):
                raise KdError(f"{score['decode']}: {folder.name} has two decodes of {key[0]} with {key[1]}; remove one")
            kept = {k: score[k] for k in ("decode", "sub", "ins", "del", "failed", "empty", "scales")}
            errors = scored.errors(key[0], rate, score["decode"], per_utterance(students.root / score["decode"] / "per_utt.tsv"))
            result["runs"].append({"seed": seed, "value": score[rate], **kept, "errors": errors})
            result |= {k: score[k] for k in ("words", "utterances")}
    return [found[key] for key in sorted(found)]


def made_of(cfg: Config, root: Path, content: dict[str, Any]) -> dict[str, str]:
    """The record of how the tables were made."""
    taken = {*content["earlier"]}
    here = [(f"{s['name']}_{run['seed']}" in taken, run) for s in content["systems"] for r in s["results"] for run in r["runs"]]
    git = {commits([root / run["decode"] for old, run in here if not old])}
    git |= {st["git"] for s in content["systems"] for st in s["students"] if f"{s['name']}_{st['seed']}" in taken}
    return {"title": cfg.title, "note": cfg.note, "command": cfg.command, "git": ", ".join(sorted(git)),
            "date": time.strftime("%Y-%m-%d", time.gmtime())}  # fmt: skip


def arguments(argv: list[str] | None) -> tuple[Path, Path, Path, Config]:
    """The ablation's folder, ablation.json, ABLATION.md and the options."""
    paths, cfg, _ = parse_args(
        Config, [("ablation", "folder of the ablation"), ("markdown", "ABLATION.md to write")], argv, prog="steps/collect_ablation.sh",
        description=__doc__ or "",
    )  # fmt: skip
    if cfg.earlier and not cfg.results:
        raise UsageError("--earlier goes with --results: the ablation's own ablation.json is of what is there, as its page is")
    return paths["ablation"], cfg.results or paths["ablation"] / JSON, paths["markdown"], cfg


def would_run() -> str:
    """Why collecting would change something, '' when it would not; for a recipe's --dry-run."""
    root, json_path, markdown, cfg = arguments(None)
    if not (json_path.is_file() and markdown.is_file()):
        return "no output yet"
    content = collect(root, cfg.earlier)
    return would_change(json_path, markdown, content, made_of(cfg, root, content), render)


def check_outputs() -> None:
    """UsageError when a file cannot be written where it goes; for a recipe, before its first stage."""
    _, json_path, markdown, _ = arguments(None)
    check_files(json_path, markdown)


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/collect_ablation.sh."""
    root, json_path, markdown, cfg = arguments(argv)
    if cfg.check:
        check(json_path, markdown, render, "collect_ablation")
        return
    content = collect(root, cfg.earlier)
    print(write(json_path, markdown, content, made_of(cfg, root, content), render))
    left = "".join(f"; {what}: {', '.join(content[what])}" for what in ("missing", "stale") if content[what])
    runs = sum(len(s["students"]) for s in content["systems"])
    print(f"collect_ablation: {runs} students of {len(content['systems'])} systems in {json_path}, tables in {markdown}{left}",
          file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
