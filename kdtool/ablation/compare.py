"""Means over seeds, their intervals, and differences of systems, by a bootstrap over utterances and seeds.

In: errors of each system, seed and utterance.  Out: percentages, 95% percentile intervals, p-values, as ablation.json has them.

A resample draws utterances with replacement, the same ones for all systems and seeds, so that what is hard for all cancels out. Its value
is the mean over the S seeds plus the seeds' own spread: a draw of Student's t with S - 1 degrees of freedom times the standard error of
the mean, from the seeds' variance beyond what redrawn utterances explain (method of moments, at least 0). Drawing seeds with replacement
as well would count the chance of the utterances three times (Owen 2007, The pigeonhole bootstrap). Simulated 600 times with 60 utterances
of 30 words and three seeds (in brackets: drawing seeds as well; utterances alone): equal systems differed at p < 0.05 in 3% to 5% of the
trials (1%; 6%), and in 7% to 9% with seeds that differ by 2 points (3%; 20%); a system with a tenth fewer errors was found in 36% to 38%
(17% to 19%; 53%).

Systems with the same seeds are paired by seed: it fixes the order of the data, the masks and the first weights. With one seed the spread
between seeds is unknown, and none is added.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdtool.ablation.students import KEY, Results, Students
from kdtool.core.errors import KdError
from kdtool.decode.bootstrap import RESAMPLES, SEED, drawn_rates, percentiles


@dataclass(frozen=True)
class Rate:
    """Mean of the seeds' error rates, its 95% interval, and the seeds' standard deviation (0 with one seed), in percent.

    ``within``: standard deviation of one seed's rate over redrawn utterances; ``between``: that of the seeds beyond it.
    """

    mean: float
    low: float
    high: float
    deviation: float
    within: float
    between: float


@dataclass(frozen=True)
class Versus:
    """System minus reference in points, its 95% interval; the same in percent of the reference; two-sided p-value."""

    delta: float
    low: float
    high: float
    relative: float
    p: float


class Comparison:
    """All systems on one set and one graph."""

    def __init__(
        self, errors: Mapping[str, np.ndarray], seeds: Mapping[str, Sequence[int]], words: np.ndarray, *, resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> None:  # fmt: skip
        """``errors``: system -> (S, U); ``seeds``: system -> the S seeds' numbers, rising; ``words``: (U,) reference words."""
        for name, table in errors.items():
            if table.shape != (len(seeds[name]), len(words)) or not table.size or words.sum() <= 0:
                raise KdError(f"{name}: errors of {table.shape}, {len(seeds[name])} seeds, {len(words)} utterances with {words.sum()} "
                              "words; decode again")  # fmt: skip
        self.resamples, self.seeds = resamples, {name: list(seeds[name]) for name in errors}
        rates, ends = drawn_rates(np.concatenate([*errors.values()]).T, words, resamples, seed), np.cumsum([*map(len, errors.values())])
        self.drawn = dict(zip(errors, np.split(rates, ends[:-1], axis=1), strict=True))  # (resamples, S)
        self.each = {name: 100.0 * table.sum(axis=1) / words.sum() for name, table in errors.items()}  # (S,)
        self.t = {name: seed_draws(numbers, resamples, seed) for name, numbers in self.seeds.items()}

    def rate(self, name: str) -> Rate:
        """One system's error rate."""
        each = self.each[name]
        low, high = percentiles(self._values(name))
        low = max(0.0, low)  # where seeds differ widely, Student's t reaches below
        deviation = float(each.std(ddof=1)) if len(each) > 1 else 0.0
        within, _, between = variances(self.drawn[name], each)
        return Rate(float(each.mean()), low, high, deviation, within**0.5, max(0.0, between) ** 0.5)

    def _values(self, name: str) -> np.ndarray:
        return spread(self.drawn[name], self.each[name], self.t[name])

    def versus(self, name: str, reference: str) -> Versus:
        """A system against another; p is twice the smaller of the shares of resamples with a difference <= 0 and >= 0.

        p is at most 1, and at least 1 / resamples, the smallest that a bootstrap can measure.
        """
        mean, base = self.each[name].mean(), self.each[reference].mean()
        if self.seeds[name] == self.seeds[reference]:
            sign = 1.0 if name < reference else -1.0  # the other way round it is the same difference, with its sign
            each = sign * (self.each[name] - self.each[reference])
            delta = sign * spread(sign * (self.drawn[name] - self.drawn[reference]), each, self.t[name])
        else:
            delta = self._values(name) - self._values(reference)
        delta[np.abs(delta) < 1e-9] = 0.0  # rounding is no difference
        p = 2.0 * min(float((delta <= 0).mean()), float((delta >= 0).mean()))
        relative = 100.0 * (mean - base) / base if base else 0.0
        return Versus(float(mean - base), *percentiles(delta), float(relative), min(1.0, max(p, 1.0 / self.resamples)))

    def detectable(self, pairs: Sequence[tuple[str, str]]) -> float | None:
        """The smallest difference in points that these comparisons find (p < 0.05) in 80% of trials; None without a pair of equal seeds.

        The variances are means over the pairs with the most seeds.
        """
        paired = [(a, b) for a, b in pairs if self.seeds[a] == self.seeds[b]]
        most = max((len(self.seeds[a]) for a, _ in paired), default=0)
        drawn = [(self.drawn[a] - self.drawn[b], self.each[a] - self.each[b]) for a, b in paired if len(self.seeds[a]) == most]
        if not drawn:
            return None
        mean, luck, between = np.array([(d.mean(axis=1).var(), *variances(d, each)[1:]) for d, each in drawn]).mean(axis=0).tolist()
        return smallest_found(mean, luck, between, most)


