"""The training loop that all GMMs share.

In: a pool of shards with a first alignment, a first model, a schedule. Out: the trained model and its history.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.progress import clock
from kdtool.gmm.em import VARIANCE_FLOOR, Stats, mix_up, pdf_occupancies, reestimate
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.pool import ShardPool

NUM_SHARDS = 16  # most useful processes; sums are taken per shard, so another number changes the last digits


# Called before an iteration's E-step with its number (from 1), the model, frames per pdf and which pdfs are silence; changes
# the features and returns the model that fits them and its gains, or None if it did nothing.
Refine = Callable[[int, DiagGmm, np.ndarray, np.ndarray], "tuple[DiagGmm, dict[str, float]] | None"]


@dataclass(frozen=True)
class Schedule:
    """iterations; those (1-based) that start with a realignment; Gaussians grow evenly to `gaussians` until `grow_until`.

    boost_silence: factor on the likelihoods of the silence phone in realignments (not of noise, which replaces words).
    """

    iterations: int
    realign: tuple[int, ...]
    gaussians: int
    grow_until: int
    power: float
    seed: int
    boost_silence: float = 1.0


class Silence(NamedTuple):
    """Bool (num_pdfs,) each: pdfs of all silence phones, and those of the optional one between words."""

    all: np.ndarray
    pause: np.ndarray


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def gather_moments(pool: ShardPool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of all frames, float64 (D,)."""
    parts = [p for p in pool.call("moments") if p[0]]
    if not parts:
        raise KdError("no utterance is left to train on; see the reasons above")
    frames = sum(p[0] for p in parts)
    mean = sum(p[1] for p in parts) / frames
    return mean, sum(p[2] for p in parts) / frames - mean**2


def e_step(pool: ShardPool, model: DiagGmm) -> Stats:
    """Statistics of all shards, summed in the order of the shards."""
    stats = Stats.zeros(model.num_gaussians, model.dim)
    for part in pool.call("accumulate", model):
        stats.add(part)
    return stats


def realign(pool: ShardPool, model: DiagGmm) -> dict[str, Any]:
    """Viterbi on all shards: share of frames changed, mean log-likelihood, failed utterances."""
    parts = pool.call("realign", model)
    frames = sum(p[1] for p in parts)
    if frames == 0:
        raise KdError("realignment lost every utterance; the model or the transcripts do not fit the audio")
    lost = [item for p in parts for item in p[3]]
    return {"changed": sum(p[0] for p in parts) / frames, "viterbi_loglike": sum(p[2] for p in parts) / frames, "lost": lost}


def train(
    pool: ShardPool, model: DiagGmm, occupancy: np.ndarray, silence: Silence, plan: Schedule, label: str, refine: Refine | None = None
) -> tuple[DiagGmm, np.ndarray, list[dict[str, Any]], list[tuple[str, str]]]:
    """Run the schedule. occupancy: initial frames per pdf.

    Returns the model, the pdfs' frames, one record per iteration (log-likelihood per frame in nats, Gaussians, frames changed),
    failed utterances.
    """
    rng = np.random.default_rng(plan.seed)
    floor = VARIANCE_FLOOR * gather_moments(pool)[1]
    start_count = model.num_gaussians
    history: list[dict[str, Any]] = []
    lost: list[tuple[str, str]] = []
    begun = time.monotonic()
    for it in range(1, plan.iterations + 1):
        record: dict[str, Any] = {"iteration": it}
        if it in plan.realign:
            result = realign(pool, model.boosted(silence.pause, plan.boost_silence))
            lost += result.pop("lost")
            record.update(result)
        if refine and (refined := refine(it, model, occupancy, silence.all)):
            model, gains = refined
            record.update(gains)
            floor = VARIANCE_FLOOR * gather_moments(pool)[1]
        stats = e_step(pool, model)
        record.update(loglike=stats.loglike / stats.frames, frames=stats.frames)
        occupancy = pdf_occupancies(model, stats)
        model = reestimate(model, stats, floor)
        if it <= plan.grow_until:
            target = start_count + round((plan.gaussians - start_count) * it / plan.grow_until)
            if target > model.num_gaussians:
                model = mix_up(model, occupancy, target, power=plan.power, min_count=20.0, rng=rng)
        record["gaussians"] = model.num_gaussians
        history.append(record)
        report(label, record, plan.iterations, time.monotonic() - begun)
    return model, occupancy, history, lost


def report(label: str, record: dict[str, Any], iterations: int, spent: float) -> None:
    """Print one line per iteration."""
    it = record["iteration"]
    changed = f", {record['changed']:.1%} of frames changed" if "changed" in record else ""
    changed += "".join(f", {name} gains {record[name]:.3f}" for name in ("mllt", "fmllr") if name in record)
    say(f"{label}: iteration {it}/{iterations}, log-likelihood per frame {record['loglike']:.3f}, "
        f"{record['gaussians']} Gaussians{changed}; {clock(spent)} spent, "
        f"about {clock(spent / it * (iterations - it))} left")  # fmt: skip
