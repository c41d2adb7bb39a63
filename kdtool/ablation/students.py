"""The students of an ablation: those that are trained and decoded here, and those of an earlier ablation.json.

In: the ablation's folder, its plan, an earlier ablation.json.  Out: students and results by system, as ablation.json has them.
"""

import dataclasses
from pathlib import Path
from typing import Any

from kdtool.core.cli import parse_args
from kdtool.core.digest import canonical, combine, read_record
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json
from kdtool.formats.system import read_system
from kdtool.results.collect import Utterance, find_scores, per_utterance, read_result
from kdtool.results.generated import commits

KEY = ("set", "lm", "first_pass_lm")
PLACE = (*KEY, "rate", "words", "utterances")
Results = dict[str, list[dict[str, Any]]]  # system -> one object per set and graph
# The options that the digests of published results include.
PUBLISHED = frozenset({
    "average", "balance", "batch", "chunk", "clip", "decay", "encoder", "encoder_options", "epochs", "eval_epochs", "final_lr",
    "freq_masks", "freq_width", "head_dropout", "heads", "hidden", "lr", "main", "main_options", "max_dropped", "minutes",
    "optimizer", "precision", "seed", "time_masks", "time_width", "warmup", "warp", "weight_decay",
})  # fmt: skip


class Students:
    """The students of an ablation.

    ``made``: system -> its students, seeds rising; ``missing``, ``stale``, ``taken``: SYSTEM_SEED names, as in ablation.json; ``scored``:
    (set, rate) -> a decode, the utterances and reference words ("per" counts phones) that all decodes of that set share.
    """

    def __init__(self, root: Path, plan: dict[str, Any]) -> None:
        self.root, self.plan = root, plan
        self.planned = {s["name"]: planned_digests(root / "conf" / f"{s['name']}_{plan['seeds'][0]}.yaml") for s in plan["systems"]}
        self.made: dict[str, list[dict[str, Any]]] = {name: [] for name in self.planned}
        self.scored: dict[tuple[str, str], tuple[str, list[str], list[int]]] = {}
        self.stale: list[str] = []
        self.taken: list[str] = []
        self._runs: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {name: [] for name in self.planned}  # (place, run)
        named = [(p, *p.name.rpartition("_")[::2]) for p in root.iterdir() if p.is_dir() and read_record(p) is not None]
        for system in self.planned:
            for seed, folder in sorted((int(seed), p) for p, name, seed in named if name == system and seed.isdigit()):
                self._add_folder(system, seed, folder)
        self.stale.sort()

    @property
    def missing(self) -> list[str]:
        """Those of the plan that are not trained, or not decoded."""
        planned = {f"{name}_{seed}" for name in self.planned for seed in self.plan["seeds"]}
        return sorted(planned - {f"{name}_{st['seed']}" for name, made in self.made.items() for st in made} - {*self.stale})

    def _add_folder(self, system: str, seed: int, folder: Path) -> None:
        """One trained student, and all its decodes at the plan's kind of scales."""
        options, pooled = trained_digest(folder / "config.yaml"), self.plan.get("scales") == "pooled"
        if options not in self.planned[system]:
            self.stale.append(folder.name)
            return
        scores = [read_result(path, self.root) for path in find_scores([folder]) if bool(read_json(path).get("pooled")) == pooled]
        if not scores:
            return
        about, record = folder / "student.json", read_record(folder) or {}
        self.made[system].append({
            "seed": seed, "folder": folder.name, "about": read_json(about) if about.is_file() else None,
            "seconds": record.get("seconds"), "git": commits([folder]), "learns_from": read_system(folder).learns_from, "options": options,
        })  # fmt: skip
        for n, score in enumerate(scores):
            if any(all(score[k] == other[k] for k in KEY) for other in scores[:n]):
                raise KdError(f"{score['decode']}: {folder.name} has two decodes of {score['set']} with {score['lm']}; remove one")
            rate = "per" if score["wer"] is None else "wer"
            run = {k: score[k] for k in ("decode", "sub", "ins", "del", "failed", "empty", "scales")} | {"seed": seed, "value": score[rate]}
            self._add_run(system, {**score, "rate": rate}, run, per_utterance(self.root / score["decode"]))

    def _add_run(self, system: str, place: dict[str, Any], run: dict[str, Any], rows: dict[str, Utterance], whose: str = "") -> None:
        """One decode; KdError unless it scores what the others of that set do. place: with the fields of PLACE; whose: for that error."""
        ids = sorted(rows)
        words, decode = [rows[u].words for u in ids], whose + run["decode"]
        first, first_ids, first_words = self.scored.setdefault((place["set"], place["rate"]), (decode, ids, words))
        if (ids, words) != (first_ids, first_words):
            raise KdError(f"{decode} and {first} score other utterances or references ({len(ids)} and {len(first_ids)}); decode both "
                          "again on the same set")  # fmt: skip
        run = {**run, "errors": " ".join(str(rows[u].errors) for u in ids)}
        self._runs[system].append(({k: place[k] for k in PLACE}, run))

    def take_over(self, path: Path) -> None:
        """Add the students of an earlier ablation.json that are not here and were trained with the plan's options.

        Raises:
            KdError: it was collected before errors were kept, or it scores other utterances of a set that is decoded here.
        """
        old = read_json(path)
        if "scored" not in old:
            raise KdError(f"{path}: it has no errors of single utterances, an older kdtool made it; leave --earlier out, "
                          "or collect it again")  # fmt: skip
        for system in (s for s in old["systems"] if s["name"] in self.planned):
            name, made = system["name"], self.made[system["name"]]
            seeds = {student["seed"] for student in made}
            new = {st["seed"]: st for st in system["students"] if st["seed"] not in seeds and st["options"] in self.planned[name]}
            made += new.values()
            made.sort(key=lambda student: int(student["seed"]))
            self.taken = sorted([*self.taken, *(f"{name}_{seed}" for seed in new)])
            for place, run in ((r, run) for r in system["results"] for run in r["runs"] if run["seed"] in new):
                scored = old["scored"][f"{place['set']} {place['rate']}"]
                columns = zip(scored["ids"].split(), run["errors"].split(), scored["words"].split(), strict=True)
                rows = {utt: Utterance(int(errors), int(words), "", "") for utt, errors, words in columns}
                self._add_run(name, place, run, rows, f"{path}: ")

    def results(self) -> Results:
        """The results of each system, one per set and graph, without intervals and comparisons; seeds rising.

        Raises:
            KdError: students of one set and graph were decoded at different scales, where the plan pools them.
        """
        results: Results = {}
        for system, runs in self._runs.items():
            places: dict[tuple[str, ...], dict[str, Any]] = {}
            for place, run in sorted(runs, key=lambda pair: int(pair[1]["seed"])):
                places.setdefault(tuple(place[k] for k in KEY), {**place, "runs": []})["runs"].append(run)
            results[system] = [places[key] for key in sorted(places)]
        if self.plan.get("scales") == "pooled":
            check_pooled(results)
        return results


