"""The ablation's tables, and charts of each system's difference to the reference.  In: what the page shows.  Out: HTML."""

from __future__ import annotations

from collections.abc import Sequence

from kdtool.ablation.tables import Place, Result, System, details, mean, paragraphs, place_name, result_at, sections, summary, versus
from kdtool.pictures import charts
from kdtool.pictures.charts import Point
from kdtool.pictures.page import Html, esc, folded, note
from kdtool.report.choice import Shown, reference_of, versus_at


def section(shown: Shown) -> str:
    """Error rates and differences of all sets and settings."""
    parts = [*map(note, paragraphs(shown.content)), note("In the charts, significant differences are coloured.")]
    for name, setting, systems, places in sections(shown.content):
        reference = reference_of(shown.content, setting)
        numbers = "".join(f"<h4>{esc(place_name(place))}</h4>{details(systems, place).html()}" for place in places)
        parts += [f"<h3>{esc(name)}{esc(', ' + setting if setting else '')}</h3>", _summary(systems, places),
                  _forest(reference, systems, places), folded("Errors by kind, each seed, all comparisons", numbers)]  # fmt: skip
    return "\n".join(parts)


def _summary(systems: Sequence[System], places: Sequence[Place]) -> str:
    """One line per system, one column per graph; the lowest rate of each column is bold."""
    lowest = {p: min(r["mean"] for s in systems if (r := result_at(s, p))) for p in places}

    def cell(place: Place, result: Result) -> str:
        rate, _, interval = mean(result).partition(" ")
        text = f"{rate} <small>{interval}</small>"
        return Html(f"<b>{text}</b>" if result["mean"] == lowest[place] else text)

    return f'<div class="scroll">{summary(systems, places, cell).html()}</div>'


def _forest(reference: System | None, systems: Sequence[System], places: Sequence[Place]) -> str:
    """Each system's difference to the first reference, one chart per graph."""
    if reference is None or len(systems) < 2:
        return note("No reference, or nothing beside it, is decoded here: no differences to draw.")
    names = [s["name"] for s in systems if s is not reference]
    drawn = []
    for n, place in enumerate(places):
        found = [(s["name"], versus_at(s, place, reference["name"])) for s in systems if s is not reference]
        rows = [(name, Point(0, v["delta"], f"{name}: {versus(v)}", v["low"], v["high"]) if v else None) for name, v in found]
        left = 0 if n else 7 * max(map(len, names)) + 8
        drawn.append(charts.intervals(place_name(place), "points", rows, width=190 + left, names=left))
    return note(f"Difference to {reference['name']} in points, below zero is better:") + charts.charts(drawn)
