"""Learning curves.  In: the students' curve.jsonl.  Out: charts and a table, as HTML."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from kdtool.ablation.tables import System, by_setting
from kdtool.core.tables import read_jsonl
from kdtool.pictures import charts
from kdtool.pictures.charts import COLOURS, GREY, Frame, Line, Point
from kdtool.pictures.page import Table, esc, folded, note
from kdtool.report.choice import Shown

CURVE = "curve.jsonl"
CHARTS = (
    ("dev_ce", "Cross-entropy on dev", "nats per frame"),
    ("dev_accuracy", "Frame accuracy on dev", "share of frames"),
    ("train_main", "Main head's loss in training", "nats per frame"),
)
FIT = 0.15  # share of the updates ignored in scaling the axes: the first losses would flatten the rest
Curve = list[dict[str, Any]]


def section(shown: Shown) -> str:
    """All curves: the systems named in ``bold`` in colour, the others grey; the losses of the best system's heads."""
    parts = [note("Means over the seeds; each coloured system's seeds are thin lines. Dev figures are those of the moving average of the "
                  "weights, training losses means over the updates since the previous evaluation. Axes are scaled for the part "
                  f"after the first {100 * FIT:.0f}% of the updates.")]  # fmt: skip
    curves = {s["name"]: read(shown.root, s) for s in shown.content["systems"]}
    if lacking := [name for name, seeds in curves.items() if not seeds]:
        parts.append(note(f"No {CURVE} of {', '.join(lacking)}."))
    for setting, systems in by_setting(shown.content).items():
        if trained := {s["name"]: curves[s["name"]] for s in systems if curves[s["name"]]}:
            parts += [f"<h3>{esc(setting)}</h3>" if setting else "", _charts(trained, shown.bold)]
    if shown.best is not None and curves[shown.best["name"]]:
        parts.append(_heads(shown.best["name"], curves[shown.best["name"]]))
    return "\n".join([*parts, _ends(shown.content["systems"], curves)])


def read(root: Path, system: System) -> list[Curve]:
    """The curves of a system's seeds that have one."""
    paths = [root / student["folder"] / CURVE for student in system["students"]]
    return [list(read_jsonl(p)) for p in paths if p.is_file()]


def averaged(curves: Sequence[Curve], field: str) -> list[tuple[int, float]]:
    """(update, mean over the seeds) at the updates that all seeds have."""
    tables = [{row["update"]: row[field] for row in curve if field in row} for curve in curves]
    common = sorted(set(tables[0]).intersection(*tables[1:])) if tables else []
    return [(u, mean(t[u] for t in tables)) for u in common]


def _charts(curves: Mapping[str, Sequence[Curve]], bold: Sequence[str]) -> str:
    chosen = [name for name in bold if name in curves] or list(curves)[: len(COLOURS)]
    colours = dict(zip(chosen, COLOURS, strict=False))
    drawn = []
    for field, title, unit in CHARTS:
        lines = [_line(name, every, field, GREY, dots=False) for name, every in curves.items() if name not in colours]
        for name, colour in colours.items():
            seeds = curves[name] if len(curves[name]) > 1 else []
            lines += [_line(name, [one], field, colour, dots=False, opacity=0.3) for one in seeds]
            lines.append(_line(name, curves[name], field, colour))
        drawn.append(charts.chart(Frame(title, "updates", unit, fit=FIT), lines))
    others = [("others (point at a line for its name)", GREY)] if len(curves) > len(colours) else []
    return charts.charts(drawn, [*colours.items(), *others])


def _line(name: str, curves: Sequence[Curve], field: str, colour: str, *, dots: bool = True, opacity: float = 1.0) -> Line:
    points = [Point(u, v, f"{name}, update {u}: {v:.4f}") for u, v in averaged(curves, field)]
    return Line(name, points, colour, opacity, dots)


def _heads(name: str, curves: Sequence[Curve]) -> str:
    """The loss curves of one system's heads."""
    fields = sorted({k for curve in curves for row in curve for k in row if k.startswith("train_")} - {"train_accuracy", "train_main"})
    titles = [Frame(f.removeprefix("train_").replace("_", " "), "updates", "training loss per frame, nats", fit=FIT) for f in fields]
    drawn = [charts.chart(frame, [_line(name, curves, f, COLOURS[n % len(COLOURS)])])
             for n, (f, frame) in enumerate(zip(fields, titles, strict=True))]  # fmt: skip
    return f"<h3>Auxiliary heads of {esc(name)}: unit, targets, layer</h3>{charts.charts(drawn)}" if drawn else ""


COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("updates", "updates", "{:.0f}".format), ("chosen_update", "chosen", "{:.0f}".format), ("dev_ce", "dev cross-entropy", "{:.4f}".format),
    ("dev_accuracy", "dev accuracy", "{:.4f}".format), ("train", "main head's last loss", "{:.4f}".format),
    ("parameters", "million parameters", lambda n: f"{n / 1e6:.2f}"), ("seconds", "minutes to train", lambda s: f"{s / 60:.1f}"),
)  # fmt: skip


def _ends(systems: Sequence[System], curves: Mapping[str, Sequence[Curve]]) -> str:
    """Final figures: one line per system, means over seeds."""
    rows = []
    for s in (s for s in systems if any(st["about"] for st in s["students"])):
        seeds = [{**st["about"], "seconds": st["seconds"]} for st in s["students"] if st["about"]]
        values = {name: [seed[name] for seed in seeds if seed.get(name) is not None] for name, _, _ in COLUMNS}
        values["train"] = [v for _, v in averaged(curves[s["name"]], "train_main")][-1:]
        rows.append([s["name"], str(len(s["students"])), *(form(mean(values[name])) if values[name] else "-" for name, _, form in COLUMNS)])
    head = ["system", "seeds", *(title for _, title, _ in COLUMNS)]
    return folded("Where they ended, as numbers", Table(head, rows, range(1, len(head))).html())
