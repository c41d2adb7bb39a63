"""Step plan_ablation: ablation.yaml -> the options of one student per system and seed.

In: ablation.yaml and the experiment folder that holds the teachers. Out: ``<system>_<seed>.yaml`` for steps/train_student.sh,
``names`` (students to make now, one per line, for utils/launch.sh), ``pooled`` (only with pooled scales: all students),
``teachers`` (the teachers' folders that these need), ``plan.json`` (for kdtool.ablation.collect).

ablation.yaml:
    base: student_ce.yaml        options that all systems share: a file beside this one, or a list of layers (FILE, FILE:SECTION)
    options: {epochs: 10}        changes to it for all systems
    seeds: [0, 1, 2]
    references: [ce, mtl]        every system is compared with these
    teachers: {UNIT: FOLDER}     whose posteriors are given; folders below the experiment folder. A second teacher of a unit has a name
                                 instead of the unit, which heads give in ``posts``
    graphs: [loop, 3gram]        names of the LMs, in the order of the table's columns
    systems:
      NAME: {about, from, options, heads, each_head, layers, weights, teachers, control}    control: a further system to compare with,
                                 such as the same heads with hard labels
    settings:                    the same systems under another condition (NAME-SETTING), compared with the references there
      NAME: {about, options, layers, systems: [..]}    layers: of the heads, if any, for an encoder of another depth
    scales: own                  LM and prior scales: chosen for each student by itself, or 'pooled': one point per graph for all
    sweeps:                      for figures: which systems belong to which value of what was varied
      AXIS: [[VALUE, SYSTEM], ..]

A system is the base, or the system named in ``from``, changed by ``options`` (each replaced as a whole, not merged), then by ``heads``
(replaces all heads), then by the fields of ``each_head`` in every head, then by ``layers`` and ``weights`` (one per head).
A system's file depends only on the base and its own entries: another system in the list does not change a byte of it.
"""

import copy
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, config_file, parse_args, read_config
from kdtool.core.errors import UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import open_text, write_json
from kdtool.student.config import UNITS, StudentConfig

PLAN, NAMES, TEACHERS, POOLED = "plan.json", "names", "teachers", "pooled"
SCALES = ("own", "pooled")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+]*")
TOP = {"base", "options", "seeds", "references", "teachers", "graphs", "systems", "settings", "scales", "sweeps"}
SYSTEM = {"about", "from", "options", "heads", "each_head", "layers", "weights", "teachers", "control"}
SETTING = {"about", "options", "layers", "systems"}


@dataclass(frozen=True)
class Config:
    """Options of plan_ablation."""

    systems: str = field(default="", metadata={"help": "only these systems, comma-separated; empty: all"})
    seeds: str = field(default="", metadata={"help": "only these seeds, comma-separated; empty: those of the file"})


@dataclass(frozen=True)
class System:
    """One row of the table. ``options``: all of its student's; ``changed``: those that differ from the base's."""

    name: str
    system: str
    setting: str
    about: str
    options: dict[str, Any]
    changed: dict[str, Any]
    teachers: dict[str, str]
    references: list[str]


