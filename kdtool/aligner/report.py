"""The report page.  In: aligned files and their audio.  Out: report.html, one file that needs no network.

Of each shown file: waveform, spectrogram, word and phone boundaries with confidence. Everything that came from outside is escaped.
"""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kdtool.aligner.picture import png, spectrogram, waveform
from kdtool.aligner.times import Aligned, Interval
from kdtool.core.tables import open_text

PIXELS_A_SECOND = 240
LONGEST = 30.0  # seconds shown of one file
WAVE, SPECTRUM, TIER = 60, 120, 26
DOUBTFUL = 0.9  # confidence below which an interval is marked

Sound = tuple[np.ndarray, int]  # samples, rate

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222; background: #fff }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin: 2em 0 .3em; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto; border: 1px solid #ccc } svg { display: block } svg text { font: 12px system-ui, sans-serif; text-anchor: middle }
.note { color: #555; margin: .2em 0 }
"""


def choose(files: Sequence[Aligned], count: int, names: Sequence[str]) -> list[Aligned]:
    """The named files, or the `count` with the lowest confidence (then the lowest log-likelihood a frame)."""
    if not names:
        return sorted(files, key=lambda a: (a.confidence, a.loglike))[:count]
    by_name = {a.name: a for a in files}
    for name in [n for n in names if n not in by_name]:  # hours of alignment are not lost over a name
        print(f"note: --report-files {name}: not among the aligned files (named as in files.tsv, without suffix)", file=sys.stderr)
    return [by_name[n] for n in names if n in by_name]


def write_report(
    path: Path, files: Sequence[Aligned], shown: Sequence[Aligned], failed: Sequence[tuple[str, str]], samples: Callable[[str], Sound]
) -> None:
    """Write the page; samples(name) gives a file's (samples, rate)."""
    seconds = sum(a.duration for a in files)
    words = sum(len(a.words) for a in files)
    parts = [
        f"<h1>Alignment of {len(files)} files</h1>",
        f'<p class="note">{seconds / 60:.1f} minutes, {words} words, {len(failed)} files failed. Confidence: mean posterior probability, '
        f"over a word's frames, that the frame belongs to it; intervals below {DOUBTFUL:g} are shaded.</p>",
        _failures(failed),
        _index(shown, len(files)),
    ]
    parts += [_section(number, one, *samples(one.name)) for number, one in enumerate(shown)]
    with open_text(path, "w") as f:
        f.write('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Alignment report</title>')
        f.write(f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n")


def _failures(failed: Sequence[tuple[str, str]]) -> str:
    if not failed:
        return ""
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(reason)}</td></tr>" for name, reason in failed)
    return f"<h2>Not aligned</h2><table><tr><th>file</th><th>why</th></tr>{rows}</table>"


def _index(shown: Sequence[Aligned], total: int) -> str:
    rows = "".join(
        f'<tr><td><a href="#file{n}">{html.escape(a.name)}</a></td><td class="n">{a.duration:.2f}</td><td class="n">{a.confidence:.3f}</td>'
        f'<td class="n">{a.loglike:.2f}</td></tr>'
        for n, a in enumerate(shown)
    )
    head = '<tr><th>file</th><th class="n">seconds</th><th class="n">confidence</th><th class="n">log-likelihood a frame</th></tr>'
    return f"<h2>Shown: {len(shown)} of {total} files</h2><table>{head}{rows}</table>"


def _section(number: int, one: Aligned, audio: np.ndarray, rate: int) -> str:
    """One file's picture."""
    end = min(one.duration, LONGEST)
    audio = audio[: round(end * rate)]
    width = max(1, round(end * PIXELS_A_SECOND))
    height = WAVE + SPECTRUM + 2 * TIER + 18
    picture = base64.b64encode(png(spectrogram(audio, rate))).decode()
    body = [
        f'<path d="{waveform(audio, width, WAVE)}" stroke="#357" stroke-width="1" fill="none"/>',
        f'<image x="0" y="{WAVE}" width="{width}" height="{SPECTRUM}" preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>',
        _tier(one.words, end, WAVE + SPECTRUM, 0, "#c22"),
        _tier(one.phones, end, WAVE + SPECTRUM + TIER, WAVE, "#27a"),
        _axis(end, height - 18),
    ]
    cut = f" First {LONGEST:g} s." if end < one.duration else ""
    text = " ".join(w.label for w in one.words)
    return (
        f'<h2 id="file{number}">{html.escape(one.name)}</h2><p class="note">confidence {one.confidence:.3f}, {one.duration:.2f} s.{cut} '
        f"{html.escape(text)}</p>"
        f'<div class="wide"><svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{"".join(body)}</svg></div>'
    )


def _tier(items: Sequence[Interval], end: float, top: int, lines_from: int, colour: str) -> str:
    """A row of labelled intervals, and thin lines at their boundaries up to `lines_from`."""
    parts = []
    for item in items:
        if item.start >= end:
            break
        x, right = item.start * PIXELS_A_SECOND, min(item.end, end) * PIXELS_A_SECOND
        silent = item.label == "SIL"
        fill = "#fff" if silent else "#fd9" if item.confidence < DOUBTFUL else "#eef4fa"
        about = f"{item.label} {item.start:.3f} to {item.end:.3f} s, confidence {item.confidence:.3f}"
        parts.append(
            f'<g><title>{html.escape(about)}</title><rect x="{x:.1f}" y="{top}" width="{right - x:.1f}" height="{TIER}" fill="{fill}" '
            f'stroke="{colour}" stroke-width=".6"/><path d="M{x:.1f} {lines_from}V{top}M{right:.1f} {lines_from}V{top}" stroke="{colour}" '
            f'stroke-width=".7" opacity=".7"/>{_label(item.label, x, right, top, silent)}</g>'
        )
    return "".join(parts)


def _label(label: str, left: float, right: float, top: int, silent: bool) -> str:
    """The text, squeezed into its interval when it is too long for it."""
    room, wanted = right - left - 2, 7.5 * len(label)
    squeeze = f' textLength="{max(room, 1):.1f}" lengthAdjust="spacingAndGlyphs"' if wanted > room else ""
    colour = "#999" if silent else "#000"
    return f'<text x="{(left + right) / 2:.1f}" y="{top + 0.68 * TIER:.1f}" fill="{colour}"{squeeze}>{html.escape(label)}</text>'


def _axis(end: float, top: int) -> str:
    """Seconds, every half of one."""
    marks = np.arange(0, end + 1e-9, 0.5)
    return "".join(
        f'<path d="M{t * PIXELS_A_SECOND:.0f} {top}v4" stroke="#555"/>'
        f'<text x="{t * PIXELS_A_SECOND + (10 if t == 0 else 0):.0f}" y="{top + 15}" fill="#555">{t:.1f}</text>'
        for t in marks
    )
