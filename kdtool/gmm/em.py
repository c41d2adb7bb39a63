"""Expectation maximisation of Gaussians for frames with known pdfs (Viterbi training).

In: frames with their pdf, a model. Out: float64 statistics; from their sum a better model, with more Gaussians if asked for.
"""

import heapq
import operator
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from kdtool.gmm.model import DiagGmm, expand

MIN_OCCUPANCY = 10.0  # frames below which a Gaussian is dropped, as in Kaldi's gmm-est (which also drops one of exactly 10)
PERTURB = 0.01  # standard deviations that the halves of a split Gaussian are moved apart
VARIANCE_FLOOR = 0.01  # smallest variance of a Gaussian, as a share of the data's variance


class Sums:
    """Statistics that add up field by field; a subclass is a dataclass of numbers and arrays."""

    def add(self, other: Any) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            setattr(self, f.name, operator.iadd(getattr(self, f.name), getattr(other, f.name)))


@dataclass
class Moments(Sums):
    """frames; first, second (D,): sums of x and x^2, float64."""

    frames: int
    first: np.ndarray
    second: np.ndarray


@dataclass
class Stats(Sums):
    """Sums over frames, all float64: gamma (G,) occupancies, moments (G, 2 D) of [x^2, x]; log-likelihood and frames."""

    gamma: np.ndarray
    moments: np.ndarray
    loglike: float
    frames: int

    @classmethod
    def zeros(cls, num_gaussians: int, dim: int) -> "Stats":
        return cls(np.zeros(num_gaussians), np.zeros((num_gaussians, 2 * dim)), 0.0, 0)


def posteriors(model: DiagGmm, feats: np.ndarray, pdf: np.ndarray) -> Iterator[tuple[np.ndarray, slice, np.ndarray, float]]:
    """Share of each Gaussian of its pdf in each frame, pdf by pdf.

    feats (T, D), pdf (T,), T may be 0. Yields the pdf's frames (n,), its Gaussians (k of them), shares float32 (n, k), and the frames'
    log-likelihood in total.
    """
    if not len(pdf):  # an utterance may be all noise, which some statistics leave out
        return
    order = np.argsort(pdf, kind="stable")
    x = expand(feats[order])
    pdfs, starts = np.unique(pdf[order], return_index=True)
    for j, start, stop in zip(pdfs.tolist(), starts.tolist(), [*starts[1:].tolist(), len(pdf)], strict=True):
        rows = slice(int(model.offsets[j]), int(model.offsets[j + 1]))
        log_joint = x[start:stop] @ model.quadratic[:, rows]
        top = log_joint.max(axis=1, keepdims=True)
        post = np.exp(log_joint - top)
        total = post.sum(axis=1, keepdims=True)
        post /= total
        loglike = float(top.sum(dtype=np.float64) + np.log(total).sum(dtype=np.float64))
        yield order[start:stop], rows, post, loglike


def accumulate(model: DiagGmm, feats: np.ndarray, pdf: np.ndarray, stats: Stats, other: np.ndarray | None = None) -> None:
    """Add the statistics of frames `feats` (T, D), aligned to `pdf` (T,), to `stats`.

    other (T, D): another view of the same frames, whose moments are taken instead; the shares still come from `feats`.
    """
    x = expand(feats if other is None else other)[:, :-1]
    for frames, rows, post, loglike in posteriors(model, feats, pdf):
        stats.loglike += loglike
        stats.gamma[rows] += post.sum(axis=0, dtype=np.float64)
        part = x[frames]
        # Blocks of some thousand frames: float32 products, float64 sums.
        for a in range(0, len(frames), 4096):
            stats.moments[rows] += post[a : a + 4096].T @ part[a : a + 4096]
    stats.frames += len(pdf)


