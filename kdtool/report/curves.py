"""Learning curves.  In: the students' curve.jsonl.  Out: charts and a table, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from kdtool.core.tables import read_jsonl
from kdtool.pictures import charts
from kdtool.pictures.charts import COLOURS, GREY, Frame, Line, Point
from kdtool.pictures.page import esc, table
from kdtool.report.choice import System, of_setting, settings

CURVE = "curve.jsonl"
SHOWN = (
    ("dev_ce", "Cross-entropy on dev", "nats per frame"),
    ("dev_accuracy", "Frame accuracy on dev", "share of frames"),
    ("train_main", "Main head's loss in training", "nats per frame"),
)
FIT = 0.15  # share of the updates ignored in scaling the axes: the first losses would flatten the rest
Curve = list[dict[str, Any]]


def section(root: Path, content: Mapping[str, Any], bold: Sequence[str], heads_of: System | None) -> str:
    """All curves: the systems named in ``bold`` in colour, the others grey; the losses of the heads of ``heads_of``."""
    parts = ['<h2 id="curves">Learning curves</h2>',
             '<p class="note">Means over the seeds; each coloured system\'s seeds are thin lines. Dev figures are those of the moving '
             "average of the weights, training losses means over the updates since the previous evaluation. Axes are scaled for the part "
             f"after the first {100 * FIT:.0f}% of the updates.</p>"]  # fmt: skip
    curves = {s["name"]: read(root, s) for s in content["systems"]}
    if lacking := [name for name, found in curves.items() if not found]:
        parts.append(f'<p class="note">No {CURVE} of {esc(", ".join(lacking))}.</p>')
    for setting in settings(content):
        systems = [s for s in of_setting(content, setting) if curves[s["name"]]]
        if systems:
            parts += [f"<h3>{esc(setting)}</h3>"] if setting else []
            parts.append(_charts({s["name"]: curves[s["name"]] for s in systems}, bold))
    if heads_of is not None and curves[heads_of["name"]]:
        parts.append(_heads(heads_of["name"], curves[heads_of["name"]]))
    return "\n".join([*parts, _ends(content, curves)])


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
    for field, title, unit in SHOWN:
        lines = [_line(name, own, field, GREY, dots=False) for name, own in curves.items() if name not in colours]
        for name, colour in colours.items():
            if len(curves[name]) > 1:
                lines += [_line(name, [one], field, colour, dots=False, opacity=0.3) for one in curves[name]]
            lines.append(_line(name, curves[name], field, colour))
        drawn.append(charts.lines(Frame(title, "updates", unit, fit=FIT), lines))
    others = [("others (point at a line for its name)", GREY)] if len(curves) > len(colours) else []
    return charts.charts(drawn) + charts.key([*colours.items(), *others])


def _line(name: str, curves: Sequence[Curve], field: str, colour: str, *, dots: bool = True, opacity: float = 1.0) -> Line:
    points = [Point(u, v, f"{name}, update {u}: {v:.4f}") for u, v in averaged(curves, field)]
    return Line(name, points, colour, 2.2 if dots else 1.0, opacity, dots)


def _heads(name: str, curves: Sequence[Curve]) -> str:
    """The loss curves of one system's heads."""
    fields = sorted({k for curve in curves for row in curve for k in row if k.startswith("train_")} - {"train_accuracy", "train_main"})
    if not fields:
        return ""
    drawn = []
    for n, f in enumerate(fields):
        frame = Frame(f.removeprefix("train_").replace("_", " "), "updates", "training loss per frame, nats", fit=FIT)
        drawn.append(charts.lines(frame, [_line(name, curves, f, COLOURS[n % len(COLOURS)])]))
    return f"<h3>Auxiliary heads of {esc(name)}: unit, targets, layer</h3>{charts.charts(drawn)}"


def _ends(content: Mapping[str, Any], curves: Mapping[str, Sequence[Curve]]) -> str:
    """Final figures: one line per system, means over seeds."""
    rows = []
    for s in content["systems"]:
        about = [st["about"] for st in s["students"] if st["about"]]
        if not about:
            continue
        last = {k: mean(a[k] for a in about) for k in ("updates", "chosen_update", "dev_ce", "dev_accuracy", "parameters") if k in about[0]}
        train = averaged(curves[s["name"]], "train_main")
        seconds = [st["seconds"] for st in s["students"] if st["seconds"] is not None]
        rows.append([
            s["name"], str(len(s["students"])), *(f"{last[k]:.0f}" if k in last else "-" for k in ("updates", "chosen_update")),
            *(f"{last[k]:.4f}" if k in last else "-" for k in ("dev_ce", "dev_accuracy")), f"{train[-1][1]:.4f}" if train else "-",
            f"{last['parameters'] / 1e6:.2f}" if "parameters" in last else "-", f"{mean(seconds) / 60:.1f}" if seconds else "-",
        ])  # fmt: skip
    head = ["system", "seeds", "updates", "chosen", "dev cross-entropy", "dev accuracy", "main head's last loss", "million parameters",
            "minutes to train"]  # fmt: skip
    found = table(head, rows, numbers=range(1, len(head)))
    return f"<details><summary>Where they ended, as numbers</summary>{found}</details>" if rows else ""
