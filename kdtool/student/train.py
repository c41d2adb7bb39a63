"""Train a student.

In: training features (with speed copies) and their alignment, dev features and alignment, posterior dumps (--posts).
Out: a folder with ``model.safetensors`` (encoder, main head, priors: for decoding), ``heads.safetensors`` (the whole
network with its auxiliary heads, for analysis), ``system.json`` (what it is), ``curve.jsonl``, ``student.json`` and
``dropped.tsv``.

The kept checkpoint: every ``eval_epochs`` epochs the moving average of the weights is evaluated; the one with the lowest
frame cross-entropy on dev is kept.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.device import device_type, resolve_precision
from kdtool.core.dropped import account
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.state import interrupted
from kdtool.core.step import run_step
from kdtool.core.tables import write_json, write_jsonl
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.objectives import AUX_OBJECTIVES, MAIN_OBJECTIVES
from kdtool.student.config import Posts, StudentConfig, parse_posts
from kdtool.student.data import TrainingSet, load_training_set
from kdtool.student.encoders import ENCODERS
from kdtool.student.registry import KINDS
from kdtool.student.system import system_of

if TYPE_CHECKING:
    from kdtool.student.loop import Trainer

ABOUT = "student.json"  # written last and atomically: if it exists, the model is complete
DOORS = {"feats": "features", "ali": "ali", "dev_feats": "features", "dev_ali": "ali"}
POSITIONALS = [
    ("feats", "training features, with their speed-perturbed copies"),
    ("ali", "alignment of the training utterances"),
    ("dev_feats", "features that the choice of the weights is made on"),
    ("dev_ali", "their alignment, made with the same tree"),
    ("out", "folder to make"),
]


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    paths, cfg, common = parse_args(StudentConfig, POSITIONALS, argv, prog="steps/train_student.sh", description=__doc__ or "")
    cfg = resolved(cfg, paths["out"])
    posts = parse_posts(cfg.posts)
    if not posts and (needed := cfg.needs_posts()):
        raise UsageError(f"this config needs posteriors of {', '.join(sorted(needed))}: give --posts DIR,DIR,..")
    inputs = {name: paths[name] for name in DOORS}
    starts = {name: path for name, path in (("init", cfg.init), ("init_encoder", cfg.init_encoder)) if path}
    others = starts | ({"denominator": cfg.denominator} if cfg.denominator else {}) | {f"posts {i}": p.folder for i, p in enumerate(posts)}
    run_step(
        f"student {paths['out'].name}", out=paths["out"], inputs=inputs | others, options=cfg,
        code=("kdtool.student.train", *chosen_code(cfg)), body=lambda work: train(cfg, inputs, posts, work), common=common, resumable=True,
        doors=[*(door(kind, inputs[name]) for name, kind in DOORS.items()), *(door("dump", p.folder) for p in posts),
               *(door("model", path) for path in starts.values())],
    )  # fmt: skip


def resolved(cfg: StudentConfig, out: Path) -> StudentConfig:
    """The config with precision ``auto`` resolved: bfloat16 if the device supports it, else float32.

    So the record holds the arithmetic in use: a student made in bfloat16 is stale on a machine where ``auto`` is float32, and the record
    says why; ``--precision bfloat16`` keeps it. An interrupted training of ``out`` continues in its first arithmetic, on any machine.
    """
    if cfg.precision != "auto":
        return cfg
    precision = interrupted(out).get("precision") or resolve_precision(cfg.precision, device_type(cfg.device))
    return dataclasses.replace(cfg, precision=str(precision))


def chosen_code(cfg: StudentConfig) -> list[str]:
    """The code of the kind, of the encoder and of the heads' losses."""
    losses = sorted({spec.kind for spec in cfg.head_specs()})
    return [*KINDS.code(cfg.kind), *ENCODERS.code(cfg.encoder), *MAIN_OBJECTIVES.code(cfg.main), *AUX_OBJECTIVES.code(*losses)]


