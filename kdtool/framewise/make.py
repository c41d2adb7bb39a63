"""Step: dump posteriors by frame of acoustic models.  In: models, features, lang, for lattices a graph.  Out: exp/<name>/post_<set>.

--kind ensemble: the mean posterior of students with one tree. --kind lattice: posteriors over all paths of a model's lattices in a graph,
with the best path's units as labels; the log-probability of a path in nats is
acoustic_scale * (acoustic - prior_scale * log-prior + lm_scale * graph). The folder is that of steps/dump_posteriors.sh.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.decode.acoustic import code_of
from kdtool.framewise.teachers import ENSEMBLE, KINDS, LATTICE, Plan
from kdtool.posteriors import make as posteriors

MEMBER_MB = 1200  # libraries, the posteriors of one long utterance in float64


def _help(text: str, **metadata: Any) -> dict[str, Any]:
    return {"help": text, **metadata}


@dataclass(frozen=True)
class Config:
    """Options of the step."""

    kind: str = field(default=ENSEMBLE, metadata=_help("ensemble: mean of students; lattice: of a model's lattices in a graph"))
    unit: str = field(default="senone", metadata=_help("senone, or phone: the sum of its senones"))
    tree: Path | None = field(default=None, metadata=_help("GMM folder of the models' tree, for --unit phone"))
    frames_per_row: int = field(default=1, metadata=_help("one row for N frames of 10 ms, that of the middle one"))
    trained_on: Path | None = field(
        default=None, metadata=_help("file of lines MEMBER SPEAKER, its training speakers: no member labels its own (ensemble)")
    )
    graph: Path | None = field(default=None, metadata=_help("graph folder (lattice)"))
    engine: str = field(default="auto", metadata=_help("search engine: k2, native (C++), auto: native on the CPU"))
    lm_scale: float | None = field(default=None, metadata=_help("weight of the graph (default: as in steps/decode.sh)"))
    prior_scale: float = field(default=0.75, metadata=_help("share of the log-prior that is subtracted (students)"))
    acoustic_scale: float | None = field(default=None, metadata=_help("scale of a path's score; default 1 / lm_scale: the graph in full"))
    search_beam: float = field(default=15.0, metadata=_help("beam of the search, in nats of the LM"))
    output_beam: float = field(default=5.0, metadata=_help("beam of the lattice, in nats of the LM"))
    max_active: int = field(default=3000, metadata=_help("largest number of active graph states per frame"))
    min_active: int = field(default=30, metadata=_help("smallest number of active graph states per frame"))
    adapt_passes: int = field(default=1, metadata=_help("number of fMLLR estimates per speaker before the last search (SAT GMMs)"))
    temperature: float = field(default=1.0, metadata=_help("dump P ** (1 / T), normalised"))
    top_k: int = field(default=0, metadata=_help("keep at most N units of a row (0: no limit)"))
    mass: float = field(default=0.99, metadata=_help("keep this share of the mass, on average"))
    step: float = field(default=0.0, metadata=_help("quantisation step of 2 sqrt(p) (0: the default of rows by frame)"))
    sample: int = field(default=16000, metadata=_help("number of rows for estimating the coder's levels and priors"))
    shard_size: int = field(default=32, metadata=_help("utterances per file"))
    max_dropped: float = field(default=0.05, metadata=_help("largest share of utterances that may be dropped"))

    def coding(self) -> posteriors.Config:
        """The options of the rows' code."""
        names = ("temperature", "top_k", "mass", "step", "sample", "shard_size", "max_dropped")
        return posteriors.Config(**{name: getattr(self, name) for name in names})


def check(cfg: Config, models: list[Path]) -> None:
    """UsageError for options that are wrong or do not fit together."""
    posteriors.check(cfg.coding())
    if cfg.kind not in KINDS or cfg.unit not in ("senone", "phone") or cfg.frames_per_row < 1:
        raise UsageError(f"--kind {cfg.kind} --unit {cfg.unit} --frames-per-row {cfg.frames_per_row}: kinds are {', '.join(KINDS)}, units "
                         "senone and phone, and a row has at least one frame")  # fmt: skip
    if cfg.unit == "phone" and not cfg.tree:
        raise UsageError("--unit phone: give --tree, the GMM folder whose tree says which senones a phone has")
    if cfg.kind == ENSEMBLE and cfg.graph:
        raise UsageError(f"--graph {cfg.graph}: an ensemble has no graph; give --kind lattice")
    if cfg.kind == LATTICE and (len(models) != 1 or cfg.trained_on):
        raise UsageError(f"--kind lattice: {len(models)} models, --trained-on {cfg.trained_on}: lattices are of one model, and "
                         "cross-fitting is for ensembles")  # fmt: skip
    if any(scale is not None and not scale > 0 for scale in (cfg.acoustic_scale, cfg.lm_scale)):
        raise UsageError(f"--acoustic-scale {cfg.acoustic_scale}, --lm-scale {cfg.lm_scale}: above 0 is expected")


