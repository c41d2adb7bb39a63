"""Step: speaker-adaptive training (SAT): a triphone GMM on features that each speaker's fMLLR transform maps.

In: a feature folder, a lang folder, an alignment of these features and the GMM that made it. Out: a GMM folder (see ``kdtool.gmm.folder``),
questions.txt and dropped.tsv.

The transforms are re-estimated during training. At the end the same Gaussians are estimated on the unadapted features, too: the
model of the first pass, when a speaker's transform is not known yet.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.gmm.triphone import TriphoneConfig

if TYPE_CHECKING:
    import numpy as np

    from kdtool.gmm.fmllr import Adaptation
    from kdtool.gmm.folder import Gmm
    from kdtool.gmm.model import DiagGmm
    from kdtool.gmm.pool import ShardPool
    from kdtool.gmm.triphone import Sources


@dataclass(frozen=True)
class SatConfig(TriphoneConfig):
    """Options of the speaker-adaptive training."""

    fmllr: list[int] = field(default_factory=lambda: [2, 4, 6, 12], metadata={"help": "iterations that start with new fMLLR transforms"})
    silence_weight: float = field(default=0.0, metadata={"help": "weight of silence frames in estimating transforms"})
    prior_frames: float = field(
        default=200.0, metadata={"help": "prior of the transform in frames, towards the identity; also used in aligning and decoding"}
    )


def train_sat(paths: dict[str, Path], work: Path, cfg: SatConfig, nj: int) -> None:
    """Transforms, tree, training; the GMM folder goes into `work`. paths: feats, lang, ali, gmm."""
    import dataclasses

    from kdtool.core.dropped import account
    from kdtool.formats.system import GMM, System
    from kdtool.gmm.folder import check_fits, open_gmm, save_gmm
    from kdtool.gmm.pool import ShardPool
    from kdtool.gmm.shard import Shard
    from kdtool.gmm.triphone import grow_and_train, open_sources, shard_arguments, take_alignments

    sources, before = open_sources(paths["feats"], paths["lang"], paths["ali"]), open_gmm(paths["gmm"])
    check_fits(paths["gmm"], before, sources.lang, sources.features)
    check_made_by(paths, sources, before)
    groups = sources.features.by_speaker(sources.ids)
    with ShardPool(Shard, shard_arguments(sources, before.front, groups), nj) as pool:
        missing = take_alignments(pool, paths["ali"])
        start_adapted(pool, sources, before, paths["ali"], cfg)

        def refine(it: int, model: DiagGmm, occupancy: np.ndarray, silence: np.ndarray) -> tuple[DiagGmm, dict[str, float]] | None:
            return (model, adapt(pool, model, occupancy, silence, cfg)) if it in cfg.fmllr else None

        made = grow_and_train(pool, sources.lang, cfg, "SAT", work, refine)
        first = unadapted_twin(pool, made.model)
    front = dataclasses.replace(before.front, adapted=True)
    how = adaptation(made.model, made.occupancy, cfg)
    save_gmm(work, made.model, made.tree, sources.lang, front, made.history, first=first, adaptation=how)
    System(GMM, cfg.seed, "train_sat").write(work)
    account(len(sources.ids), made.kept, missing + made.dropped, max_share=cfg.max_dropped, where="train_sat", work=work)


def check_made_by(paths: dict[str, Path], sources: Sources, gmm: Gmm) -> None:
    """KdError unless the alignment's tied states are those of the GMM."""
    from kdtool.core.errors import KdError

    made_with = str(sources.alignments.meta.get("tree_digest"))
    if made_with != gmm.tree.digest:
        raise KdError(f"{paths['ali']} was made with tree {made_with[:12]}, {paths['gmm']} has tree {gmm.tree.digest[:12]}: "
                      "give the GMM that made the alignment")  # fmt: skip


def start_adapted(pool: ShardPool, sources: Sources, before: Gmm, ali_dir: Path, cfg: SatConfig) -> None:
    """First transforms: from the model that made the alignment; if it was adapted, from its transforms beside the alignment."""
    import numpy as np

    from kdtool.formats.transforms import TRANSFORMS_FILE, load_transforms
    from kdtool.gmm.trainer import say

    if before.front.adapted:
        pool.call("set_transforms", load_transforms([ali_dir / TRANSFORMS_FILE]))
    used = (sources.alignments.get(u).pdf for u in sources.ids if u in sources.alignments)
    occupancy = sum((np.bincount(pdf, minlength=before.tree.num_pdfs) for pdf in used), np.zeros(before.tree.num_pdfs))
    gain = adapt(pool, before.model, occupancy, before.silence, cfg)["fmllr"]
    say(f"SAT: first transforms gain {gain:.3f} nats per frame")


def adaptation(model: DiagGmm, occupancy: np.ndarray, cfg: SatConfig) -> Adaptation:
    """The settings with the prior of this model."""
    from kdtool.gmm.fmllr import Adaptation, expected

    return Adaptation(expected(model, occupancy), cfg.prior_frames, cfg.silence_weight)


def adapt(pool: ShardPool, model: DiagGmm, occupancy: np.ndarray, silence: np.ndarray, cfg: SatConfig) -> dict[str, float]:
    """New transforms of all speakers on the shards' alignment; the gain over the identity in nats per frame."""
    parts = pool.call("adapt", model, silence, adaptation(model, occupancy, cfg))
    return {"fmllr": sum(gain for gain, _ in parts) / max(1.0, sum(frames for _, frames in parts))}


def unadapted_twin(pool: ShardPool, model: DiagGmm) -> DiagGmm:
    """The same Gaussians on unadapted features: one EM step with the shares from adapted features."""
    from kdtool.gmm.em import VARIANCE_FLOOR, Stats, reestimate
    from kdtool.gmm.trainer import gather_moments

    stats = Stats.zeros(model.num_gaussians, model.dim)
    for part in pool.call("accumulate_raw", model):
        stats.add(part)
    return reestimate(model, stats, VARIANCE_FLOOR * gather_moments(pool)[1], drop=False)


def main(argv: Sequence[str] | None = None) -> None:
    paths, cfg, common = parse_args(
        SatConfig,
        [
            ("feats", "MFCC feature folder"),
            ("lang", "lang folder"),
            ("ali", "alignment folder of these features"),
            ("gmm", "GMM folder that made the alignment"),
            ("out", "GMM folder to make"),
        ],
        argv,
        prog="steps/train_sat.sh",
        description="Train a triphone GMM on speaker-adapted features (fMLLR).",
    )
    run(paths, cfg, common)


def run(paths: dict[str, Any], cfg: SatConfig, common: Common) -> None:
    run_step(
        "train_sat",
        out=paths["out"],
        inputs={"features": paths["feats"], "lang": paths["lang"], "alignment": paths["ali"], "gmm": paths["gmm"]},
        options=cfg,
        code=("kdtool.gmm.train_sat",),
        body=lambda work: train_sat(paths, work, cfg, common.nj),
        common=common,
        doors=[
            door("features", paths["feats"]), door("lang", paths["lang"]), door("ali", paths["ali"], feats=paths["feats"]),
            door("model", paths["gmm"]),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(lambda: main(sys.argv[1:]))