def train(cfg: StudentConfig, inputs: dict[str, Path], posts: list[Posts], work: Path) -> None:
    """Load, train (or resume), export."""
    from kdtool.student.loop import BEST, CHECKPOINT, Trainer

    if (work / ABOUT).exists() and not (work / CHECKPOINT).exists():
        # Killed after the export, before the step was recorded: without its checkpoint it would train again from the start.
        (work / BEST).unlink(missing_ok=True)
        return
    train_set, dev = load(inputs, posts, cfg.minutes)
    train_set, dev = KINDS[cfg.kind].usable(cfg, train_set, dev=False), KINDS[cfg.kind].usable(cfg, dev, dev=True)
    where = f"student {work.name.removeprefix('.').removesuffix('.work')}"
    account(len(dev.copies) + len(dev.dropped), len(dev.copies), dev.dropped, max_share=cfg.max_dropped, where=f"{where}, dev", work=work)
    (work / "dropped.tsv").replace(work / "dropped_dev.tsv")
    account(train_set.total, len(train_set.copies), train_set.dropped, max_share=cfg.max_dropped, where=where, work=work)
    trainer = Trainer(cfg, train_set, dev, work)
    trainer.run()
    system_of(cfg, posts, trainer.compute.precision).write(work)
    export(trainer, work)


def load(inputs: dict[str, Path], posts: list[Posts], minutes: float | None = None) -> "tuple[TrainingSet, TrainingSet]":
    """Training and dev set; KdError when their alignments have different trees."""
    ali, dev_ali = AlignmentSet.open(inputs["ali"]), AlignmentSet.open(inputs["dev_ali"])
    if (one := ali.meta.get("tree_digest")) != (other := dev_ali.meta.get("tree_digest")):
        raise KdError(f"{inputs['ali']} was made with tree {one}, {inputs['dev_ali']} with {other}; align both with one model")
    if "num_pdfs" not in ali.meta:
        raise KdError(f"{ali.folder}: meta.json does not say how many senones the tree has (num_pdfs); align again")
    num_pdfs = int(ali.meta["num_pdfs"])
    train_set = load_training_set(FeatureSet.open(inputs["feats"]), ali, posts, num_pdfs=num_pdfs, minutes=minutes)
    dev = load_training_set(FeatureSet.open(inputs["dev_feats"]), dev_ali, num_pdfs=num_pdfs)
    if (dev.input_dim, dev.feature_kind) != (train_set.input_dim, train_set.feature_kind):
        raise KdError(f"{inputs['feats']} has {train_set.feature_kind} of {train_set.input_dim}, {inputs['dev_feats']} {dev.feature_kind} "
                      f"of {dev.input_dim} coefficients; extract both alike")  # fmt: skip
    return train_set, dev


def export(trainer: "Trainer", work: Path) -> None:
    """Write the decoding model and the facts of the training; remove the checkpoint."""
    from kdtool.student.loop import BEST, CHECKPOINT

    model = trainer.chosen()
    score = trainer.kind.score(model, trainer.dev)
    facts = trainer.kind.save(model, work)
    write_jsonl(work / "curve.jsonl", trainer.curve)
    write_json(work / ABOUT, {
        "kind": trainer.cfg.kind, **facts, "updates": trainer.total, "chosen_update": trainer.best["update"],
        "chosen_by": trainer.kind.chosen_by, **{f"dev_{n}": v for n, v in {**score.figures, **score.size}.items()},
        "train_minutes": round(trainer.train_set.minutes, 3), "train_utterances": len(trainer.train_set.groups),
        "precision": trainer.compute.precision, "devices": trainer.devices,
        "context_frames": [trainer.encoder.left, trainer.encoder.right], "subsampling": trainer.encoder.subsampling,
    })  # fmt: skip
    (work / CHECKPOINT).unlink(missing_ok=True)
    (work / BEST).unlink(missing_ok=True)
    print(f"  {facts['parameters'] / 1e6:.2f}M parameters; dev {score.text} "
          f"(weights of update {trainer.best['update']} of {trainer.total})")  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