def plan_of(models: list[Path], paths: dict[str, Path], cfg: Config) -> tuple[Plan, str, int]:
    """(plan of the rows, digest of the models' tree, MB per job); KdError when models, features, lang, tree and graph do not fit."""
    from kdtool.decode.acoustic import load_acoustic
    from kdtool.features.store import FeatureSet
    from kdtool.framewise.teachers import check_members

    members, features = [load_acoustic(m) for m in models], FeatureSet.open(paths["feats"])
    for member in members:
        member.check_features(features)
    first = members[0]
    if cfg.frames_per_row % first.subsampling:
        raise KdError(f"{first.folder} has one output per {first.subsampling} frames, --frames-per-row {cfg.frames_per_row} is no "
                      "multiple of it; give one")  # fmt: skip
    phones, size = phones_of(cfg.tree, first.tree_digest, paths["lang"]) if cfg.unit == "phone" and cfg.tree else ([], first.num_pdfs)
    plan = Plan(cfg.kind, [str(m) for m in models], str(paths["feats"]), cfg.unit, size, cfg.frames_per_row, phones)
    if cfg.kind == LATTICE:
        return *search_of(plan, {**paths, "model": models[0]}, cfg, first.tree_digest),
    check_members(members)
    if cfg.trained_on:
        plan = dataclasses.replace(plan, crossfit=speakers_of(cfg.trained_on, models))
    return plan, first.tree_digest, MEMBER_MB


def search_of(plan: Plan, paths: dict[str, Path], cfg: Config, tree: str) -> tuple[Plan, str, int]:
    """The plan with the recogniser's options and the weights of a path's scores, as ``plan_of``."""
    from kdtool.decode.recogniser import recogniser_of
    from kdtool.framewise.teachers import path_weights

    recogniser, decoding = recogniser_of(paths["model"]), decode_config(cfg)
    setting = recogniser.setting(paths, decoding)
    weights = path_weights(setting.centre, cfg.prior_scale, cfg.acoustic_scale or 1.0 / setting.centre)
    return dataclasses.replace(plan, search=setting.options, weights=weights.tolist()), tree, recogniser.megabytes(decoding)


def speakers_of(path: Path, models: list[Path]) -> list[list[str]]:
    """The speakers that each member was trained on, from lines of a member's folder name and a speaker; KdError for a wrong file."""
    from kdtool.core.tables import read_lines

    heard: dict[str, list[str]] = {m.name: [] for m in models}
    for number, line in enumerate(read_lines(path), 1):
        name, _, speaker = line.partition(" ")
        if name not in heard or not speaker:
            raise KdError(f"{path}, line {number}: '{line}': a member ({', '.join(heard)}), a blank and a speaker are expected")
        heard[name].append(speaker)
    if len(heard) < len(models) or not all(heard.values()):
        raise KdError(f"{path}: {len(models)} members, {sum(map(bool, heard.values()))} of them with speakers; give each member's folder "
                      "a name that no other has, and a line for each of its training speakers")  # fmt: skip
    return list(heard.values())


def decode_config(cfg: Config) -> Any:
    """The options of the search, as decoding has them."""
    from kdtool.decode.config import Config as DecodeConfig

    names = ("graph", "engine", "lm_scale", "prior_scale", "search_beam", "output_beam", "max_active", "min_active", "adapt_passes")
    return DecodeConfig(**{name: getattr(cfg, name) for name in names})


def phones_of(folder: Path, digest: str, lang: Path) -> tuple[list[int], int]:
    """(the phone of each senone, number of phone ids); KdError: another tree, or one whose phones share senones."""
    from kdtool.formats.tree import Tree
    from kdtool.lang.lang import Lang
    from kdtool.units.table import check_tree_fits, num_units

    tree, words = Tree.load(folder), Lang.load(lang)
    check_tree_fits(words, tree)
    if tree.digest != digest:
        raise KdError(f"--tree {folder} has tree {tree.digest[:12]}, the model {digest[:12]}; name the GMM that the model was trained with")
    if tree.shared:
        raise KdError(f"--tree {folder}: phones share senones (they depend on their position in the word), so no phone is a sum of "
                      "senones; dump senones, or train with a lang whose phones do not depend on the position")  # fmt: skip
    return tree.pdf_phone.tolist(), num_units("phone", words, tree)