def smallest_found(mean: float, luck: float, between: float, seeds: int, *, trials: int = 20_000, power: float = 0.8) -> float:
    """The true difference that is significant in a share ``power`` of trials, by simulation of what `Comparison.versus` does.

    A trial's estimate is the difference plus normal noise of variance mean + between / seeds. It is significant if it is further from 0
    than the 97.5% quantile of (normal noise of variance mean) + sqrt(estimated between / seeds) * (Student's t, seeds - 1 degrees).
    With few seeds the estimate of ``between`` varies much: (between + luck) * (chi square, seeds - 1 degrees) / (seeds - 1) - luck, at
    least 0. A trial finds all differences above that quantile less its noise, so the answer is a quantile of these. 400 trials at the
    answer found 78% (one seed), 83% (three), 79% and 78% (three and five seeds that differ by 2 points).

    Args:
        mean, luck: variances over redrawn utterances: of the mean over the seeds, and of a seed around it.
        between: variance between seeds beyond that; less than 0 counts as 0.
    """
    rng, between = np.random.default_rng(SEED), max(0.0, between)
    normal, noise = rng.standard_normal((2, trials))
    if seeds == 1:
        threshold = np.full(trials, 1.96 * mean**0.5)
    else:
        degrees = seeds - 1
        t = rng.standard_t(degrees, trials)
        estimates = np.maximum(0.0, (between + luck) * rng.chisquare(degrees, trials) / degrees - luck) / seeds
        grid = np.linspace(0.0, estimates.max() ** 0.5, 50)
        threshold = np.interp(estimates**0.5, grid, [np.quantile(np.abs(mean**0.5 * normal + scale * t), 0.95) for scale in grid])
    return float(np.quantile(threshold - (mean + between / seeds) ** 0.5 * noise, power))


