"""What the systems of an ablation differ by.

In: the errors of each system, seed and utterance.  Out: means, intervals, comparisons with raw and corrected p-values, and what the
design can find, as ablation.json has them (kdtool.ablation.collect).
"""

from __future__ import annotations

from typing import Any

from kdtool.ablation.earlier import Scored


def compare(plan: dict[str, Any], results: dict[str, list[dict[str, Any]]], scored: Scored) -> list[dict[str, Any]]:
    """Add means, intervals and comparisons to all results, one set and graph after the other; returns ``detectable``."""
    designs = []
    for result in (r for own in results.values() for r in own):
        runs = result["runs"]
        result |= {k: round(sum(run[k] for run in runs) / len(runs), 3) for k in ("sub", "ins", "del", "failed")}
    references = {s["name"]: s["references"] for s in plan["systems"]}
    settings = {s["name"]: s["setting"] for s in plan["systems"]}
    places = sorted({(r["set"], r["lm"], r["first_pass_lm"]) for own in results.values() for r in own})
    for key in places:
        here = {name: r for name, own in results.items() for r in own if (r["set"], r["lm"], r["first_pass_lm"]) == key}
        comparison = comparison_of(here, scored)
        for name, result in here.items():
            rate = comparison.rate(name)
            interval = [round(rate.low, 3), round(rate.high, 3)]
            spread = {"deviation": rate.deviation, "within": rate.within, "between": rate.between}
            result |= {"mean": round(rate.mean, 3), "ci95": interval, **{k: round(x, 3) for k, x in spread.items()}, "versus": {}}
            for reference in (r for r in references[name] if r != name and r in here):
                v = comparison.versus(name, reference)
                numbers = {"delta": v.delta, "low": v.low, "high": v.high, "relative": v.relative}
                seeds = {"seeds": len(here[reference]["runs"])}
                result["versus"][reference] = {**{k: round(x, 3) for k, x in numbers.items()}, "p": round(v.p, 5), **seeds}
        for setting in dict.fromkeys(settings[name] for name in here):
            table = {name: result["versus"] for name, result in here.items() if settings[name] == setting}
            points = comparison.detectable(correct(table))
            place = dict(zip(("set", "lm", "first_pass_lm"), key, strict=True))
            designs.append({**place, "setting": setting, "points": None if points is None else round(points, 3)})
    return designs


def correct(table: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Add ``holm`` to the comparisons of one table; returns its pairs. Two systems that are compared in both directions are one pair."""
    from kdtool.ablation.compare import holm

    pairs = {frozenset((name, reference)): (name, reference) for name, versus in table.items() for reference in versus}
    corrected = holm({pair: table[name][reference]["p"] for pair, (name, reference) in pairs.items()})
    for name, versus in table.items():
        for reference, v in versus.items():
            v["holm"] = round(corrected[frozenset((name, reference))], 5)
    return [*pairs.values()]


def comparison_of(results: dict[str, dict[str, Any]], scored: Scored) -> Any:
    """The bootstrap over all systems of one set and graph."""
    import numpy as np

    from kdtool.ablation.compare import Comparison

    tables = {name: np.array([[int(n) for n in run["errors"].split()] for run in r["runs"]]) for name, r in results.items()}
    seeds = {name: [run["seed"] for run in r["runs"]] for name, r in results.items()}
    first = next(iter(results.values()))
    return Comparison(tables, seeds, np.array(scored.words(first["set"], first["rate"])))