def dump(models: list[Path], paths: dict[str, Path], cfg: Config, work: Path, nj: int) -> None:
    """Dump the rows of all utterances into ``work``."""
    from kdtool.core.digest import combine
    from kdtool.core.tables import write_json
    from kdtool.core.tensors import file_digest
    from kdtool.formats.system import MODEL_FILES
    from kdtool.framewise.teachers import frame_rows
    from kdtool.graph.decoding_graph import GRAPH_FILE
    from kdtool.lang.lang import Lang
    from kdtool.units.table import units_digest

    plan, tree, mem = plan_of(models, paths, cfg)
    (work / "log").mkdir(exist_ok=True)
    write_json(work / "log" / "job.json", dataclasses.asdict(plan))
    source, lang = frame_rows(plan), Lang.load(paths["lang"])
    files = [m / name for m in models for name in MODEL_FILES if (m / name).is_file()] + ([cfg.graph / GRAPH_FILE] if cfg.graph else [])
    argv = [str(work), "--temperature", repr(cfg.temperature), "--shard-size", str(cfg.shard_size)]
    meta, seconds = posteriors.dump_by_jobs(source, cfg.coding(), work, posteriors.Array("kdtool.framewise.job", argv, nj, mem), {
        "unit": cfg.unit, "num_units": plan.num_units, "units_digest": tree if cfg.unit == "senone" else units_digest("phone", lang, None),
        "teacher_kind": cfg.kind, "teacher_digest": combine([*map(file_digest, files), *map(repr, plan.weights)]), "alignment_digest": "",
        "tree_digest": tree, "lang_digest": lang.digest, "aligned_frames": sum(source.frames.values()),
        "members": len(models), "path_weights": plan.weights,
    })  # fmt: skip
    speech = meta["frames"] / 100.0
    rows = max(meta["units"], 1)
    print(f"{cfg.kind}, {cfg.unit} posteriors: {meta['units']} rows, {meta['entries'] / rows:.1f} kept of {meta['num_units']} "
          f"({meta['mean_mass_kept']:.2%} of the mass, {meta['nats_lost_per_unit']:.4f} nats per row lost), the labels' cross-entropy "
          f"{meta['teacher_nats_per_unit']:.3f} nats; {meta['bytes'] / max(speech, 0.01):.0f} bytes per second of speech, "
          f"written at {speech / max(seconds, 0.01):.0f} x real time", file=sys.stderr)  # fmt: skip


def run(models: list[Path], paths: dict[str, Path], cfg: Config, common: Common) -> None:
    """Check the options, and make the dump unless it is up to date."""
    check(cfg, models)
    inputs = {**{f"model {n}" if n else "model": m for n, m in enumerate(models)}, "feats": paths["feats"], "lang": paths["lang"]}
    doors = [*(door("model", m) for m in models), door("features", paths["feats"]), door("lang", paths["lang"])]
    code = ["kdtool.framewise.make", "kdtool.framewise.job", *(name for m in models for name in code_of(m))]
    if cfg.kind == LATTICE:
        from kdtool.decode.graph_recogniser import GraphRecogniser

        decoding = GraphRecogniser.resolved(decode_config(cfg))
        cfg, inputs = dataclasses.replace(cfg, engine=decoding.engine), inputs | GraphRecogniser.inputs(decoding)
        doors.append(door("graph", inputs["graph"]))
    inputs |= {name: path for name, path in (("tree", cfg.tree), ("trained_on", cfg.trained_on)) if path}
    run_step(
        f"posteriors by frame {paths['out'].name}", out=paths["out"], inputs=inputs, options=cfg, code=tuple(code),
        body=lambda work: dump(models, paths, cfg, work, common.nj), common=common, doors=doors,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("models", "model folder, or several of an ensemble, comma-separated"), ("feats", "feature folder"),
                   ("lang", "lang folder"), ("out", "dump folder to make")]  # fmt: skip
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/dump_frames.sh", description=__doc__ or "")
    run([Path(name) for name in str(paths["models"]).split(",") if name], paths, cfg, common)


if __name__ == "__main__":
    cli_main(main)
