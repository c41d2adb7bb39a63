"""Charts as inline SVG.  In: numbers with names.  Out: SVG text; tooltips show the numbers.

``lines``: values over a numeric axis or over named places. ``intervals``: values with their intervals, one per row. By hand: matplotlib
would add 105 MB of packages and 0.7 s of start, and has no tooltips; its SVG is twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdtool.pictures.page import esc

# Okabe and Ito's colours, which colour-blind readers can distinguish; grey for the background.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a6d3b")
GREY = "#c4c4c4"
STYLE = """
svg text.l { text-anchor: start } svg text.r { text-anchor: end } svg text.s { font-size: 11px } svg text.b { font-weight: 600 }
.charts { display: flex; flex-wrap: wrap; gap: 14px 18px; margin: .6em 0 } .charts figure { margin: 0 }
.key { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: .4em 0; padding: 0; list-style: none; font-size: 13px }
.key i { display: inline-block; width: 18px; height: 0; border-top: 3px solid; vertical-align: middle; margin-right: 5px }
"""


@dataclass(frozen=True)
class Point:
    """x, y, optionally an interval of y; ``about``: tooltip."""

    x: float
    y: float
    about: str = ""
    low: float | None = None
    high: float | None = None

    def values(self) -> list[float]:
        """y and the ends of its interval."""
        return [v for v in (self.y, self.low, self.high) if v is not None]


@dataclass(frozen=True)
class Line:
    """A series of points. ``dots``: whether each is marked; ``joined``: whether a line joins them; ``shift``: pixels
    to the right, for points that would hide others."""

    name: str
    points: Sequence[Point]
    colour: str
    opacity: float = 1.0
    dots: bool = True
    joined: bool = True
    shift: float = 0.0


@dataclass(frozen=True)
class Frame:
    """Axes and title of a chart. ``places``: names of x = 0, 1, .. instead of numbers; ``zero``: y = 0 is shown; ``fit``: the
    y axis fits the part right of this share of the x axis (0 to 1); the rest may exceed the chart."""

    title: str
    x: str
    y: str
    width: int = 380
    height: int = 260
    places: Sequence[str] = ()
    zero: bool = False
    fit: float = 0.0


@dataclass(frozen=True)
class Scale:
    """Numbers to pixels, linear; ``marks``: where its ticks are."""

    low: float
    high: float
    first: float
    last: float
    marks: Sequence[float]

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def scale(low: float, high: float, first: float, last: float, *, tight: bool = False) -> Scale:
    """From ``low`` to ``high``, or beyond them to the next round numbers unless ``tight``; three to seven ticks."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        pad = 0.5 * abs(high) or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * min((m for m in (1, 2, 5, 10) if m * unit >= rough), default=10)
    begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [round(n * step, 10) + 0.0 for n in range(begin, end + 1)]
    if tight:
        return Scale(low, high, first, last, [m for m in marks if low <= m <= high])
    return Scale(marks[0], marks[-1], first, last, marks)


def lines(frame: Frame, drawn: Sequence[Line]) -> str:
    """A chart of lines; '' if there are no points."""
    points = [p for line in drawn for p in line.points]
    if not points:
        return ""
    left, right, top, bottom = 52, frame.width - 24, 26, frame.height - 42
    first, last = min(p.x for p in points), max(p.x for p in points)
    ys = [v for p in points if p.x >= first + frame.fit * (last - first) for v in p.values()] + [0.0] * frame.zero
    y = scale(min(ys), max(ys), bottom, top)
    names = [*map(str, frame.places)]
    x = Scale(-0.4, len(names) - 0.6, left, right, range(len(names))) if names else scale(first, last, left, right, tight=True)
    parts = [_text("l b", 4, 15, frame.title)]
    for v in y.marks:
        parts.append(f'<path d="M{left} {y(v):.1f}H{right}" stroke="{"#888" if v == 0 and frame.zero else "#e8e8e8"}"/>')
        parts.append(_text("r s", left - 5, y(v) + 4, number(v), ' fill="#555"'))
    for v in x.marks:
        parts.append(f'<path d="M{x(v):.1f} {bottom}v4" stroke="#555"/>')
        parts.append(_text("s", x(v), bottom + 16, names[int(v)] if names else number(v), ' fill="#555"'))
    parts.append(f'<path d="M{left} {top}V{bottom}H{right}" stroke="#555" fill="none"/>')
    parts.append(_text("s", (left + right) / 2, bottom + 34, frame.x))
    parts.append(_text("s", 0, 0, frame.y, f' transform="translate(12 {(top + bottom) / 2:g}) rotate(-90)"'))
    # An inner SVG clips what exceeds it; a dot on the edge stays complete.
    x0, y0, width, height = left - 5, top - 5, right - left + 10, bottom - top + 10
    inner = "".join(_line(line, x, y) for line in drawn)
    parts.append(f'<svg x="{x0}" y="{y0}" width="{width}" height="{height}" viewBox="{x0} {y0} {width} {height}">{inner}</svg>')
    return _svg(frame.width, frame.height, parts)


