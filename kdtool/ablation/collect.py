"""Step collect_ablation: decodes of an ablation -> ablation.json and ABLATION.md.

In: the ablation's folder: ``conf/plan.json`` and, per system and seed, ``<system>_<seed>`` with decodes in it. Out: ``ablation.json``
there, ABLATION.md where the user says. What is not made yet is left out and named. ``--check`` writes nothing and fails when ABLATION.md
does not match ablation.json.

ablation.json; paths are relative to the ablation's folder, rates and intervals in percent:
    references, graphs, sweeps, scales    as in ablation.yaml (kdtool.ablation.plan); scales only if "pooled"
    resamples     of the bootstrap
    teachers      {folder name: {folder, ppl}}; ppl: the content of its ppl.json, or null
    missing, stale, earlier    [SYSTEM_SEED, ..] of the plan that are not trained or not decoded; that were trained with other options
                  than the plan has now, so not in the table; that were taken over from an earlier ablation.json
    scored        {"SET RATE": {ids, words}}: the utterances and their reference words (phones, for per), space-separated
    systems       one object per system, in the plan's order: name ("hmt-10min"), system ("hmt"), setting ("10min", or ""), about,
                  changed (options that differ from the base's), teachers {unit: folder name}, references (systems to compare with), and
      students    one object per seed: seed, folder (with curve.jsonl), about (the content of student.json), seconds, git, learns_from
                  (kdtool.formats.system), options (digest of the training's options without the seed)
      results     one object per set and graph: set, lm (of the graph or the rescoring), first_pass_lm, rate ("per" or "wer"), words and
                  utterances of the references, means over seeds of sub, ins, del, failed, and
        mean, ci95, deviation     over seeds; bootstrap over utterances and seeds; standard deviation of the seeds' rates
        within, between           standard deviation of one seed's rate over redrawn utterances; that of the seeds beyond it
        runs      one object per seed: seed, decode (folder, with per_utt.tsv), value (its rate), sub, ins, del, failed, empty, scales,
                  errors (of each utterance of ``scored``, space-separated)
        versus    {name of a reference: {delta, low, high, relative, p, holm, seeds}}, see kdtool.ablation.compare; relative: percent of
                  the reference; holm: p corrected for all comparisons of one set, graph and setting; seeds: number of the reference's
    detectable    one object per set, graph and setting: set, lm, first_pass_lm, setting, points: the smallest difference that is found
                  at p < 0.05 in 80% of trials, null where no two systems have the same seeds
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.ablation.plan import NAMES, PLAN
from kdtool.ablation.students import Students
from kdtool.ablation.tables import render
from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json
from kdtool.results.generated import Collection, Options, commits


@dataclass(frozen=True)
class Config(Options):
    """Options of collect_ablation."""

    title: str = field(default="Ablation", metadata={"help": "heading of ABLATION.md"})
    earlier: Path | None = field(default=None, metadata={"help": "an ablation.json of the same data: its students replace missing ones of "
                                                                 "the same system and seed; with --results"})  # fmt: skip

    def __post_init__(self) -> None:
        if self.earlier and not self.results:
            raise UsageError("--earlier goes with --results: the ablation's own ablation.json lists only the students in its folder")


def collect(root: Path, earlier: Path | None = None) -> dict[str, Any]:
    """The content of ablation.json; KdError when there is no plan or nothing decoded, or ``earlier`` is of other data."""
    from kdtool.ablation.compare import compare
    from kdtool.decode.bootstrap import RESAMPLES

    if not (root / "conf" / PLAN).is_file():
        raise KdError(f"{root / 'conf' / PLAN}: missing; plan the ablation first (steps/plan_ablation.sh)")
    plan = read_json(root / "conf" / PLAN)
    students = Students(root, plan)
    if not any(students.made.values()):
        raise KdError(f"{root}: no student of conf/{NAMES} is decoded; train and decode first (stage ablation)")
    if earlier:
        students.take_over(earlier)
    results = students.results()
    designs = compare(students, results)
    ppl = {t: root / plan["exp"] / t / "ppl.json" for t in sorted({t for s in plan["systems"] for t in s["teachers"].values()})}
    return {
        **{k: plan[k] for k in ("references", "graphs", "sweeps", "base", "options", "scales") if k in plan}, "resamples": RESAMPLES,
        "teachers": {t: {"folder": f"{plan['exp']}/{t}", "ppl": read_json(path) if path.is_file() else None} for t, path in ppl.items()},
        "missing": students.missing, "stale": students.stale, "earlier": students.taken, "detectable": designs,
        "scored": {f"{name} {rate}": {"ids": " ".join(ids), "words": " ".join(map(str, words))}
                   for (name, rate), (_, ids, words) in students.scored.items()},
        "systems": [{**s, "students": made, "results": results[s["name"]]} for s in plan["systems"] if (made := students.made[s["name"]])],
    }  # fmt: skip


def git_of(root: Path, content: dict[str, Any]) -> str:
    """The commits that made the decodes; of students that were taken over, those that trained them."""
    taken = {*content["earlier"]}
    students = {f"{s['name']}_{st['seed']}": st for s in content["systems"] for st in s["students"]}
    runs = [(f"{s['name']}_{run['seed']}", run) for s in content["systems"] for r in s["results"] for run in r["runs"]]
    git = {commits([root / run["decode"] for name, run in runs if name not in taken])}
    return ", ".join(sorted(git | {students[name]["git"] for name in taken}))


def counts(content: dict[str, Any]) -> tuple[str, str]:
    """What was collected, and what is missing."""
    made = sum(len(s["students"]) for s in content["systems"])
    left = "".join(f"; {what}: {', '.join(content[what])}" for what in ("missing", "stale") if content[what])
    return f"{made} students of {len(content['systems'])} systems", left


ABLATION = Collection(
    "collect_ablation", Config, ("ablation", "folder of the ablation"), ("ablation.json", "ABLATION.md"),
    lambda roots, cfg: collect(roots[0], cfg.earlier), git_of, render, counts, __doc__ or "",
)  # fmt: skip
main, would_run, check_outputs = ABLATION.main, ABLATION.would_run, ABLATION.check_outputs

if __name__ == "__main__":
    cli_main(main)
