"""The training loop that all GMMs share.

In: a pool of shards with a first alignment, a first model, a step's options. Out: the trained model and its history.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.dropped import account
from kdtool.core.errors import KdError
from kdtool.core.progress import clock
from kdtool.formats.system import GMM, System
from kdtool.formats.tree import Tree
from kdtool.gmm.em import VARIANCE_FLOOR, mix_up, pdf_occupancies, reestimate
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import save_gmm, silence_pdfs
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool
from kdtool.lang.lang import Lang

NUM_SHARDS = 16  # most useful processes; sums are taken per shard, so another number changes the last digits


# Called before an iteration's E-step with its number (from 1), the model, frames per pdf and which pdfs are silence; changes
# the features and returns the model that fits them and its gains, or None if it did nothing.
Refine = Callable[[int, DiagGmm, np.ndarray, np.ndarray], "tuple[DiagGmm, dict[str, float]] | None"]
Lost = list[tuple[str, str]]  # (utterance, reason)


@dataclass
class Trained:
    """A trained model; occupancy (num_pdfs,): frames per pdf; history: a record per iteration (log-likelihood per frame in nats, Gaussians,
    frames changed); lost: failed utterances; kept: number of utterances that the shards still have."""

    model: DiagGmm
    tree: Tree
    occupancy: np.ndarray
    history: list[dict[str, Any]]
    lost: Lost
    kept: int

    def save(self, work: Path, step: str, lang: Lang, front: FrontEnd, cfg: Any, total: int, lost: Lost, **adapted: Any) -> None:
        """Write the GMM folder and account for the `total` utterances, of which `lost` never came into the training.

        cfg: the step's options; adapted: as for save_gmm.
        """
        save_gmm(work, self.model, self.tree, lang, front, self.history, **adapted)
        System(GMM, cfg.seed, step).write(work)
        account(total, self.kept, lost + self.lost, max_share=cfg.max_dropped, where=step, work=work)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def gather_moments(pool: ShardPool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of all frames, float64 (D,)."""
    sums = pool.total("moments")
    if not sums.frames:
        raise KdError("no utterance is left to train on; see the reasons above")
    mean = sums.first / sums.frames
    return mean, sums.second / sums.frames - mean**2


def set_tree(pool: ShardPool, tree: Tree) -> tuple[Lost, int]:
    """Shard.set_tree of all shards: utterances dropped, unknown words in total."""
    parts = pool.call("set_tree", tree)
    return [item for part in parts for item in part[0]], sum(part[1] for part in parts)


def realign(pool: ShardPool, model: DiagGmm) -> dict[str, Any]:
    """Viterbi on all shards: share of frames changed, mean log-likelihood, failed utterances."""
    parts = pool.call("realign", model)
    frames = sum(p[1] for p in parts)
    if frames == 0:
        raise KdError("realignment lost every utterance; the model or the transcripts do not fit the audio")
    lost = [item for p in parts for item in p[3]]
    return {"changed": sum(p[0] for p in parts) / frames, "viterbi_loglike": sum(p[2] for p in parts) / frames, "lost": lost}


def train(
    pool: ShardPool, model: DiagGmm, tree: Tree, lang: Lang, occupancy: np.ndarray, cfg: Any, label: str,
    short: Lost, refine: Refine | None = None,
) -> Trained:  # fmt: skip
    """Run the schedule of a step's options `cfg`. occupancy: initial frames per pdf; short: utterances that the shards have dropped before.

    Gaussians grow evenly to cfg.gaussians until cfg.grow_until. The factor cfg.boost_silence is on the likelihoods of the silence phone in
    realignments, not on those of noise, which replaces words.
    """
    rng = np.random.default_rng(cfg.seed)
    silence = silence_pdfs(tree, lang)
    floor = VARIANCE_FLOOR * gather_moments(pool)[1]
    start_count = model.num_gaussians
    history: list[dict[str, Any]] = []
    lost = list(short)
    begun = time.monotonic()
    for it in range(1, cfg.iterations + 1):
        record: dict[str, Any] = {"iteration": it}
        if it in cfg.realign:
            result = realign(pool, model.boosted(silence.pause, cfg.boost_silence))
            lost += result.pop("lost")
            record.update(result)
        if refine and (refined := refine(it, model, occupancy, silence.all)):
            model, gains = refined
            record.update(gains)
            floor = VARIANCE_FLOOR * gather_moments(pool)[1]
        stats = pool.total("accumulate", model)
        record.update(loglike=stats.loglike / stats.frames, frames=stats.frames)
        occupancy = pdf_occupancies(model, stats)
        model = reestimate(model, stats, floor)
        if it <= cfg.grow_until:
            target = start_count + round((cfg.gaussians - start_count) * it / cfg.grow_until)
            if target > model.num_gaussians:
                model = mix_up(model, occupancy, target, power=cfg.power, min_count=20.0, rng=rng)
        record["gaussians"] = model.num_gaussians
        history.append(record)
        report(label, record, cfg.iterations, time.monotonic() - begun)
    return Trained(model, tree, occupancy, history, lost, sum(pool.call("count")))


def report(label: str, record: dict[str, Any], iterations: int, spent: float) -> None:
    """Print one line per iteration."""
    it = record["iteration"]
    changed = f", {record['changed']:.1%} of frames changed" if "changed" in record else ""
    changed += "".join(f", {name} gains {record[name]:.3f}" for name in ("mllt", "fmllr") if name in record)
    say(f"{label}: iteration {it}/{iterations}, log-likelihood per frame {record['loglike']:.3f}, "
        f"{record['gaussians']} Gaussians{changed}; {clock(spent)} spent, "
        f"about {clock(spent / it * (iterations - it))} left")  # fmt: skip
