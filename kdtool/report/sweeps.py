"""Charts of error rates against varied options, and of gains against the teachers' perplexity.  In: what the page shows.  Out: HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdtool.ablation.tables import Content, Place, System, by_setting, mean, perplexity, place_name, result_at, sets, versus
from kdtool.formats.system import LABEL_LOSSES
from kdtool.pictures import charts
from kdtool.pictures.charts import COLOURS, Frame, Line, Point
from kdtool.pictures.page import Table, esc, folded, note
from kdtool.report.choice import Shown, heads_of, learns_from_teachers, versus_at

WIDTH, HEIGHT = 215, 190


def section(shown: Shown) -> str:
    """A row of charts per axis, a chart per set and graph; for a setting only what can be drawn."""
    content = shown.content
    parts = [note("Error rates in percent with 95% intervals. Values are evenly spaced, whatever the numbers.")]
    if not content["sweeps"]:
        parts.append(note("The plan names no sweeps."))
    systems = {(s["setting"], s["system"]): s for s in content["systems"]}
    for axis, points in content["sweeps"].items():
        for setting in dict.fromkeys(["", *by_setting(content)]):
            made = [(str(value), systems[setting, name]) for value, name in points if (setting, name) in systems]
            if setting and len(made) < 2:
                continue
            absent = [f"{name} at {value}" for value, name in points if (setting, name) not in systems]
            parts.append(f"<h3>{esc(axis)}{esc(', ' + setting if setting else '')}</h3>")
            parts.append(note(f"Not made: {', '.join(absent)}.") if absent else "")
            drawn = [_axis(shown, axis, made, name) for name in sets(content)] if len(made) > 1 else []
            parts += drawn or [note("Fewer than two points: nothing to draw.")]
    return "\n".join(parts)


def _axis(shown: Shown, axis: str, points: Sequence[tuple[str, System]], name: str) -> str:
    values, systems = zip(*points, strict=True)
    places = shown.places(name, systems)
    drawn = []
    for n, place in enumerate(places):
        results = [(x, s, r) for x, s in enumerate(systems) if (r := result_at(s, place))]
        line = [Point(x, r["mean"], f"{s['name']} at {values[x]}: {mean(r)}", *r["ci95"]) for x, s, r in results]
        frame = Frame(place_name(place), axis, "%", WIDTH, HEIGHT, values)
        drawn.append(charts.lines(frame, [Line(place_name(place), line, COLOURS[n % len(COLOURS)])]))
    rows = [[value, s["name"], *(mean(r) if (r := result_at(s, p)) else "-" for p in places)] for value, s in points]
    numbers = Table([axis, "system", *map(place_name, places)], rows, range(2, 2 + len(places))).html()
    title = f"<h4>{esc(name)}</h4>" if len(sets(shown.content)) > 1 else ""
    return f"{title}{charts.charts(drawn)}{folded(f'{name}, as numbers', numbers)}" if places else ""


def teachers(shown: Shown) -> str:
    """The teachers' perplexities, and the gain of each system that learns from them through a soft head, one chart per unit."""
    parts = [_perplexities(shown.content)]
    if shown.reference is None:
        return parts[0] + note("The reference is not decoded: no gains.")
    units = {unit: _learners(shown, unit) for unit in dict.fromkeys(str(h["unit"]) for s in shown.systems for h in _soft(s))}
    several = any(len({teacher for teacher, _ in learners}) > 1 for learners in units.values())
    about = "" if several else "Each unit has one teacher here: no trend over perplexity can be shown. "
    for name in sets(shown.content):
        places = shown.places(name, [shown.reference])
        drawn = [_gains(shown, unit, learners, places) for unit, learners in units.items()]
        if not any(chart for chart, _ in drawn):
            continue
        head = ["unit", "teacher", "perplexity on dev", "system", *map(place_name, places)]
        numbers = Table(head, [row for _, rows in drawn for row in rows], [2, *range(4, len(head))]).html()
        colours = [(place_name(p), COLOURS[n % len(COLOURS)]) for n, p in enumerate(places)]
        parts += [f"<h3>{esc(name)}: systems with a soft head of each unit, against {esc(shown.reference['name'])}</h3>",
                  note(f"{about}Below zero is better; graphs stand side by side."),
                  charts.charts([chart for chart, _ in drawn]) + charts.key(colours) + folded("As numbers", numbers)]  # fmt: skip
    if len(parts) == 1:
        parts.append(note("No system with a soft head is decoded beside the reference, or no teacher has a perplexity."))
    return "\n".join(parts)


def _learners(shown: Shown, unit: str) -> list[tuple[str, System]]:
    """(teacher, system) of the systems with a soft head of this unit whose teacher has a perplexity."""
    systems = [s for s in shown.systems if any(h["unit"] == unit and not h.get("posts") for h in _soft(s))]
    known = {name for name, teacher in shown.content["teachers"].items() if perplexity(teacher)[1] is not None}
    return [(s["teachers"][unit], s) for s in systems if s["teachers"].get(unit) in known]


def _gains(shown: Shown, unit: str, learners: Sequence[tuple[str, System]], places: Sequence[Place]) -> tuple[str, list[list[str]]]:
    """A chart of one unit (points: systems; x: perplexity; y: relative change in percent) and its numbers."""
    assert shown.reference is not None
    points: list[list[Point]] = [[] for _ in places]
    rows = []
    for teacher, s in learners:
        text, value = perplexity(shown.content["teachers"][teacher])
        changes = [versus_at(s, place, shown.reference["name"]) for place in places]
        rows.append([unit, teacher, text, s["name"], *map(versus, changes)])
        for place, line, v in zip(places, points, changes, strict=True):
            if v and value is not None:
                line.append(Point(value, v["relative"], f"{s['name']}, {place_name(place)}: {v['relative']:+.1f}% at {value:.3f}"))
    drawn = [Line(place_name(place), line, COLOURS[n % len(COLOURS)], joined=False, opacity=0.75, shift=9 * (n - (len(places) - 1) / 2))
             for n, (place, line) in enumerate(zip(places, points, strict=True))]  # fmt: skip
    return charts.lines(Frame(f"{unit} teachers", "perplexity on dev", "change of the error rate, %", zero=True), drawn), rows


def _soft(system: System) -> list[dict[str, Any]]:
    heads = heads_of(system) if learns_from_teachers(system) else []
    return [h for h in heads if h.get("kind", "soft") not in LABEL_LOSSES]


def _perplexities(content: Content) -> str:
    rows = []
    for name, teacher in content["teachers"].items():
        ppl, (text, value) = teacher["ppl"] or {}, perplexity(teacher)
        dev = ppl.get("dev") or {}
        measure = "-" if value is None else "pseudo-perplexity" if "pseudo" in text else "perplexity"
        rows.append([name, str(ppl.get("unit", "-")), str(ppl.get("kind", "-")), measure, text.split()[0],
                     *(str(dev.get(k, "-")) for k in ("tokens", "unseen"))])  # fmt: skip
    head = ["teacher", "unit", "kind", "measure", "on dev", "units it was taken over", "never seen in training"]
    return Table(head, rows, (4, 5, 6)).html() or note("The plan names no teachers.")
