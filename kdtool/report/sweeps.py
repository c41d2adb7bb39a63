"""Charts of error rates against varied options, and of gains against the teachers' perplexity.  In: ablation.json's content.  Out: HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdtool.ablation.tables import mean, result_at, versus
from kdtool.formats.system import LABEL_LOSSES
from kdtool.pictures import charts
from kdtool.pictures.charts import COLOURS, Frame, Line, Point
from kdtool.pictures.page import esc, table
from kdtool.report.choice import (
    Place,
    System,
    heads_of,
    learns_from_teachers,
    of_setting,
    place_name,
    places,
    reference_of,
    sets,
    setting_of,
    settings,
)

WIDTH, HEIGHT = 215, 190


def section(content: Mapping[str, Any]) -> str:
    """A row of charts per axis, a chart per set and graph; for a setting only what can be drawn."""
    parts = ['<h2 id="sweeps">What was varied</h2>',
             '<p class="note">Error rates in percent with 95% intervals. Values are evenly spaced, whatever the numbers.</p>']  # fmt: skip
    if not content["sweeps"]:
        parts.append('<p class="note">The plan names no sweeps.</p>')
    systems = {(s["setting"], s["system"]): s for s in content["systems"]}
    for axis, points in content["sweeps"].items():
        for setting in dict.fromkeys(["", *settings(content)]):
            there = [(str(value), systems[setting, name]) for value, name in points if (setting, name) in systems]
            if setting and len(there) < 2:
                continue
            absent = [f"{name} at {value}" for value, name in points if (setting, name) not in systems]
            parts.append(_heading(axis, setting, absent))
            drawn = [_axis(content, axis, there, name) for name in sets(content)] if len(there) > 1 else []
            parts += drawn or ['<p class="note">Fewer than two points: nothing to draw.</p>']
    return "\n".join(parts)


def _heading(axis: str, setting: str, absent: Sequence[str]) -> str:
    lacks = f'<p class="note">Not made: {esc(", ".join(absent))}.</p>' if absent else ""
    return f"<h3>{esc(axis)}{esc(', ' + setting if setting else '')}</h3>{lacks}"


def _axis(content: Mapping[str, Any], axis: str, points: Sequence[tuple[str, System]], name: str) -> str:
    values = [value for value, _ in points]
    found = places(content, name, [s for _, s in points])
    drawn, rows = [], []
    for n, place in enumerate(found):
        results = [(x, s, r) for x, (_, s) in enumerate(points) if (r := result_at(s, place))]
        line = [Point(x, r["mean"], f"{s['name']} at {values[x]}: {mean(r)}", *r["ci95"]) for x, s, r in results]
        frame = Frame(f"{place_name(place)}", axis, "%", WIDTH, HEIGHT, values)
        drawn.append(charts.lines(frame, [Line(place_name(place), line, COLOURS[n % len(COLOURS)])]))
    for value, s in points:
        rows.append([value, s["name"], *(mean(r) if (r := result_at(s, p)) else "-" for p in found)])
    head = [axis, "system", *map(place_name, found)]
    numbers = f"<details><summary>{esc(name)}, as numbers</summary>{table(head, rows, numbers=range(2, len(head)))}</details>"
    title = f"<h4>{esc(name)}</h4>" if len(sets(content)) > 1 else ""
    return f"{title}{charts.charts(drawn)}{numbers}" if found else ""


def teachers(content: Mapping[str, Any]) -> str:
    """The teachers' perplexities, and the gain of each system that learns from them through a soft head, one chart per unit."""
    parts = ['<h2 id="teachers">Teachers: perplexity against gain</h2>', _perplexities(content)]
    setting = setting_of(content)
    reference, systems = reference_of(content, setting), of_setting(content, setting)
    if reference is None:
        return "\n".join([*parts, '<p class="note">The reference is not decoded: no gains.</p>'])
    units = dict.fromkeys(str(h["unit"]) for s in systems for h in _soft(s))
    for name in sets(content):
        found = places(content, name, [reference])
        drawn, rows = [], []
        for unit in units:
            chart, own = _gains(content, unit, systems, reference, found)
            drawn.append(chart)
            rows += own
        if any(drawn):
            head = ["unit", "teacher", "perplexity on dev", "system", *map(place_name, found)]
            body = table(head, rows, numbers=[2, *range(4, len(head))])
            colours = [(place_name(p), COLOURS[n % len(COLOURS)]) for n, p in enumerate(found)]
            parts.append(f"<h3>{esc(name)}: systems with a soft head of each unit, against {esc(reference['name'])}</h3>")
            parts.append(f'<p class="note">{_spread(rows)} Below zero is better; graphs stand side by side.</p>')
            parts.append(f"{charts.charts(drawn)}{charts.key(colours)}<details><summary>As numbers</summary>{body}</details>")
    if len(parts) == 2:
        parts.append('<p class="note">No system with a soft head is decoded beside the reference, or no teacher has a perplexity.</p>')
    return "\n".join(parts)


