"""The ablation's table, and charts of each system's difference to the reference.  In: ablation.json's content.  Out: HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdtool.ablation.tables import by_seeds, common, details, mean, result_at, versus
from kdtool.pictures import charts
from kdtool.pictures.charts import Point
from kdtool.pictures.page import Html, esc, table
from kdtool.report.choice import Place, System, of_setting, place_name, places, reference_of, sets, settings


def section(content: Mapping[str, Any]) -> str:
    """Error rates and differences of all sets and settings."""
    parts = ['<h2 id="table">Error rates</h2>']
    parts += [f'<p class="note">{esc(common(content))}</p>'] if content["options"] else []
    for what, text in (("missing", "Not made yet"), ("stale", "Trained with other options than are planned now, so left out")):
        if content[what]:
            parts.append(f'<p class="note">{text}: {esc(by_seeds(content[what]))}.</p>')
    parts.append(
        '<p class="note">In percent, means over seeds, with 95% intervals of a bootstrap over utterances and seeds '
        f"({content['resamples']:,} resamples); differences are paired by utterance and, where the seeds are the same, by seed. "
        "p is two-sided and not corrected for how many systems there are. With one seed nothing is known of the spread between seeds, "
        "and intervals are too narrow by that. In the charts, what an interval tells apart from zero is coloured.</p>"
    )
    for name in sets(content):
        for setting in settings(content):
            systems = of_setting(content, setting)
            found = places(content, name, systems)
            if found:
                parts.append(f"<h3>{esc(name)}{esc(', ' + setting if setting else '')}</h3>")
                parts += [_summary(systems, found), _forest(content, setting, systems, found), _details(systems, found)]
    return "\n".join(parts)


def _summary(systems: Sequence[System], found: Sequence[Place]) -> str:
    """One line per system, one column per graph; the lowest rate of each column is bold."""
    results = {(s["name"], p): r for s in systems for p in found if (r := result_at(s, p))}
    lowest = {p: min(r["mean"] for (_, q), r in results.items() if q == p) for p in found}
    rows: list[list[str]] = []
    for s in systems:
        seeds = sorted({len(r["runs"]) for (name, _), r in results.items() if name == s["name"]})
        cells: list[str] = []
        for p in found:
            r = results.get((s["name"], p))
            rate, _, interval = mean(r).partition(" ") if r else ("-", "", "")
            text = f"{rate} <small>{interval}</small>" if interval else rate
            cells.append(Html(f"<b>{text}</b>" if r and r["mean"] == lowest[p] else text))
        rows.append([s["name"], s["about"] or "-", "/".join(map(str, seeds)) or "-", *cells])
    head = ["system", "what", "seeds", *map(place_name, found)]
    return f'<div class="scroll">{table(head, rows, numbers=range(2, len(head)))}</div>'


def _forest(content: Mapping[str, Any], setting: str, systems: Sequence[System], found: Sequence[Place]) -> str:
    """Each system's difference to the first reference, one chart per graph."""
    reference = reference_of(content, setting)
    if reference is None or len(systems) < 2:
        return '<p class="note">No reference, or nothing beside it, is decoded here: no differences to draw.</p>'
    others = [s for s in systems if s["name"] != reference["name"]]
    drawn = []
    for n, place in enumerate(found):
        rows: list[tuple[str, Point | None]] = []
        for s in others:
            v = ((result_at(s, place) or {}).get("versus") or {}).get(reference["name"])
            rows.append((s["name"], Point(0, v["delta"], f"{s['name']}: {versus(v)}", v["low"], v["high"]) if v else None))
        names = 7 * max(len(s["name"]) for s in others) + 8 if n == 0 else 0
        drawn.append(charts.intervals(place_name(place), "points", rows, width=190 + names, names=names))
    title = f'<p class="note">Difference to {esc(reference["name"])} in points, below zero is better:</p>'
    return title + charts.charts(drawn)


def _details(systems: Sequence[System], found: Sequence[Place]) -> str:
    """Counts by kind and all comparisons, folded away."""
    parts = []
    for place in found:
        lines = details(systems, place)  # Markdown; take its cells
        head, *rows = ([c.strip().replace("\\|", "|") for c in line[1:-1].split(" | ")] for n, line in enumerate(lines) if n != 1)
        parts.append(f"<h4>{esc(place_name(place))}</h4>{table(head, rows, numbers=range(3, 8))}")
    return f'<details><summary>Errors by kind, each seed, all comparisons</summary><div class="scroll">{"".join(parts)}</div></details>'
