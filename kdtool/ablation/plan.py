"""Step plan_ablation: ablation.yaml -> one student's options a system and seed.

In: ablation.yaml and the experiment folder that holds the teachers. Out: ``<system>_<seed>.yaml`` for steps/train_student.sh,
``names`` (those to make now, a line each; utils/launch.sh reads it), ``pooled`` (where scales are pooled: all, a line each),
``teachers`` (the folders of the teachers that these want), ``plan.json`` (what kdtool.ablation.collect goes by).

ablation.yaml:
    base: student_ce.yaml        options that all systems share: a file beside this one, or a list of layers (FILE, FILE:SECTION)
    options: {epochs: 10}        those that differ from it in all systems
    seeds: [0, 1, 2]
    references: [ce, mtl]        every system is compared with these
    teachers: {UNIT: FOLDER}     whose posteriors are given; folders below the experiment folder. A second one over a unit has a name
                                 instead of the unit, which heads give in ``posts``
    graphs: [loop, 3gram]        names of the LMs, in the order of the table's columns
    systems:
      NAME: {about, from, options, heads, each_head, layers, weights, teachers, control}    control: a system that it is compared
                                 with beside the references: the same heads with hard labels, say
    settings:                    the same systems under another condition (NAME-SETTING), compared with the references there
      NAME: {about, options, layers, systems: [..]}    layers: of the heads where there are any, for an encoder of another depth
    scales: own                  LM and prior scales: chosen for each student by itself, or 'pooled': one point per graph for all
    sweeps:                      for figures: which systems stand at which value of what was varied
      AXIS: [[VALUE, SYSTEM], ..]

A system is the base, or the system named in ``from``, with ``options`` instead of its own (whole, not merged), then with ``heads``
instead of its heads, then with the fields of ``each_head`` in each of them and the ``layers`` and ``weights`` given one a head.
A system's file hangs on nothing but the base and its own entries: another system in the list leaves it as it is, to the byte.
"""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass, field
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
    """What ablation.yaml says, resolved; UsageError names the file and what is wrong in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = _file(str(path))
        self.text = read_config(str(path))
        self._known("", self.text, TOP)
        missing = [k for k in ("base", "seeds", "references", "systems") if not self.text.get(k)]
        if missing:
            raise self.wrong("", f"{', '.join(missing)} is missing")
        base = self.text["base"] if isinstance(self.text["base"], list) else [self.text["base"]]
        self.layers = [str(self.file.parent / str(layer)) for layer in base]
        common = self.text.get("options") or {}
        if not isinstance(common, dict):
            raise self.wrong("options", f"{common!r}: a mapping is expected")
        self.common: dict[str, Any] = common
        self.base = {key: value for layer in self.layers for key, value in read_config(layer).items()} | common
        self.scales = str(self.text.get("scales", "own"))
        if self.scales not in SCALES:
            raise self.wrong("scales", f"{self.scales!r}: known are {', '.join(SCALES)}")
        self.seeds: list[int] = self._list_of(self.text["seeds"], int, "seeds")
        self.references: list[str] = self._list_of(self.text["references"], str, "references")
        self.graphs: list[str] = [str(g) for g in self.text.get("graphs") or []]
        self.sources: dict[str, Any] = self._mappings("systems", SYSTEM)
        if unknown := [r for r in self.references if r not in self.sources]:
            raise self.wrong("references", f"no system {unknown[0]}; there are {', '.join(self.sources)}")
        self.systems = {s.name: s for s in [*map(self._system, self.sources), *self._settings()]}
        self.sweeps = self._sweeps()

    def wrong(self, where: str, what: str) -> UsageError:
        """The error to raise: file, place, what is wrong."""
        return UsageError(f"{self.path}{f': {where}' if where else ''}: {what}")

    def _known(self, where: str, entry: Any, known: set[str]) -> None:
        if not isinstance(entry, dict) or (set(map(str, entry)) - known):
            raise self.wrong(where, f"{entry!r}: a mapping is expected; known are {', '.join(sorted(known))}")

    def _list_of(self, value: Any, kind: type, where: str) -> list[Any]:
        if not isinstance(value, list) or not value or any(type(v) is not kind for v in value) or len(set(value)) < len(value):
            raise self.wrong(where, f"{value!r}: a list of different {'whole numbers' if kind is int else 'names'} is expected")
        return value

    def _mappings(self, key: str, known: set[str]) -> dict[str, Any]:
        """The entries of a top-level mapping whose keys are names."""
        entries = self.text.get(key) or {}
        if not isinstance(entries, dict):
            raise self.wrong(key, "a mapping is expected, NAME: {..}")
        for name, entry in entries.items():
            if not NAME.fullmatch(str(name)):
                raise self.wrong(key, f"name {name!r}: letters, digits, '_', '.' and '+' are expected")
            self._known(f"{key}: {name}", entry or {}, known)
        return {str(name): entry or {} for name, entry in entries.items()}

    def _chain(self, name: str, seen: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The entries that a system is made of, the first one first."""
        if name in seen or name not in self.sources:
            what = "comes round to itself" if name in seen else "no such system"
            raise self.wrong(f"systems: {(*seen, name)[0]}", f"from {name}: {what}")
        entry = self.sources[name]
        return [*(self._chain(str(entry["from"]), (*seen, name)) if entry.get("from") else []), entry]

    def _system(self, name: str) -> System:
        options, teachers = copy.deepcopy(self.base), dict(self.text.get("teachers") or {})
        for entry in self._chain(name):
            options.update(copy.deepcopy(entry.get("options") or {}))
            teachers.update(entry.get("teachers") or {})
            self._change_heads(f"systems: {name}", options, entry)
        return self._resolved(name, name, "", str(self.sources[name].get("about") or ""), options, teachers)

    def _control(self, name: str) -> list[str]:
        """The system's own control, if it has one."""
        control = self.sources[name].get("control")
        if control is not None and control not in self.sources:
            raise self.wrong(f"systems: {name}: control", f"no system {control}; there are {', '.join(self.sources)}")
        return [] if control is None else [str(control)]

    def _change_heads(self, where: str, options: dict[str, Any], entry: dict[str, Any]) -> None:
        heads = copy.deepcopy(entry["heads"]) if "heads" in entry else options.get("heads") or []
        if not isinstance(heads, list) or not all(isinstance(h, dict) for h in heads):
            raise self.wrong(where, f"heads {heads!r}: a list of mappings is expected")
        for head in heads:
            for key, value in (entry.get("each_head") or {}).items():
                merged = isinstance(value, dict) and isinstance(head.get(key), dict)
                head[key] = {**head[key], **value} if merged else copy.deepcopy(value)
        for key in ("layers", "weights"):
            values = entry.get(key)
            if values is None:
                continue
            if not isinstance(values, list) or len(values) != len(heads):
                raise self.wrong(where, f"{key} {values!r}: one for each of the {len(heads)} heads is expected")
            for head, value in zip(heads, values, strict=True):
                head[key[:-1]] = value
        if heads:
            options["heads"] = heads
        else:
            options.pop("heads", None)

    def _settings(self) -> list[System]:
        found = []
        for setting, entry in self._mappings("settings", SETTING).items():
            where = f"settings: {setting}"
            names = self._list_of(entry.get("systems"), str, f"{where}: systems")
            if unknown := [n for n in names if n not in self.sources]:
                raise self.wrong(where, f"no system {unknown[0]}; there are {', '.join(self.sources)}")
            controls = [c for name in names for c in self._control(name)]
            for name in dict.fromkeys([*self.references, *names, *controls]):
                plain = self._system(name)
                options = {**plain.options, **copy.deepcopy(entry.get("options") or {})}
                if options.get("heads"):
                    self._change_heads(where, options, {"layers": entry.get("layers")})
                about = ", ".join(filter(None, [plain.about, str(entry.get("about") or setting)]))
                found.append(self._resolved(f"{name}-{setting}", name, setting, about, options, plain.teachers))
        return found

    def _resolved(self, name: str, system: str, setting: str, about: str, options: dict[str, Any], teachers: dict[str, str]) -> System:
        if bad := {"seed", "posts"} & set(options):
            raise self.wrong(name, f"option {min(bad)}: seeds and teachers are named at the top of the file")
        changed = {k: options.get(k) for k in {*options, *self.base} if options.get(k) != self.base.get(k)}
        compared = dict.fromkeys([*self.references, *self._control(system)])
        references = [f"{r}-{setting}" if setting else r for r in compared]
        return System(name, system, setting, about, options, changed, teachers, references)

    def _sweeps(self) -> dict[str, list[list[Any]]]:
        sweeps = self.text.get("sweeps") or {}
        for axis, points in sweeps.items():
            if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
                raise self.wrong(f"sweeps: {axis}", "points [value, system] are expected")
            if unknown := [str(p[1]) for p in points if p[1] not in self.systems]:
                raise self.wrong(f"sweeps: {axis}", f"no system {unknown[0]}; there are {', '.join(self.systems)}")
        return {str(axis): points for axis, points in sweeps.items()}

    def names(self, cfg: Config) -> list[str]:
        """SYSTEM_SEED of what is to be made now: all systems of the first seed, then of the second, .."""
        wanted = [s for s in cfg.systems.split(",") if s] or list(self.systems)
        if unknown := [s for s in wanted if s not in self.systems]:
            raise UsageError(f"--systems {unknown[0]}: {self.path} has {', '.join(self.systems)}")
        return [f"{s}_{seed}" for seed in self.wanted_seeds(cfg) for s in wanted]

    def wanted_seeds(self, cfg: Config) -> list[int]:
        """The seeds of --seeds, else of the file."""
        given = [s.strip() for s in cfg.seeds.split(",") if s.strip()]
        if bad := [s for s in given if not s.isdigit()]:
            raise UsageError(f"--seeds {bad[0]}: whole numbers are expected")
        return list(dict.fromkeys(map(int, given))) or self.seeds