class Plan:
    """The content of ablation.yaml, resolved; UsageError names the file and what is wrong in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, _file(str(path))
        self.text = read_config(str(path))
        self._check_keys("", self.text, TOP)
        if missing := [k for k in ("base", "seeds", "references", "systems") if not self.text.get(k)]:
            raise self.wrong("", f"{', '.join(missing)} is missing")
        base = self.text["base"] if isinstance(self.text["base"], list) else [self.text["base"]]
        self.layers = [str(self.file.parent / str(layer)) for layer in base]
        self.common: dict[str, Any] = self.text.get("options") or {}
        if not isinstance(self.common, dict):
            raise self.wrong("options", f"{self.common!r}: a mapping is expected")
        self.base = {key: value for layer in self.layers for key, value in read_config(layer).items()} | self.common
        self.scales = str(self.text.get("scales", "own"))
        if self.scales not in SCALES:
            raise self.wrong("scales", f"{self.scales!r}: known are {', '.join(SCALES)}")
        self.seeds: list[int] = self._list_of(self.text["seeds"], int, "seeds")
        self.references: list[str] = self._list_of(self.text["references"], str, "references")
        self.sources = self._mappings("systems", SYSTEM)
        self._check_systems("references", self.references, self.sources)
        systems = [self._system(name) for name in self.sources]
        for setting, entry in self._mappings("settings", SETTING).items():
            names = self._list_of(entry.get("systems"), str, f"settings: {setting}: systems")
            self._check_systems(f"settings: {setting}", names, self.sources)
            controls = [c for name in names for c in self._control(name)]
            systems += [self._system(name, setting, entry) for name in dict.fromkeys([*self.references, *names, *controls])]
        self.systems = {s.name: s for s in systems}
        self.sweeps: dict[str, list[list[Any]]] = {str(axis): points for axis, points in (self.text.get("sweeps") or {}).items()}
        for axis, points in self.sweeps.items():
            if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
                raise self.wrong(f"sweeps: {axis}", "points [value, system] are expected")
            self._check_systems(f"sweeps: {axis}", [str(system) for _, system in points], self.systems)

    def wrong(self, where: str, what: str) -> UsageError:
        """The error to raise: file, place, what is wrong."""
        return UsageError(f"{self.path}{f': {where}' if where else ''}: {what}")

    def _check_keys(self, where: str, entry: Any, known: set[str]) -> None:
        if not isinstance(entry, dict) or (set(map(str, entry)) - known):
            raise self.wrong(where, f"{entry!r}: a mapping is expected; known are {', '.join(sorted(known))}")

    def _check_systems(self, where: str, names: Iterable[str], known: Collection[str]) -> None:
        if unknown := [name for name in names if name not in known]:
            raise self.wrong(where, f"no system {unknown[0]}; there are {', '.join(known)}")

    def _list_of(self, value: Any, kind: type, where: str) -> list[Any]:
        if not isinstance(value, list) or not value or any(type(v) is not kind for v in value) or len(set(value)) < len(value):
            raise self.wrong(where, f"{value!r}: a list of different {'whole numbers' if kind is int else 'names'} is expected")
        return value

    def _mappings(self, key: str, known: set[str]) -> dict[str, dict[str, Any]]:
        """The entries of a top-level mapping whose keys are names."""
        entries = self.text.get(key) or {}
        if not isinstance(entries, dict):
            raise self.wrong(key, "a mapping is expected, NAME: {..}")
        for name, entry in entries.items():
            if not NAME.fullmatch(str(name)):
                raise self.wrong(key, f"name {name!r}: letters, digits, '_', '.' and '+' are expected")
            self._check_keys(f"{key}: {name}", entry or {}, known)
        return {str(name): entry or {} for name, entry in entries.items()}

    def _chain(self, name: str, seen: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The entries that a system consists of, the first one first."""
        if name in seen or name not in self.sources:
            what = "comes round to itself" if name in seen else "no such system"
            raise self.wrong(f"systems: {(*seen, name)[0]}", f"from {name}: {what}")
        entry = self.sources[name]
        return [*(self._chain(str(entry["from"]), (*seen, name)) if entry.get("from") else []), entry]

    def _control(self, name: str) -> list[str]:
        """The system's control, if it has one."""
        control = self.sources[name].get("control")
        names = [] if control is None else [str(control)]
        self._check_systems(f"systems: {name}: control", names, self.sources)
        return names

    def _system(self, name: str, setting: str = "", condition: dict[str, Any] | None = None) -> System:
        """A system, under a setting if one is given (its name and its entry)."""
        options, teachers = copy.deepcopy(self.base), dict(self.text.get("teachers") or {})
        for entry in self._chain(name):
            options.update(copy.deepcopy(entry.get("options") or {}))
            teachers.update(entry.get("teachers") or {})
            self._change_heads(f"systems: {name}", options, entry)
        abouts = [str(self.sources[name].get("about") or "")]
        if condition is not None:
            options.update(copy.deepcopy(condition.get("options") or {}))
            if options.get("heads"):
                self._change_heads(f"settings: {setting}", options, {"layers": condition.get("layers")})
            abouts.append(str(condition.get("about") or setting))
        end = f"-{setting}" if setting else ""
        if bad := {"seed", "posts"} & set(options):
            raise self.wrong(name + end, f"option {min(bad)}: seeds and teachers are named at the top of the file")
        try:
            needed = StudentConfig(**options).needs_posts()
        except (TypeError, UsageError) as e:
            raise self.wrong(f"system {name}{end}", str(e).removeprefix("StudentConfig.__init__() ")) from e
        if lacking := needed - set(teachers):
            raise self.wrong(f"system {name}{end}", f"it wants posteriors of {', '.join(sorted(lacking))}; add to teachers")
        changed = {k: options.get(k) for k in {*options, *self.base} if options.get(k) != self.base.get(k)}
        references = [f"{r}{end}" for r in dict.fromkeys([*self.references, *self._control(name)])]
        return System(name + end, name, setting, ", ".join(filter(None, abouts)), options, changed, teachers, references)

    def _change_heads(self, where: str, options: dict[str, Any], entry: dict[str, Any]) -> None:
        """Apply an entry's heads, each_head, layers and weights to a system's options."""
        heads = copy.deepcopy(entry["heads"]) if "heads" in entry else options.get("heads") or []
        if not isinstance(heads, list) or not all(isinstance(h, dict) for h in heads):
            raise self.wrong(where, f"heads {heads!r}: a list of mappings is expected")
        for head in heads:
            for key, value in (entry.get("each_head") or {}).items():
                merged = isinstance(value, dict) and isinstance(head.get(key), dict)
                head[key] = {**head[key], **value} if merged else copy.deepcopy(value)
        for key in (k for k in ("layers", "weights") if entry.get(k) is not None):
            if not isinstance(entry[key], list) or len(entry[key]) != len(heads):
                raise self.wrong(where, f"{key} {entry[key]!r}: one for each of the {len(heads)} heads is expected")
            for head, value in zip(heads, entry[key], strict=True):
                head[key[:-1]] = value
        options.pop("heads", None)
        options |= {"heads": heads} if heads else {}

    def chosen(self, cfg: Config) -> tuple[list[str], list[int]]:
        """The systems and seeds of --systems and --seeds, else all of the file."""
        systems = [s for s in cfg.systems.split(",") if s] or list(self.systems)
        if unknown := [s for s in systems if s not in self.systems]:
            raise UsageError(f"--systems {unknown[0]}: {self.path} has {', '.join(self.systems)}")
        seeds = [s.strip() for s in cfg.seeds.split(",") if s.strip()]
        if bad := [s for s in seeds if not s.isdigit()]:
            raise UsageError(f"--seeds {bad[0]}: whole numbers are expected")
        return systems, list(dict.fromkeys(map(int, seeds))) or self.seeds