def _spread(rows: Sequence[Sequence[str]]) -> str:
    """What the number of teachers per unit allows to conclude, from the rows' units, teachers and perplexities."""
    several = [unit for unit in dict.fromkeys(r[0] for r in rows) if len({r[1] for r in rows if r[0] == unit}) > 1]
    return "" if several else "Each unit has one teacher here: how the gain hangs on perplexity cannot be seen."


def _soft(system: System) -> list[dict[str, Any]]:
    heads = heads_of(system) if learns_from_teachers(system) else []
    return [h for h in heads if h.get("kind", "soft") not in LABEL_LOSSES]


def _perplexity(content: Mapping[str, Any], teacher: str) -> tuple[float, str] | None:
    """Perplexity on dev and its name; for a masked teacher the pseudo-perplexity, which is not comparable."""
    dev = ((content["teachers"].get(teacher) or {}).get("ppl") or {}).get("dev") or {}
    return next(((float(dev[k]), name) for k, name in (("ppl", "perplexity"), ("pseudo_ppl", "pseudo-perplexity")) if k in dev), None)


def _perplexities(content: Mapping[str, Any]) -> str:
    rows = []
    for name, teacher in content["teachers"].items():
        ppl, found = teacher["ppl"] or {}, _perplexity(content, name)
        dev = ppl.get("dev") or {}
        rows.append([name, str(ppl.get("unit", "-")), str(ppl.get("kind", "-")), found[1] if found else "-",
                     f"{found[0]:.3f}" if found else "-", *(str(dev.get(k, "-")) for k in ("tokens", "unseen"))])  # fmt: skip
    head = ["teacher", "unit", "kind", "measure", "on dev", "units it was taken over", "never seen in training"]
    return table(head, rows, numbers=(4, 5, 6)) or '<p class="note">The plan names no teachers.</p>'


def _gains(
    content: Mapping[str, Any], unit: str, systems: Sequence[System], reference: System, found: Sequence[Place]
) -> tuple[str, list[list[str]]]:
    """A chart of one unit (points: systems; x: perplexity; y: relative change in percent) and its numbers."""
    points: dict[Place, list[Point]] = {p: [] for p in found}
    rows = []
    for s in systems:
        teacher = s["teachers"].get(unit, "")
        known = _perplexity(content, teacher) if any(h["unit"] == unit and not h.get("posts") for h in _soft(s)) else None
        if known is None:
            continue
        cells = []
        for place in found:
            v = ((result_at(s, place) or {}).get("versus") or {}).get(reference["name"])
            cells.append(versus(v) if v else "-")
            if v:
                about = f"{s['name']}, {place_name(place)}: {v['relative']:+.1f}% at {known[0]:.3f}"
                points[place].append(Point(known[0], v["relative"], about))
        rows.append([unit, teacher, f"{known[0]:.3f}{'' if known[1] == 'perplexity' else ' (pseudo)'}", s["name"], *cells])
    drawn = [Line(place_name(p), own, COLOURS[n % len(COLOURS)], joined=False, opacity=0.75, shift=9 * (n - (len(points) - 1) / 2))
             for n, (p, own) in enumerate(points.items())]  # fmt: skip
    frame = Frame(f"{unit} teachers", "perplexity on dev", "change of the error rate, %", zero=True)
    return charts.lines(frame, drawn), rows