def _file(layer: str) -> Path:
    """The file that FILE or FILE:SECTION names."""
    path = config_file(layer)[0]
    assert path is not None  # only 'FILE?' may be missing
    return path


def student_yaml(system: System, seed: int, exp: Path) -> str:
    """The text of one student's file, keys in alphabetical order."""
    import yaml

    folders = {name: exp / folder / "post_train" for name, folder in sorted(system.teachers.items())}
    posts = ",".join(str(folder) if name in UNITS else f"{name}={folder}" for name, folder in folders.items())
    return str(yaml.safe_dump({**system.options, "seed": seed, "posts": posts}, sort_keys=True, allow_unicode=True))


def check_options(plan: Plan) -> None:
    """UsageError when a system's options are none of a student's."""
    for system in plan.systems.values():
        try:
            cfg = StudentConfig(**system.options)
        except (TypeError, UsageError) as e:
            raise plan.wrong(f"system {system.name}", str(e).removeprefix("StudentConfig.__init__() ")) from e
        if lacking := cfg.needs_posts() - set(system.teachers):
            raise plan.wrong(f"system {system.name}", f"it wants posteriors of {', '.join(sorted(lacking))}; add to teachers")


def write(plan: Plan, cfg: Config, exp: Path, out: Path, work: Path) -> None:
    """All files of the folder, written into ``work``."""
    seeds = sorted({*plan.seeds, *plan.wanted_seeds(cfg)})
    for system in plan.systems.values():
        for seed in seeds:
            with open_text(work / f"{system.name}_{seed}.yaml", "w") as f:
                f.write(student_yaml(system, seed, exp))
    names = plan.names(cfg)
    with open_text(work / NAMES, "w") as f:
        f.writelines(f"{name}\n" for name in names)
    wanted = {folder for name in names for folder in plan.systems[name.rpartition("_")[0]].teachers.values()}
    with open_text(work / TEACHERS, "w") as f:
        f.writelines(f"{folder}\n" for folder in sorted(wanted))
    if plan.scales == "pooled":  # no file and no entry where there is no pooling, as in plans that are older than it
        with open_text(work / POOLED, "w") as f:
            f.writelines(f"{system}_{seed}\n" for seed in seeds for system in plan.systems)
    write_json(work / PLAN, {
        "references": plan.references, "seeds": plan.seeds, "graphs": plan.graphs, "sweeps": plan.sweeps,
        "base": " and ".join(Path(layer).name for layer in plan.layers), "options": plan.common,
        "exp": os.path.relpath(exp, out.parent), **({"scales": plan.scales} if plan.scales != "own" else {}),
        "systems": [{"name": s.name, "system": s.system, "setting": s.setting, "about": s.about, "changed": s.changed,
                     "teachers": s.teachers, "references": s.references} for s in plan.systems.values()],
    })  # fmt: skip
    print(f"{len(plan.systems)} systems, {len(plan.seeds)} seeds; {len(names)} students to make: {', '.join(names[:6])}"
          f"{', ..' if len(names) > 6 else ''}")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/plan_ablation.sh."""
    places = [("plan", "ablation.yaml"), ("exp", "experiment folder, where the teachers are"), ("out", "folder to make")]
    paths, cfg, common = parse_args(Config, places, argv, prog="steps/plan_ablation.sh", description=__doc__ or "")
    plan, exp = Plan(paths["plan"]), Path(os.path.abspath(paths["exp"]))
    check_options(plan)
    plan.names(cfg)  # wrong names are an error before anything is made
    bases = {f"base {n}" if n > 1 else "base": _file(layer) for n, layer in enumerate(plan.layers, 1)}
    run_step(
        "plan_ablation", out=paths["out"], inputs={"plan": plan.file, **bases},
        options={"systems": cfg.systems, "seeds": cfg.seeds, "exp": str(exp)}, code=("kdtool.ablation.plan",),
        body=lambda work: write(plan, cfg, exp, Path(os.path.abspath(paths["out"])), work), common=common,
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
