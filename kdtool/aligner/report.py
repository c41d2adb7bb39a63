"""The report page.  In: aligned files and their audio.  Out: report.html, one file that needs no network.

Of each shown file: waveform, spectrogram, word and phone boundaries with confidence. Everything that came from outside is escaped.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kdtool.aligner.times import Aligned, Interval
from kdtool.core.tables import open_text
from kdtool.pictures.page import document
from kdtool.pictures.timeline import AXIS, SPECTRUM, TIER, WAVE, Mark, Timeline

PIXELS_A_SECOND = 240
LONGEST = 30.0  # seconds shown of one file
DOUBTFUL = 0.9  # confidence below which an interval is marked

Sound = tuple[np.ndarray, int]  # samples, rate


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
        f.write(document("Alignment report", parts))


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
    line = Timeline(min(one.duration, LONGEST), PIXELS_A_SECOND)
    height = WAVE + SPECTRUM + 2 * TIER + AXIS
    body = [
        *line.sound(audio, rate),
        line.tier(_marks(one.words), WAVE + SPECTRUM, 0, "#c22"),
        line.tier(_marks(one.phones), WAVE + SPECTRUM + TIER, WAVE, "#27a"),
        line.axis(height - AXIS),
    ]
    cut = f" First {LONGEST:g} s." if line.end < one.duration else ""
    text = " ".join(w.label for w in one.words)
    return (
        f'<h2 id="file{number}">{html.escape(one.name)}</h2><p class="note">confidence {one.confidence:.3f}, {one.duration:.2f} s.{cut} '
        f"{html.escape(text)}</p>"
        f'<div class="wide">{line.svg(body, height)}</div>'
    )


def _marks(items: Sequence[Interval]) -> list[Mark]:
    """The intervals as they are drawn: silence faint, what is doubtful shaded."""
    marks = []
    for item in items:
        silent = item.label == "SIL"
        fill = "#fff" if silent else "#fd9" if item.confidence < DOUBTFUL else "#eef4fa"
        about = f"{item.label} {item.start:.3f} to {item.end:.3f} s, confidence {item.confidence:.3f}"
        marks.append(Mark(item.label, item.start, item.end, about, fill, silent))
    return marks
