"""Step: speaker-adaptive training (SAT): a triphone GMM on features that each speaker's fMLLR transform maps.

In: a feature folder, a lang folder, an alignment of these features and the GMM that made it. Out: a GMM folder (see ``kdtool.gmm.folder``),
questions.txt and dropped.tsv.

The transforms are re-estimated during training. At the end the same Gaussians are estimated on the unadapted features, too: the
model of the first pass, when a speaker's transform is not known yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError
from kdtool.core.main import GMM, step_main
from kdtool.formats.transforms import TRANSFORMS_FILE, load_transforms
from kdtool.gmm.em import VARIANCE_FLOOR, reestimate
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.fmllr import Adaptation, expected
from kdtool.gmm.folder import Gmm, check_fits, open_gmm
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool
from kdtool.gmm.trainer import Trained, gather_moments, say
from kdtool.gmm.triphone import INPUTS, Method, Sources, TriphoneConfig, open_sources, train_triphone


@dataclass(frozen=True)
class SatConfig(TriphoneConfig):
    """Options of the speaker-adaptive training."""

    fmllr: list[int] = field(default_factory=lambda: [2, 4, 6, 12], metadata={"help": "iterations that start with new fMLLR transforms"})
    silence_weight: float = field(default=0.0, metadata={"help": "weight of silence frames in estimating transforms"})
    prior_frames: float = field(
        default=200.0, metadata={"help": "prior of the transform in frames, towards the identity; also used in aligning and decoding"}
    )


class Adapted(Method):
    """The speakers' transforms, estimated before training and during it."""

    def __init__(self, pool: ShardPool, sources: Sources, front: FrontEnd, before: Gmm, cfg: SatConfig) -> None:
        """First transforms: from the model `before`, which made the alignment; if it was adapted, from those beside the alignment."""
        super().__init__(pool, sources, replace(front, adapted=True))
        self.cfg = cfg
        if before.front.adapted:
            pool.call("set_transforms", load_transforms([sources.alignments.folder / TRANSFORMS_FILE]))
        used = (sources.alignments.get(u).pdf for u in sources.ids if u in sources.alignments)
        occupancy = sum((np.bincount(pdf, minlength=before.tree.num_pdfs) for pdf in used), np.zeros(before.tree.num_pdfs))
        say(f"SAT: first transforms gain {self.adapt(before.model, occupancy, before.silence):.3f} nats per frame")

    def settings(self, model: DiagGmm, occupancy: np.ndarray) -> Adaptation:
        """With the prior of this model."""
        return Adaptation(expected(model, occupancy), self.cfg.prior_frames, self.cfg.silence_weight)

    def adapt(self, model: DiagGmm, occupancy: np.ndarray, silence: np.ndarray) -> float:
        """New transforms of all speakers on the shards' alignment; the gain over the identity in nats per frame."""
        parts = self.pool.call("adapt", model, silence, self.settings(model, occupancy))
        return float(sum(gain for gain, _ in parts) / max(1.0, sum(frames for _, frames in parts)))

    def refine(self, it: int, model: DiagGmm, occupancy: np.ndarray, silence: np.ndarray) -> tuple[DiagGmm, dict[str, float]] | None:
        return (model, {"fmllr": self.adapt(model, occupancy, silence)}) if it in self.cfg.fmllr else None

    def adapted(self, made: Trained) -> dict[str, Any]:
        """The same Gaussians on unadapted features: one EM step with the shares from adapted features; and the settings."""
        stats, floor = self.pool.total("accumulate", made.model, True), VARIANCE_FLOOR * gather_moments(self.pool)[1]
        return {"first": reestimate(made.model, stats, floor, drop=False), "adaptation": self.settings(made.model, made.occupancy)}


def train_sat(paths: dict[str, Path], work: Path, cfg: SatConfig, nj: int) -> None:
    """Transforms, tree, training; the GMM folder goes into `work`. paths: feats, lang, ali, gmm."""
    sources, before = open_sources(paths), open_gmm(paths["gmm"])
    check_fits(paths["gmm"], before, sources.lang, sources.features)
    made_with = str(sources.alignments.meta.get("tree_digest"))
    if made_with != before.tree.digest:
        raise KdError(f"{paths['ali']} was made with tree {made_with[:12]}, {paths['gmm']} has tree {before.tree.digest[:12]}: "
                      "give the GMM that made the alignment")  # fmt: skip
    train_triphone(
        sources, before.front, cfg, work, nj, step="train_sat", label="SAT", by_speaker=True,
        method=partial(Adapted, before=before, cfg=cfg),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    step_main(
        "train_sat", SatConfig, {**INPUTS, "gmm": GMM.called("GMM folder that made the alignment")}, "GMM folder to make", train_sat, argv,
        code="kdtool.gmm.train_sat", description="Train a triphone GMM on speaker-adapted features (fMLLR).",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