def mean_variance(count: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances (..., D) from counts (...) and sums of [x^2, x] (..., 2 D); 0 without frames."""
    dim = moments.shape[-1] // 2
    n = np.maximum(count, 1e-10)[..., None]
    mean = moments[..., dim:] / n
    return mean, moments[..., :dim] / n - mean**2


def single_gaussians(stats: Stats, floor: np.ndarray, fallback: tuple[np.ndarray, np.ndarray], tree_digest: str) -> DiagGmm:
    """One Gaussian per pdf from per-pdf statistics; pdfs with hardly any frames get the fallback (mean, variance)."""
    seen = (stats.gamma >= MIN_OCCUPANCY)[:, None]
    mean, var = (np.where(seen, own, other) for own, other in zip(mean_variance(stats.gamma, stats.moments), fallback, strict=True))
    count = len(stats.gamma)
    return DiagGmm(mean, np.maximum(var, floor), np.ones(count), np.arange(count + 1), tree_digest)


def reestimate(model: DiagGmm, stats: Stats, floor: np.ndarray, *, drop: bool = True) -> DiagGmm:
    """The M-step. floor: smallest variance (D,). `drop` removes Gaussians below MIN_OCCUPANCY frames; one per pdf always stays."""
    owner = np.repeat(np.arange(model.num_pdfs), np.diff(model.offsets))
    keep = (stats.gamma >= MIN_OCCUPANCY) | (not drop)
    best = np.full(model.num_pdfs, -1.0)
    np.maximum.at(best, owner, stats.gamma)
    starving = best < MIN_OCCUPANCY
    first = np.zeros(model.num_gaussians, bool)
    first[model.offsets[:-1]] = True
    keep |= first & starving[owner]
    enough = (stats.gamma >= MIN_OCCUPANCY)[:, None]
    mean, var = mean_variance(stats.gamma, stats.moments)
    mean, var = np.where(enough, mean, model.means), np.where(enough, np.maximum(var, floor), model.variances)
    occupancy = np.where(enough[:, 0], stats.gamma, 1.0)[keep]
    total = np.bincount(owner[keep], weights=occupancy, minlength=model.num_pdfs)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=model.num_pdfs))])
    return DiagGmm(mean[keep], var[keep], occupancy / total[owner[keep]], offsets, model.tree_digest)


def pdf_occupancies(model: DiagGmm, stats: Stats) -> np.ndarray:
    """Frames aligned to each pdf, float64 (num_pdfs,); `stats` belongs to `model`."""
    return np.add.reduceat(stats.gamma, model.offsets[:-1])


def split_targets(occupancy: np.ndarray, total: int, power: float, min_count: float) -> np.ndarray:
    """The number of Gaussians of each pdf for a sum of `total`, by occupancy ** power, as Kaldi's GetSplitTargets.

    A pdf gets another Gaussian only while it has `min_count` frames for each (Kaldi: more than that).
    """
    targets = np.ones(len(occupancy), np.int64)
    heap = [(-(occ**power), j) for j, occ in enumerate(occupancy) if occ > 0]
    heapq.heapify(heap)
    left = total - len(targets)
    while left > 0 and heap:
        _, j = heapq.heappop(heap)
        if occupancy[j] < (targets[j] + 1) * min_count:
            continue
        targets[j] += 1
        left -= 1
        heapq.heappush(heap, (-(occupancy[j] ** power) / targets[j], j))
    return targets


def mix_up(model: DiagGmm, occupancy: np.ndarray, total: int, *, power: float, min_count: float, rng: np.random.Generator) -> DiagGmm:
    """Split the heaviest Gaussians until there are about `total`; the halves are shifted in a random direction."""
    targets = split_targets(occupancy, total, power, min_count)
    means, variances, weights, offsets = [], [], [], [0]
    for j in range(model.num_pdfs):
        rows = slice(int(model.offsets[j]), int(model.offsets[j + 1]))
        mean, var, weight = list(model.means[rows]), list(model.variances[rows]), list(model.weights[rows])
        while len(mean) < targets[j]:
            k = int(np.argmax(weight))
            shift = PERTURB * rng.standard_normal(model.dim) * np.sqrt(var[k])
            weight[k] /= 2
            weight.append(weight[k])
            mean.append(mean[k] - shift)
            mean[k] = mean[k] + shift
            var.append(var[k])
        means += mean
        variances += var
        weights += weight
        offsets.append(len(means))
    return DiagGmm(np.stack(means), np.stack(variances), np.array(weights), np.array(offsets), model.tree_digest)