def holm(p: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Holm's step-down correction (1979): the k-th smallest of n p-values times n - k + 1, none less than those before it, at most 1.

    If all comparisons below a level are called significant, the chance of a false one among all n is at most that level.
    """
    corrected: dict[Hashable, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p, key=lambda n: p[n])):
        highest = corrected[name] = min(1.0, max(highest, (len(p) - rank) * p[name]))
    return corrected


def variances(drawn: np.ndarray, each: np.ndarray) -> tuple[float, float, float]:
    """Variances of seeds' values, in squared points: of one seed over redrawn utterances, of a seed around the seeds' mean there, and
    between the seeds beyond that (method of moments; may come out below 0). With one seed the last two are 0.

    drawn: (resamples, S); each: (S,), the values without redrawing.
    """
    within, degrees = float(drawn.var(axis=0).mean()), len(each) - 1
    if not degrees:
        return within, 0.0, 0.0
    luck = float((drawn - drawn.mean(axis=1)[:, None]).var(axis=0).sum()) / degrees
    return within, luck, float(each.var(ddof=1)) - luck


def spread(drawn: np.ndarray, each: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Means over seeds with the seeds' own spread, (resamples,); drawn, each: as in ``variances``; t: (resamples,) of Student's t."""
    between = max(0.0, variances(drawn, each)[2])
    return np.asarray(drawn.mean(axis=1) + np.sqrt(between / len(each)) * t)


def seed_draws(seeds: Sequence[int], resamples: int, seed: int) -> np.ndarray:
    """Draws of Student's t with S - 1 degrees of freedom, float64 (resamples,); the same for the same seeds."""
    if len(seeds) == 1:
        return np.zeros(resamples)
    return np.random.default_rng([seed, *map(int, seeds)]).standard_t(len(seeds) - 1, resamples)


def compare(students: Students, results: Results) -> list[dict[str, Any]]:
    """Add means, intervals and comparisons to all results, one set and graph after the other; returns ``detectable``."""
    systems = {s["name"]: s for s in students.plan["systems"]}
    tables: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for name, result in ((name, result) for name, every in results.items() for result in every):
        runs = result["runs"]
        result |= {k: round(sum(run[k] for run in runs) / len(runs), 3) for k in ("sub", "ins", "del", "failed")}
        tables.setdefault(tuple(result[k] for k in KEY), {})[name] = result
    designs = []
    for key, table in sorted(tables.items()):
        errors = {name: np.array([[*map(int, run["errors"].split())] for run in r["runs"]]) for name, r in table.items()}
        seeds = {name: [run["seed"] for run in r["runs"]] for name, r in table.items()}
        comparison = Comparison(errors, seeds, np.array(students.scored[key[0], next(iter(table.values()))["rate"]][2]))
        for name, result in table.items():
            numbers = {k: round(v, 3) for k, v in vars(comparison.rate(name)).items()}
            result |= {"ci95": [numbers.pop("low"), numbers.pop("high")], **numbers, "versus": {}}
            for reference in (r for r in systems[name]["references"] if r != name and r in table):
                v = comparison.versus(name, reference)
                more = {"p": round(v.p, 5), "seeds": len(seeds[reference])}
                result["versus"][reference] = {**{k: round(x, 3) for k, x in vars(v).items()}, **more}
        for setting in dict.fromkeys(systems[name]["setting"] for name in table):
            pairs = correct({name: r["versus"] for name, r in table.items() if systems[name]["setting"] == setting})
            points = comparison.detectable(pairs)
            place = dict(zip(KEY, key, strict=True))
            designs.append({**place, "setting": setting, "points": None if points is None else round(points, 3)})
    return designs


def correct(table: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Add ``holm`` to the comparisons of one table; returns its pairs. Two systems that are compared in both directions are one pair."""
    pairs = {frozenset((name, reference)): (name, reference) for name, versus in table.items() for reference in versus}
    corrected = holm({pair: table[name][reference]["p"] for pair, (name, reference) in pairs.items()})
    for name, versus in table.items():
        for reference, v in versus.items():
            v["holm"] = round(corrected[frozenset((name, reference))], 5)
    return [*pairs.values()]