def _file(layer: str) -> Path:
    """The file of a layer FILE or FILE:SECTION."""
    path = config_file(layer)[0]
    assert path is not None  # only 'FILE?' may be missing
    return path


def student_yaml(system: System, seed: int, exp: Path) -> str:
    """The text of one student's file, keys in alphabetical order."""
    import yaml

    folders = {name: exp / folder / "post_train" for name, folder in sorted(system.teachers.items())}
    posts = ",".join(str(folder) if name in UNITS else f"{name}={folder}" for name, folder in folders.items())
    return str(yaml.safe_dump({**system.options, "seed": seed, "posts": posts}, sort_keys=True, allow_unicode=True))


def write(plan: Plan, cfg: Config, exp: Path, out: Path, work: Path) -> None:
    """All files of the folder, written into ``work``."""
    systems, chosen = plan.chosen(cfg)
    names, seeds = [f"{s}_{seed}" for seed in chosen for s in systems], sorted({*plan.seeds, *chosen})
    lists = {NAMES: names, TEACHERS: sorted({folder for name in systems for folder in plan.systems[name].teachers.values()})}
    if plan.scales == "pooled":  # no file and no entry without pooling, as in plans that are older than it
        lists[POOLED] = [f"{system}_{seed}" for seed in seeds for system in plan.systems]
    files = {f"{s.name}_{seed}.yaml": student_yaml(s, seed, exp) for s in plan.systems.values() for seed in seeds}
    files |= {name: "".join(f"{line}\n" for line in lines) for name, lines in lists.items()}
    for name, text in files.items():
        with open_text(work / name, "w") as f:
            f.write(text)
    write_json(work / PLAN, {
        "references": plan.references, "seeds": plan.seeds, "graphs": [str(g) for g in plan.text.get("graphs") or []],
        "sweeps": plan.sweeps, "base": " and ".join(Path(layer).name for layer in plan.layers), "options": plan.common,
        "exp": os.path.relpath(exp, out.parent), **({"scales": plan.scales} if plan.scales != "own" else {}),
        "systems": [{k: v for k, v in asdict(s).items() if k != "options"} for s in plan.systems.values()],
    })  # fmt: skip
    print(f"{len(plan.systems)} systems, {len(plan.seeds)} seeds; {len(names)} students to make: {', '.join(names[:6])}"
          f"{', ..' if len(names) > 6 else ''}")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/plan_ablation.sh."""
    places = [("plan", "ablation.yaml"), ("exp", "experiment folder, where the teachers are"), ("out", "folder to make")]
    paths, cfg, common = parse_args(Config, places, argv, prog="steps/plan_ablation.sh", description=__doc__ or "")
    plan, exp = Plan(paths["plan"]), Path(os.path.abspath(paths["exp"]))
    plan.chosen(cfg)  # wrong names are an error before anything is made
    bases = {f"base {n}" if n > 1 else "base": _file(layer) for n, layer in enumerate(plan.layers, 1)}
    run_step(
        "plan_ablation", out=paths["out"], inputs={"plan": plan.file, **bases},
        options={"systems": cfg.systems, "seeds": cfg.seeds, "exp": str(exp)}, code=("kdtool.ablation.plan",),
        body=lambda work: write(plan, cfg, exp, Path(os.path.abspath(paths["out"])), work), common=common,
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
