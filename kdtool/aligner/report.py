"""The report page.  In: aligned files and their audio.  Out: report.html, one file that needs no network.

Each file is shown with its sound (played by a click), waveform, spectrogram, word and phone boundaries with confidence, and words that
look wrong with what was recognised instead. All input text is escaped.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kdtool.aligner.times import LOOKS_WRONG, Aligned, Interval
from kdtool.core.tables import open_text
from kdtool.pictures import player
from kdtool.pictures.page import STYLE, Html, Table, document, esc
from kdtool.pictures.timeline import AXIS, SPECTRUM, TIER, WAVE, Mark, Timeline

PIXELS_A_SECOND = 240
LONGEST = 30.0  # seconds shown and embedded of one file
DOUBTFUL = 0.9  # confidence below which an interval is marked
OWN_STYLE = ".bad { color: #b00; font-weight: 600 }"


def choose(files: Sequence[Aligned], count: int, names: Sequence[str]) -> list[Aligned]:
    """The named files, or the `count` files with the worst fit, worst first."""
    if not names:
        return sorted(files, key=lambda a: (a.fit, a.llr, a.name))[:count]
    by_name = {a.name: a for a in files}
    for name in [n for n in names if n not in by_name]:  # a warning only: hours of alignment are not lost over a name
        print(f"note: --report-files {name}: not among the aligned files (named as in files.tsv, without suffix)", file=sys.stderr)
    return [by_name[n] for n in names if n in by_name]


def write_report(
    path: Path, files: Sequence[Aligned], shown: Sequence[Aligned], failed: Sequence[tuple[str, str]],
    read: Callable[[str], tuple[np.ndarray, int]],
) -> None:  # fmt: skip
    """Write the page; read(name) gives a file's (samples (1, n), rate)."""
    seconds, words = sum(a.duration for a in files), sum(len(a.words) for a in files)
    wrong, wrong_words = sum(a.wrong is not None for a in files), sum(a.wrong_words for a in files)
    parts = [
        f"<h1>Alignment of {len(files)} files</h1>",
        f'<p class="note">{seconds / 60:.1f} minutes, {words} words, {len(failed)} files failed; '
        f"{wrong} files and {wrong_words} words look wrong.</p>",
        f'<p class="note">Fit: how well the text fits the audio, from 1 to 0, against a free loop of all phones; what is below '
        f"{LOOKS_WRONG:g} looks wrong and is red. Log-likelihood ratio: of text and loop, nats per frame. Confidence: how certain "
        f"the boundaries are, given the text: mean posterior probability, over a word's frames, that the frame belongs to it; below "
        f"{DOUBTFUL:g} an interval is yellow. A click on a word, a phone or &#9654; plays it, one on the waveform plays from there.</p>",
        f"<h2>Not aligned</h2>{Table(['file', 'why'], failed).html()}" if failed else "",
        _index(shown, len(files)),
    ]
    for number, one in enumerate(shown):
        audio, rate = read(one.name)
        parts.append(_section(number, one, audio[0], rate))
    with open_text(path, "w") as f:
        f.write(document("Alignment report", parts, STYLE + player.STYLE + OWN_STYLE, player.SCRIPT))


def _index(shown: Sequence[Aligned], total: int) -> str:
    head = ["", "file", "seconds", "fit", "log-likelihood ratio", "words that look wrong", "confidence", "log-likelihood per frame"]
    rows = []
    for n, a in enumerate(shown):
        line = window(a)
        play = Html(f'<button{player.plays(f"sound{n}", 0.0, line.end - line.start)}>&#9654;</button>')
        fit = Html(f'<span class="bad">{a.fit:.3f}</span>') if a.wrong else f"{a.fit:.3f}"
        name = Html(f'<a href="#file{n}">{esc(a.name)}</a>')
        wrong = f"{a.wrong_words} of {len(a.words)}"
        rows.append([play, name, f"{a.duration:.2f}", fit, f"{a.llr:.2f}", wrong, f"{a.confidence:.3f}", f"{a.loglike:.2f}"])
    return f"<h2>Shown: {len(shown)} of {total} files</h2>{Table(head, rows, range(2, len(head))).html()}"


