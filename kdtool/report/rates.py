"""The ablation's tables, and charts of differences, of varied options and of the teachers' perplexity.  Out: HTML."""

from collections.abc import Sequence
from typing import Any

from kdtool.ablation import tables
from kdtool.ablation.tables import Place, Result, System, by_setting, mean, perplexity, place_name, result_at, sets, versus, versus_at
from kdtool.formats.system import LABEL_LOSSES
from kdtool.pictures.charts import COLOURS, ROW, Frame, Line, Point, chart, charts
from kdtool.pictures.page import Html, Table, esc, folded, note
from kdtool.report.choice import Shown, heads_of, reference_of, taught

WIDTH, HEIGHT = 215, 190  # of a chart of a varied option, pixels


def section(shown: Shown) -> str:
    """Error rates and differences of all sets and settings."""
    parts = [*map(note, tables.paragraphs(shown.content)), note("In the charts, significant differences are coloured.")]
    for name, setting, systems, places in tables.sections(shown.content):
        reference = reference_of(shown.content, setting)
        numbers = "".join(f"<h4>{esc(place_name(place))}</h4>{tables.details(systems, place).html()}" for place in places)
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

    return f'<div class="scroll">{tables.summary(systems, places, cell).html()}</div>'


def _forest(reference: System | None, systems: Sequence[System], places: Sequence[Place]) -> str:
    """Each system's difference to the first reference, one chart per graph."""
    if reference is None or len(systems) < 2:
        return note("No reference, or nothing beside it, is decoded here: no differences to draw.")
    names = [s["name"] for s in systems if s is not reference]
    drawn: list[str] = []
    for place in places:
        lines = []
        for n, s in enumerate(s for s in systems if s is not reference):
            if v := versus_at(s, place, reference):
                colour = COLOURS[2] if v["high"] < 0 else COLOURS[1] if v["low"] > 0 else "#777"
                about = f"{s['name']}: {versus(v)}"
                lines.append(Line(about, [Point(n, v["delta"], about, v["low"], v["high"])], colour))
        rows = [""] * len(names) if drawn else names  # the charts beside the first have the same rows
        left = 7 * max(map(len, rows)) + 12
        frame = Frame(place_name(place), "", "points", 200 + left, 68 + ROW * len(rows), rows, zero=True, rows=True, left=left)
        drawn.append(chart(frame, lines))
    return note(f"Difference to {reference['name']} in points, below zero is better:") + charts(drawn)


def sweeps(shown: Shown) -> str:
    """A row of charts per varied option, a chart per set and graph; for a setting only what can be drawn."""
    content = shown.content
    parts = [note("Error rates in percent with 95% intervals. Values are evenly spaced, whatever the numbers."),
             note("" if content["sweeps"] else "The plan names no sweeps.")]  # fmt: skip
    systems = {(s["setting"], s["system"]): s for s in content["systems"]}
    for axis, points in content["sweeps"].items():
        for setting in dict.fromkeys(["", *by_setting(content)]):
            made = [(str(value), systems[setting, name]) for value, name in points if (setting, name) in systems]
            if setting and len(made) < 2:
                continue
            absent = ", ".join(f"{name} at {value}" for value, name in points if (setting, name) not in systems)
            parts += [f"<h3>{esc(axis)}{esc(', ' + setting if setting else '')}</h3>", note(f"Not made: {absent}." if absent else "")]
            parts += [_sweep(shown, axis, made, name) for name in sets(content) if len(made) > 1]
            parts += [note("Fewer than two points: nothing to draw.")] * (len(made) < 2)
    return "\n".join(parts)


def _sweep(shown: Shown, axis: str, points: Sequence[tuple[str, System]], name: str) -> str:
    """The charts of one varied option on one set; points: (value, system)."""
    places, values = shown.places(name, [s for _, s in points]), [value for value, _ in points]
    drawn = []
    for n, place in enumerate(places):
        results = [(x, value, s, r) for x, (value, s) in enumerate(points) if (r := result_at(s, place))]
        line = [Point(x, r["mean"], f"{s['name']} at {value}: {mean(r)}", *r["ci95"]) for x, value, s, r in results]
        drawn.append(chart(Frame(place_name(place), axis, "%", WIDTH, HEIGHT, values), [Line("", line, COLOURS[n % len(COLOURS)])]))
    rows = [[value, s["name"], *(mean(r) if (r := result_at(s, p)) else "-" for p in places)] for value, s in points]
    numbers = Table([axis, "system", *map(place_name, places)], rows, range(2, 2 + len(places))).html()
    title = f"<h4>{esc(name)}</h4>" if len(sets(shown.content)) > 1 else ""
    return title + charts(drawn) + folded(f"{name}, as numbers", numbers) if places else ""


