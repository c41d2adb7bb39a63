"""Charts as inline SVG.  In: numbers with names.  Out: SVG text; tooltips show the numbers.

By hand: matplotlib would add 105 MB of packages and 0.7 s of start, and has no tooltips; its SVG is twice as long.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdtool.pictures.page import esc

# Okabe and Ito's colours, which colour-blind readers can distinguish; grey for the background.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a6d3b")
GREY = "#c4c4c4"
STYLE = """
svg text.l { text-anchor: start } svg text.r { text-anchor: end } svg text.s { font-size: 11px } svg text.b { font-weight: 600; fill: #000 }
.charts { display: flex; flex-wrap: wrap; gap: 14px 18px; margin: .6em 0 } .charts figure { margin: 0 }
.key { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: .4em 0; padding: 0; list-style: none; font-size: 13px }
.key i { display: inline-block; width: 18px; height: 0; border-top: 3px solid; vertical-align: middle; margin-right: 5px }
"""
ROW = 18  # height of a row of a chart of rows, pixels


@dataclass(frozen=True)
class Point:
    """x, y, tooltip, optionally an interval of y."""

    x: float
    y: float
    about: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A series of points; its tooltip is its name. ``dots``: whether each is marked; ``joined``: whether a line joins them; ``shift``:
    pixels to the right, for points that would hide others."""

    name: str
    points: Sequence[Point]
    colour: str
    opacity: float = 1.0
    dots: bool = True
    joined: bool = True
    shift: float = 0.0


@dataclass(frozen=True)
class Frame:
    """Axes and title of a chart.

    ``places``: names of x = 0, 1, .. instead of numbers; ``zero``: y = 0 is shown; ``fit``: the y axis fits the part right of this share
    of the x axis (0 to 1); the rest may exceed the chart. ``rows``: each x is a row, from the top, and y goes from left to right.
    ``left``: pixels left of the axes.
    """

    title: str
    x: str
    y: str
    width: int = 380
    height: int = 260
    places: Sequence[str] = ()
    zero: bool = False
    fit: float = 0.0
    rows: bool = False
    left: int = 52


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


def chart(frame: Frame, lines: Sequence[Line]) -> str:
    """A chart of lines; '' if there are no points."""
    points = [p for line in lines for p in line.points]
    if not points:
        return ""
    left, right, top, bottom = frame.left, frame.width - 24, 26, frame.height - 42
    ends = ((top, bottom), (left, right)) if frame.rows else ((left, right), (bottom, top))
    first, last = min(p.x for p in points), max(p.x for p in points)
    shown = [p for p in points if p.x >= first + frame.fit * (last - first)]
    values = [v for p in shown for v in (p.y, p.low, p.high) if v is not None] + [0.0] * frame.zero
    y = scale(min(values), max(values), *ends[1])
    count, pad = len(frame.places), 0.5 if frame.rows else 0.4
    x = Scale(-pad, count - 1 + pad, *ends[0], range(count)) if count else scale(first, last, *ends[0], tight=True)
    parts = [_text("l b", left if frame.rows else 4, 15, frame.title)]
    for axis in (y, x):
        for v in axis.marks:
            name, at = frame.places[int(v)] if axis is x and count else number(v), axis(v)
            colour = "#555" if axis is x else "#888" if v == 0 and frame.zero else "#e8e8e8"
            if (axis is x) == frame.rows:  # a tick of the upright axis
                parts.append(f'<path d="M{left} {at:.1f}H{left - 4 if axis is x else right}" stroke="{colour}"/>')
                parts.append(_text("r s", left - 6, at + 4, name))
            else:
                parts.append(f'<path d="M{at:.1f} {bottom}V{bottom + 4 if axis is x else top}" stroke="{colour}"/>')
                parts.append(_text("s", at, bottom + 16, name))
    parts.append(f'<path d="M{left} {top}V{bottom}H{right}" stroke="#555" fill="none"/>')
    below, beside = (frame.y, frame.x) if frame.rows else (frame.x, frame.y)
    parts.append(_text("s", (left + right) / 2, bottom + 34, below))
    parts.append(_text("s", 0, 0, beside, f' transform="translate(12 {(top + bottom) / 2:g}) rotate(-90)"') if beside else "")
    # An inner SVG clips what exceeds it; a dot on the edge stays complete.
    box = (left - 5, top - 5, right - left + 10, bottom - top + 10)
    inner = "".join(_line(line, x, y, frame.rows) for line in lines)
    parts.append('<svg x="{0}" y="{1}" width="{2}" height="{3}" viewBox="{0} {1} {2} {3}">'.format(*box) + f"{inner}</svg>")
    return f'<svg width="{frame.width}" height="{frame.height}" viewBox="0 0 {frame.width} {frame.height}">{"".join(parts)}</svg>'


def _line(line: Line, x: Scale, y: Scale, rows: bool) -> str:
    def place(across: float, value: float) -> tuple[float, float]:
        return (y(value), x(across)) if rows else (x(across), y(value))

    def path(places: Sequence[tuple[float, float]], more: str) -> str:
        return f'<path d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in places)}" fill="none" stroke="{line.colour}" {more}/>'

    parts = []
    if line.joined and len(line.points) > 1:
        parts.append(path([place(p.x, p.y) for p in line.points], f'stroke-width="{2 if line.dots else 1}"'))
    for p in line.points:
        if p.low is not None and p.high is not None:
            parts.append(path([place(p.x, p.low), place(p.x, p.high)], 'opacity=".55"'))
        if line.dots:
            a, b = place(p.x, p.y)
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.2" fill="{line.colour}"><title>{esc(p.about)}</title></circle>')
    moved = f' transform="translate({line.shift:g} 0)"' if line.shift else ""
    return f'<g opacity="{line.opacity:g}"{moved}><title>{esc(line.name)}</title>{"".join(parts)}</g>'


def charts(drawn: Sequence[str], colours: Sequence[tuple[str, str]] = ()) -> str:
    """Charts side by side, as many per row as fit, and a key of their colours: (name, colour)."""
    items = "".join(f'<li><i style="border-color:{colour}"></i>{esc(name)}</li>' for name, colour in colours)
    figures = "".join(f"<figure>{d}</figure>" for d in drawn if d)
    return f'<div class="charts">{figures}</div>' * bool(figures) + f'<ul class="key">{items}</ul>' * bool(items)


def number(value: float) -> str:
    """As few digits as distinguish it from its neighbours on an axis."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 and float(value).is_integer() else f"{value:.4g}"


def _text(kind: str, x: float, y: float, text: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" fill="#555"{more}>{esc(text)}</text>'
