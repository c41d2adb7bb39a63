"""Step collect_ablation: decodes of an ablation -> ablation.json and ABLATION.md.

In: the ablation's folder: ``conf/plan.json`` and, of each system and seed, ``<system>_<seed>`` with decodes in it. Out:
``ablation.json`` there, ABLATION.md where it is asked for. What is not made yet is left out and named. ``--check`` writes
nothing and fails when ABLATION.md is not what ablation.json gives.

ablation.json; paths are relative to the ablation's folder, rates and intervals in percent:
    references, graphs, sweeps    as in ablation.yaml (kdtool.ablation.plan); sweeps: {axis: [[value, system name], ..]}
    resamples                     of the bootstrap
    teachers      {folder name: {folder, ppl}}; ppl: the content of its ppl.json, null when there is none
    missing       [name, ..]: SYSTEM_SEED of the plan that is not trained, or nowhere decoded
    stale         [name, ..]: trained with other options than the plan has now; not in the table
    systems       list, in the plan's order, one object a system:
      name, system, setting       "hmt-10min", "hmt", "10min" (setting: "" for none)
      about, changed              a line for readers; the options that differ from the base's
      teachers                    {unit: folder name}
      references                  names that it is compared with: the plan's, in its own setting
      students    one object a seed: seed, folder (curve.jsonl is there), about (the content of student.json), seconds
      results     one object a set and graph:
        set, lm, first_pass_lm    lm is the graph's LM, or that of the rescoring; rate: "per" or "wer"
        mean, ci95, deviation     over seeds; bootstrap over utterances and seeds; standard deviation of the seeds' rates
        words, utterances         of the references
        sub, ins, del, failed     means over seeds
        runs      one object a seed: seed, decode (folder: per_utt.tsv is there), value (its rate), sub, ins, del, failed, empty, scales
        versus    {name of a reference: {delta, low, high, relative, p, seeds}}; kdtool.ablation.compare says what they are;
                  relative: percent of the reference; seeds: how many of them the reference has
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.ablation.plan import NAMES, PLAN
from kdtool.ablation.tables import render
from kdtool.core.cli import cli_main, parse_args
from kdtool.core.digest import canonical, read_record
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json
from kdtool.results.collect import find_scores, per_utterance, read_result
from kdtool.results.generated import check, commits, would_change, write

JSON = "ablation.json"


@dataclass(frozen=True)
class Config:
    """Options of collect_ablation."""

    results: Path | None = field(default=None, metadata={"help": "ablation.json to write; none: in the ablation's folder"})
    title: str = field(default="Ablation", metadata={"help": "heading of ABLATION.md"})
    note: str = field(default="", metadata={"help": "a sentence under the heading: which data these are"})
    command: str = field(default="", metadata={"help": "command that made the results, for the record"})
    check: bool = field(default=False, metadata={"help": "true: write nothing, fail when ABLATION.md does not match ablation.json"})


class Students:
    """The students of an ablation that are there: ``found`` system -> {seed: folder}, and the names of those that are not."""

    def __init__(self, root: Path, plan: dict[str, Any]) -> None:
        self.root, self.missing, self.stale = root, [], []
        planned = {f"{s['name']}_{seed}" for s in plan["systems"] for seed in plan["seeds"]}
        self.found: dict[str, dict[int, Path]] = {s["name"]: {} for s in plan["systems"]}
        self.scores: dict[str, list[Path]] = {}
        for folder in sorted(p for p in root.iterdir() if p.is_dir() and read_record(p) is not None):
            system, _, seed = folder.name.rpartition("_")
            if system not in self.found or not seed.isdigit():
                continue
            if not same_options(root / "conf" / f"{system}_{plan['seeds'][0]}.yaml", folder / "config.yaml"):
                self.stale.append(folder.name)
            elif scores := find_scores([folder]):
                self.found[system][int(seed)] = folder
                self.scores[folder.name] = scores
        there = {f.name for folders in self.found.values() for f in folders.values()}
        self.missing = sorted(planned - there - set(self.stale))


def same_options(planned: Path, trained: Path) -> bool:
    """Whether a student was trained with what the plan says now of its system, whatever its seed."""
    import dataclasses

    import yaml

    from kdtool.core.state import plain_options
    from kdtool.student.config import StudentConfig

    _, wanted, _ = parse_args(StudentConfig, [], ["--config", str(planned)], prog="plan", description="")
    old = yaml.safe_load(trained.read_text(encoding="utf-8"))
    known = {f.name for f in dataclasses.fields(StudentConfig)}
    made = StudentConfig(**{k: v for k, v in old.items() if k in known})
    names = [["/".join(Path(p).parts[-2:]) for p in cfg.posts.split(",") if p] for cfg in (wanted, made)]
    own, others = (canonical({**plain_options(cfg), "seed": 0}) for cfg in (wanted, made))
    return own == others and sorted(names[0]) == sorted(names[1])


def collect(root: Path) -> dict[str, Any]:
    """The content of ablation.json; KdError when there is no plan or nothing decoded."""
    if not (root / "conf" / PLAN).is_file():
        raise KdError(f"{root / 'conf' / PLAN}: missing; plan the ablation first (steps/plan_ablation.sh)")
    plan = read_json(root / "conf" / PLAN)
    students = Students(root, plan)
    if not students.scores:
        raise KdError(f"{root}: no student of conf/{NAMES} is decoded; train and decode first (stage ablation)")
    from kdtool.decode.bootstrap import RESAMPLES

    exp = root / plan["exp"]
    teachers = sorted({t for s in plan["systems"] for t in s["teachers"].values()})
    results = {name: results_of(students, folders) for name, folders in students.found.items()}
    compare(root, plan, results)
    return {
        **{k: plan[k] for k in ("references", "graphs", "sweeps", "base", "options")}, "resamples": RESAMPLES,
        "teachers": {t: {"folder": f"{plan['exp']}/{t}", "ppl": _maybe(exp / t / "ppl.json")} for t in teachers},
        "missing": students.missing, "stale": students.stale,
        "systems": [{**s, "students": [student_of(f, seed) for seed, f in sorted(students.found[s["name"]].items())],
                     "results": results[s["name"]]} for s in plan["systems"] if students.found[s["name"]]],
    }  # fmt: skip


def _maybe(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def student_of(folder: Path, seed: int) -> dict[str, Any]:
    """One trained student: where it is and what is known of its training."""
    record = read_record(folder) or {}
    return {"seed": seed, "folder": folder.name, "about": _maybe(folder / "student.json"), "seconds": record.get("seconds")}


def results_of(students: Students, folders: dict[int, Path]) -> list[dict[str, Any]]:
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
            result["runs"].append({"seed": seed, "value": score[rate], **kept})
            result |= {k: score[k] for k in ("words", "utterances")}
    for result in found.values():
        runs = result["runs"]
        result |= {k: round(sum(r[k] for r in runs) / len(runs), 3) for k in ("sub", "ins", "del", "failed")}
    return [found[key] for key in sorted(found)]


def compare(root: Path, plan: dict[str, Any], results: dict[str, list[dict[str, Any]]]) -> None:
    """Add mean, interval and comparisons to all results, one set and graph after the other."""
    references = {s["name"]: s["references"] for s in plan["systems"]}
    places = sorted({(r["set"], r["lm"], r["first_pass_lm"]) for own in results.values() for r in own})
    for key in places:
        here = {name: r for name, own in results.items() for r in own if (r["set"], r["lm"], r["first_pass_lm"]) == key}
        comparison = comparison_of(root, here)
        for name, result in here.items():
            rate = comparison.rate(name)
            interval = [round(rate.low, 3), round(rate.high, 3)]
            result |= {"mean": round(rate.mean, 3), "ci95": interval, "deviation": round(rate.deviation, 3), "versus": {}}
            for reference in (r for r in references[name] if r != name and r in here):
                v = comparison.versus(name, reference)
                numbers = {"delta": v.delta, "low": v.low, "high": v.high, "relative": v.relative}
                seeds = {"seeds": len(here[reference]["runs"])}
                result["versus"][reference] = {**{k: round(x, 3) for k, x in numbers.items()}, "p": round(v.p, 5), **seeds}


def comparison_of(root: Path, results: dict[str, dict[str, Any]]) -> Any:
    """The bootstrap over all systems of one set and graph; KdError unless they score the same references."""
    import numpy as np

    from kdtool.ablation.compare import Comparison

    first, ids, words = "", [], np.zeros(0)
    tables, seeds = {}, {}
    for name, result in results.items():
        rows = []
        for run in result["runs"]:
            own = per_utterance(root / run["decode"] / "per_utt.tsv")
            if not first:
                first, ids = run["decode"], sorted(own)
                words = np.array([own[u][1] for u in ids])
            if sorted(own) != ids or any(own[u][1] != n for u, n in zip(ids, words, strict=True)):
                raise KdError(f"{run['decode']} and {first} score other utterances or references ({len(own)} and {len(ids)}); decode both "
                              "again on the same set")  # fmt: skip
            rows.append([own[u][0] for u in ids])
        tables[name], seeds[name] = np.array(rows), [run["seed"] for run in result["runs"]]
    return Comparison(tables, seeds, words)


def made_of(cfg: Config, root: Path, content: dict[str, Any]) -> dict[str, str]:
    """The record of how the tables were made."""
    decodes = [root / run["decode"] for s in content["systems"] for r in s["results"] for run in r["runs"]]
    return {"title": cfg.title, "note": cfg.note, "command": cfg.command, "git": commits(decodes),
            "date": time.strftime("%Y-%m-%d", time.gmtime())}  # fmt: skip


def arguments(argv: list[str] | None) -> tuple[Path, Path, Path, Config]:
    """The ablation's folder, ablation.json, ABLATION.md and the options."""
    paths, cfg, _ = parse_args(
        Config, [("ablation", "folder of the ablation"), ("markdown", "ABLATION.md to write")], argv, prog="steps/collect_ablation.sh",
        description=__doc__ or "",
    )  # fmt: skip
    return paths["ablation"], cfg.results or paths["ablation"] / JSON, paths["markdown"], cfg


def would_run() -> str:
    """Why collecting would change something, '' when it would not; for a recipe's --dry-run."""
    root, json_path, markdown, cfg = arguments(None)
    if not (json_path.is_file() and markdown.is_file()):
        return "no output yet"
    content = collect(root)
    return would_change(json_path, markdown, content, made_of(cfg, root, content), render)


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/collect_ablation.sh."""
    root, json_path, markdown, cfg = arguments(argv)
    if cfg.check:
        check(json_path, markdown, render, "collect_ablation")
        return
    content = collect(root)
    print(write(json_path, markdown, content, made_of(cfg, root, content), render))
    left = "".join(f"; {what}: {', '.join(content[what])}" for what in ("missing", "stale") if content[what])
    runs = sum(len(s["students"]) for s in content["systems"])
    print(f"collect_ablation: {runs} students of {len(content['systems'])} systems in {json_path}, tables in {markdown}{left}",
          file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