def teachers(shown: Shown) -> str:
    """The teachers' perplexities, and the gain of each system that learns from them through a soft head, one chart per unit."""
    parts = [_perplexities(shown)]
    if shown.reference is None:
        return parts[0] + note("The reference is not decoded: no gains.")
    units = {unit: _learners(shown, unit) for unit in dict.fromkeys(str(h["unit"]) for s in shown.systems for h in _soft(s))}
    several = any(len({teacher for teacher, _ in learners}) > 1 for learners in units.values())
    about = "" if several else "Each unit has one teacher here: no trend over perplexity can be shown. "
    for name in sets(shown.content):
        places = shown.places(name, [shown.reference])
        drawn = [_gains(shown, unit, learners, places) for unit, learners in units.items()]
        if not any(picture for picture, _ in drawn):
            continue
        head = ["unit", "teacher", "perplexity on dev", "system", *map(place_name, places)]
        numbers = Table(head, [row for _, rows in drawn for row in rows], [2, *range(4, len(head))]).html()
        colours = [(place_name(p), COLOURS[n % len(COLOURS)]) for n, p in enumerate(places)]
        parts += [f"<h3>{esc(name)}: systems with a soft head of each unit, against {esc(shown.reference['name'])}</h3>",
                  note(f"{about}Below zero is better; graphs stand side by side."),
                  charts([picture for picture, _ in drawn], colours) + folded("As numbers", numbers)]  # fmt: skip
    if len(parts) == 1:
        parts.append(note("No system with a soft head is decoded beside the reference, or no teacher has a perplexity."))
    return "\n".join(parts)


def _learners(shown: Shown, unit: str) -> list[tuple[str, System]]:
    """(teacher, system) of the systems with a soft head of this unit whose teacher has a perplexity."""
    systems = [s for s in shown.systems if any(h["unit"] == unit and not h.get("posts") for h in _soft(s))]
    measured = {name for name, teacher in shown.content["teachers"].items() if perplexity(teacher)[1] is not None}
    return [(s["teachers"][unit], s) for s in systems if s["teachers"].get(unit) in measured]


def _gains(shown: Shown, unit: str, learners: Sequence[tuple[str, System]], places: Sequence[Place]) -> tuple[str, list[list[str]]]:
    """A chart of one unit (points: systems; x: perplexity; y: relative change in percent) and its numbers."""
    perplexities = {teacher: perplexity(shown.content["teachers"][teacher]) for teacher, _ in learners}
    lines = []
    for n, place in enumerate(places):
        points = []
        for teacher, s in learners:
            x = perplexities[teacher][1]
            if (v := versus_at(s, place, shown.reference)) and x is not None:
                points.append(Point(x, v["relative"], f"{s['name']}, {place_name(place)}: {v['relative']:+.1f}% at {x:.3f}"))
        shift = 9 * (n - (len(places) - 1) / 2)
        lines.append(Line(place_name(place), points, COLOURS[n % len(COLOURS)], joined=False, opacity=0.75, shift=shift))
    rows = [[unit, teacher, perplexities[teacher][0], s["name"], *(versus(versus_at(s, place, shown.reference)) for place in places)]
            for teacher, s in learners]  # fmt: skip
    return chart(Frame(f"{unit} teachers", "perplexity on dev", "change of the error rate, %", zero=True), lines), rows


def _soft(system: System) -> list[dict[str, Any]]:
    return [h for h in heads_of(system) if h.get("kind", "soft") not in LABEL_LOSSES] if taught(system) else []


def _perplexities(shown: Shown) -> str:
    rows = []
    for name, teacher in shown.content["teachers"].items():
        ppl, (text, value) = teacher["ppl"] or {}, perplexity(teacher)
        measure = "-" if value is None else "pseudo-perplexity" if "pseudo" in text else "perplexity"
        counts = [str((ppl.get("dev") or {}).get(k, "-")) for k in ("tokens", "unseen")]
        rows.append([name, str(ppl.get("unit", "-")), str(ppl.get("kind", "-")), measure, text.split()[0], *counts])
    head = ["teacher", "unit", "kind", "measure", "on dev", "units it was taken over", "never seen in training"]
    return Table(head, rows, (4, 5, 6)).html() or note("The plan names no teachers.")
