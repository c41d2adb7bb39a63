"""The description of a system.  In: its training's options and inputs.  Out: ``system.json`` in the model's folder, and its only reader.

Training writes the file once (GMMs and students); decoding, the tables, the ablation and the report read it. An older folder
without the file is described from its ``config.yaml`` (``_from_config``, here only).

    format, kind   FORMAT; "gmm", or the kind of student ("hybrid")
    objective      name of the training losses, for tables: "gmm", "ce", "ce+multitask", "ce+hmt", "interpolate+decoupled", ..
    seed, step     of the training; its script's name
    main           {loss, options} of the main head; null for a GMM
    heads          auxiliary heads: [{unit, layer, loss, weight, temperature, options, hidden, top_k, stride, target, average, posts}, ..],
                   as in main with "labels": true where the loss reads labels alone and is not in LABEL_LOSSES
    teachers       dumps that it learned from: [{name, unit, dump, rows, teacher_kind, teacher_digest, temperature}, ..]
    encoder        {name, options}; null for a GMM
    minutes        limit of the training speech; null: all
    precision      arithmetic of the training: "float32" or "bfloat16"; null for a GMM
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text, read_json, write_json

FILE = "system.json"
FORMAT = "kdtool system 1"
GMM, HYBRID = "gmm", "hybrid"
GMM_FILE, STUDENT_FILE = MODEL_FILES = ("gmm.safetensors", "model.safetensors")
# Losses whose targets are labels of the alignment. Of others training says so in the entry of the head ("labels": true); what is left
# needs a teacher's posteriors. So a new loss is not entered here.
LABEL_LOSSES = frozenset({"ce", "hard"})
SHORT = {"soft": "hmt"}  # the heads' losses as `objective` names them, where that is not the loss's own name
ROW_FIELDS = ("unit", "layer", "weight", "kind", "temperature")
# The defaults of a head in configs without system.json. They must stay as they are, whatever a head's defaults become.
OLD_HEAD: dict[str, Any] = {
    "kind": "soft", "options": {}, "hidden": 64, "top_k": 0, "stride": 1, "target": "current", "average": False, "posts": "",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class System:
    """A trained system; the fields of the file."""

    kind: str
    seed: int | None
    step: str = ""
    main: dict[str, Any] | None = None
    heads: tuple[dict[str, Any], ...] = ()
    teachers: tuple[dict[str, Any], ...] = ()
    encoder: dict[str, Any] | None = None
    minutes: float | None = None
    precision: str | None = None

    @property
    def objective(self) -> str:
        """Name of the losses: the main head's, then those of the auxiliary heads, teachers first."""
        if self.main is None:
            return self.kind
        taught = sorted({h["loss"] for h in self.heads if not of_labels(h)})
        extra = [SHORT.get(loss, loss) for loss in taught] or (["multitask"] if self.heads else [])
        return "+".join([str(self.main["loss"]), *extra])

    @property
    def learns_from(self) -> str:
        """"alignment" (GMMs, cross-entropy alone), "labels" (heads with hard labels), "main" (a teacher in the main head), "heads"."""
        return learns_from(self.main is None or of_labels(self.main), [of_labels(h) for h in self.heads])

    def row(self) -> dict[str, Any]:
        """The fields of score.json and results.json that say what the system is."""
        heads = [{**{k: h[k] for k in ROW_FIELDS if k != "kind"}, "kind": h["loss"]} for h in self.heads]
        row = {"objective": self.objective, "heads": heads, "seed": self.seed}
        if self.main is not None and learns_of(self.objective, heads) != self.learns_from:
            row["learns_from"] = self.learns_from  # the names of its losses do not say it
        return row

    def write(self, folder: Path) -> None:
        """Write system.json."""
        write_json(Path(folder) / FILE, {"format": FORMAT, "objective": self.objective, **dataclasses.asdict(self)})


def of_labels(entry: Mapping[str, Any]) -> bool:
    """Whether the loss of a head (``main`` or one of ``heads``) reads labels alone."""
    return entry["loss"] in LABEL_LOSSES or bool(entry.get("labels"))


def learns_from(main: bool, heads: Sequence[bool]) -> str:
    """``System.learns_from`` from whether each loss reads labels alone: the main head's, the auxiliary heads'."""
    if not all(heads):
        return "heads"
    if not main:
        return "main"
    return "labels" if heads else "alignment"


def learns_of(objective: str, heads: Sequence[Mapping[str, Any]]) -> str:
    """``System.learns_from`` of a row of results.json that does not say it, from the names of the losses."""
    return learns_from(objective.partition("+")[0] in LABEL_LOSSES, [(h.get("kind") or OLD_HEAD["kind"]) in LABEL_LOSSES for h in heads])


def head(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One head of the file from a complete entry of a student's options, where the loss is called kind."""
    names = ("unit", "layer", "weight", "options", "hidden", "top_k", "stride", "target", "average", "posts")
    temperature = float(entry["options"].get("temperature", 1.0))
    return {**{n: entry[n] for n in names}, "loss": entry["kind"], "temperature": temperature}


def read_system(folder: Path) -> System:
    """The description of a folder's model. KdError: system.json is damaged or of another version, or config.yaml is not readable."""
    path = Path(folder) / FILE
    if not path.is_file():
        return _from_config(Path(folder))
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise KdError(f"{path}: not a description of this version ({FORMAT}); train this model again")
    fields: dict[str, Any] = {f.name: content.get(f.name) for f in dataclasses.fields(System)}
    try:
        fields |= {name: tuple({**entry} for entry in content[name]) for name in ("heads", "teachers")}
        system = System(**fields)
        system.row()
    except (KeyError, TypeError) as e:
        raise KdError(f"{path}: field {e} is missing or of another type; train this model again") from e
    return system


def _from_config(folder: Path) -> System:
    """Reader for folders without system.json. Their config.yaml knows neither the teachers' digests nor what ``auto`` became."""
    config = _config(folder / "config.yaml")
    if (folder / GMM_FILE).is_file():
        return System(GMM, config.get("seed"))
    heads = tuple(head({**OLD_HEAD, **{k: v for k, v in entry.items() if v is not None}}) for entry in config.get("heads") or [])
    dumps = [Path(p) for p in str(config.get("posts") or "").split(",") if p]  # names of dumps are younger than system.json
    about = folder / "student.json"
    known = read_json(about) if about.is_file() else {}
    return System(
        kind=HYBRID, seed=config.get("seed"), heads=heads, minutes=config.get("minutes"),
        main={"loss": config.get("main") or "ce", "options": config.get("main_options") or {}},
        teachers=tuple({"dump": "/".join(p.parts[-2:])} for p in dumps),
        encoder={"name": config["encoder"], "options": config.get("encoder_options") or {}} if "encoder" in config else None,
        precision=known.get("precision") or config.get("precision") or "float32",
    )  # fmt: skip


def _config(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    try:
        with open_text(path) as f:
            config = yaml.safe_load(f) or {}
    except (yaml.YAMLError, RecursionError) as e:
        raise KdError(f"{path}: not plain YAML ({e}); train this model again") from e
    if not isinstance(config, dict):
        raise KdError(f"{path}: 'key: value' lines expected; train this model again")
    return config