def window(one: Aligned) -> Timeline:
    """The part of a file that is shown: all, or LONGEST seconds around the worst fit."""
    start = 0.0
    if one.duration > LONGEST and (doubt := one.wrong):
        middle = (doubt.start + min(doubt.end, doubt.start + LONGEST)) / 2
        start = round(min(max(middle - LONGEST / 2, 0.0), one.duration - LONGEST), 1)
    return Timeline(min(one.duration, start + LONGEST), PIXELS_A_SECOND, start)


def _section(number: int, one: Aligned, audio: np.ndarray, rate: int) -> str:
    """One file's picture, its sound, and its text."""
    line, name = window(one), f"sound{number}"
    height = WAVE + SPECTRUM + 2 * TIER + AXIS
    body = [
        f"<g{player.follows(name, line.end - line.start)}>{''.join(line.sound(audio, rate))}</g>",
        line.tier(_marks(one.words, name), WAVE + SPECTRUM, 0, "#c22"),
        line.tier(_marks(one.phones, name), WAVE + SPECTRUM + TIER, WAVE, "#27a"),
        line.axis(height - AXIS),
        player.cursor(height - AXIS, line.scale),
    ]
    part = f" Shown: {line.start:g} to {line.end:g} s." if line.end - line.start < one.duration else ""
    return (
        f'<section><h2 id="file{number}">{esc(one.name)}</h2><p class="note">fit {one.fit:.3f}, log-likelihood ratio {one.llr:.2f}, '
        f"confidence {one.confidence:.3f}, {one.duration:.2f} s.{part}{_doubt(one, line, name)}</p>"
        f"{player.element(name, line.cut(audio, rate), rate)}<p>{' '.join(_word(w, line, name) for w in one.words)}</p>"
        f'<div class="wide">{line.svg(body, height)}</div></section>'
    )


def _doubt(one: Aligned, line: Timeline, name: str) -> str:
    """The worst fit of a file, as a sentence."""
    if not (d := one.wrong):
        return ""
    why = ", which fit better the other way round" if d.exchanged else ""
    place = f"<span{_plays(line, name, d.start, d.end)}>{d.start:.2f} to {d.end:.2f} s</span>"
    return f' <span class="bad">Looks wrong</span> from {place}: <b>{esc(d.words or "no word")}</b>{why}; heard <b>{esc(d.heard)}</b>.'


def _plays(line: Timeline, name: str, start: float, end: float) -> str:
    """Attributes that play the shown part of an interval on a click; empty if no part is shown."""
    low, high = max(start, line.start), min(end, line.end)
    return player.plays(name, low - line.start, high - line.start) if low < high else ""


def _word(word: Interval, line: Timeline, name: str) -> str:
    """One word of the text, as HTML."""
    bad = ' class="bad"' if word.wrong else ""
    return f'<span{bad}{_plays(line, name, word.start, word.end)} title="{esc(_about(word))}">{esc(word.label)}</span>'


def _about(item: Interval) -> str:
    """An interval's tooltip."""
    fit = f", fit {item.fit:.3f}, log-likelihood ratio {item.llr:.2f}, heard {item.heard}" if item.heard else ""
    return f"{item.label} {item.start:.3f} to {item.end:.3f} s, confidence {item.confidence:.3f}{fit}"


def _marks(items: Sequence[Interval], name: str) -> list[Mark]:
    """The intervals as drawn: silence faint, words that look wrong red, uncertain boundaries yellow."""
    marks = []
    for item in items:
        silent = item.label == "SIL"
        fill = "#fff" if silent else "#fbb" if item.wrong else "#fd9" if item.confidence < DOUBTFUL else "#eef4fa"
        marks.append(Mark(item.label, item.start, item.end, _about(item), fill, silent, name))
    return marks