def check_pooled(results: Results) -> None:
    """KdError when students of one set and graph were decoded at different scales, where these are pooled."""
    first: dict[tuple[str, ...], dict[str, Any]] = {}
    for result, run in ((r, run) for every in results.values() for r in every for run in r["runs"]):
        other = first.setdefault(tuple(result[k] for k in KEY), run)
        if run["scales"] != other["scales"]:
            raise KdError(f"{run['decode']} was decoded at other pooled scales than {other['decode']}: the choice has changed since; "
                          "run the ablation's stage again with all systems and seeds of the table")  # fmt: skip


def planned_digests(path: Path) -> set[str]:
    """``options_digest`` of a student's file in the plan, for each precision that it allows: training resolves auto."""
    from kdtool.student.config import CHOICES, StudentConfig

    cfg = parse_args(StudentConfig, [], ["--config", str(path)], prog="plan", description="")[1]
    allowed = CHOICES["precision"] if cfg.precision == "auto" else (cfg.precision,)
    return {options_digest(dataclasses.replace(cfg, precision=p)) for p in allowed}


def trained_digest(path: Path) -> str:
    """``options_digest`` of what a student was trained with; options that no longer exist do not count."""
    import yaml

    from kdtool.core.state import defaults_of
    from kdtool.student.config import StudentConfig

    options = {k: v for k, v in yaml.safe_load(path.read_text(encoding="utf-8")).items() if k in StudentConfig.__dataclass_fields__}
    return options_digest(StudentConfig(**{**defaults_of(StudentConfig()), **options}))


def options_digest(cfg: Any) -> str:
    """Digest of a student's options, except its seed and the place of its teachers' dumps.

    An option that is younger than published results counts only where it differs from its first default (kdtool.core.state).
    """
    from kdtool.core.state import defaults_of, plain_options
    from kdtool.student.config import parse_posts

    first = defaults_of(cfg)
    options = {n: v for n, v in plain_options(cfg).items() if n in PUBLISHED or canonical(v) != canonical(first.get(n))}
    dumps = sorted((f"{p.name}=" if p.named else "") + "/".join(p.folder.parts[-2:]) for p in parse_posts(cfg.posts))
    return combine([canonical({**options, "seed": 0}), *dumps])