def _line(line: Line, x: Scale, y: Scale) -> str:
    parts = []
    if line.joined and len(line.points) > 1:
        path = "L".join(f"{x(p.x):.1f} {y(p.y):.1f}" for p in line.points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="{2 if line.dots else 1}"/>')
    for p in line.points:
        if p.low is not None and p.high is not None:
            parts.append(f'<path d="M{x(p.x):.1f} {y(p.low):.1f}V{y(p.high):.1f}" stroke="{line.colour}" opacity=".55"/>')
        if line.dots:
            parts.append(f'<circle cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="3.2" fill="{line.colour}"><title>{esc(p.about)}</title></circle>')
    # A line's tooltip is its name.
    moved = f' transform="translate({line.shift:g} 0)"' if line.shift else ""
    return f'<g opacity="{line.opacity:g}"{moved}><title>{esc(line.name)}</title>{"".join(parts)}</g>'


def intervals(title: str, x_name: str, rows: Sequence[tuple[str, Point | None]], width: int = 300, names: int = 110) -> str:
    """One row per name: the point's y as a dot, its interval as a bar, zero as a line; a row may have no point.

    Args:
        names: pixels for the names; 0 omits them, for a chart beside another one with the same rows.
    """
    ends = [v for _, p in rows if p is not None for v in p.values()]
    if not ends:
        return ""
    top, step = 26, 18
    bottom = top + step * len(rows)
    x = scale(min(0.0, *ends), max(0.0, *ends), names + 10, width - 12)
    parts = [_text("l b", names + 4, 15, title)]
    for v in x.marks:
        parts.append(f'<path d="M{x(v):.1f} {top}V{bottom}" stroke="{"#888" if v == 0 else "#e8e8e8"}"/>')
        parts.append(_text("s", x(v), bottom + 14, number(v), ' fill="#555"'))
    for n, (name, p) in enumerate(rows):
        y = top + step * (n + 0.5)
        if names:
            parts.append(_text("r s", names, y + 4, name))
        if p is None:
            continue
        bar, colour = "", "#777"
        if p.low is not None and p.high is not None:
            bar = f'<path d="M{x(p.low):.1f} {y:g}H{x(p.high):.1f}" stroke-width="2"/>'
            if p.low > 0 or p.high < 0:
                colour = COLOURS[2] if p.y < 0 else COLOURS[1]
        dot = f'<circle cx="{x(p.y):.1f}" cy="{y:g}" r="3.5"/>'
        parts.append(f'<g stroke="{colour}" fill="{colour}"><title>{esc(p.about)}</title>{bar}{dot}</g>')
    parts.append(_text("s", (names + width) / 2, bottom + 31, x_name))
    return _svg(width, bottom + 38, parts)


def key(entries: Sequence[tuple[str, str]]) -> str:
    """Legend of the colours: (name, colour)."""
    items = "".join(f'<li><i style="border-color:{colour}"></i>{esc(name)}</li>' for name, colour in entries)
    return f'<ul class="key">{items}</ul>' if items else ""


def charts(drawn: Sequence[str]) -> str:
    """Charts side by side, as many per row as fit."""
    return f'<div class="charts">{"".join(f"<figure>{d}</figure>" for d in drawn if d)}</div>' if any(drawn) else ""


def number(value: float) -> str:
    """As few digits as distinguish it from its neighbours on an axis."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 and float(value).is_integer() else f"{value:.4g}"


def _text(kind: str, x: float, y: float, text: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{more}>{esc(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return f'<svg width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">{"".join(parts)}</svg>'
