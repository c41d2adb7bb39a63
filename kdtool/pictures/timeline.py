"""Speech along a time axis.  In: samples and labelled intervals in seconds.  Out: parts of an SVG.

A timeline's x axis has a fixed number of pixels per second, so that parts drawn below one another are aligned.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdtool.pictures.page import esc
from kdtool.pictures.player import plays
from kdtool.pictures.sound import png, spectrogram, waveform

WAVE, SPECTRUM, TIER, AXIS = 60, 120, 26, 18  # heights in pixels


@dataclass(frozen=True)
class Mark:
    """A labelled interval, in seconds; ``about``: tooltip; ``faint``: silence and the like; ``sound``: id
    of the audio element in the page that a click plays, see ``player.py``."""

    label: str
    start: float
    end: float
    about: str
    fill: str = "#eef4fa"
    faint: bool = False
    sound: str = ""


@dataclass(frozen=True)
class Timeline:
    """An utterance from ``start`` to ``end``, seconds."""

    end: float
    scale: float  # pixels per second
    start: float = 0.0

    @property
    def width(self) -> int:
        """Total width in pixels."""
        return max(1, round((self.end - self.start) * self.scale))

    def svg(self, parts: Sequence[str], height: int, left: int = 0, least: int = 0) -> str:
        """The picture, with ``left`` pixels for names before the axis, and at least ``least`` pixels wide."""
        width = max(self.width + left + 12, least)  # the axis's last number sticks out
        return f'<svg width="{width}" height="{height}" viewBox="{-left} 0 {width} {height}">{"".join(parts)}</svg>'

    def sound(self, samples: np.ndarray, rate: int) -> list[str]:
        """Waveform and below it the spectrogram: the topmost WAVE + SPECTRUM pixels."""
        samples = self.cut(samples, rate)
        path = f'<path d="{waveform(samples, self.width, WAVE)}" stroke="#357" stroke-width="1" fill="none"/>'
        return [path, self.image(spectrogram(samples, rate), WAVE, SPECTRUM)]

    def cut(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """The samples of the shown part."""
        return samples[round(self.start * rate) : round(self.end * rate)]

    def image(self, grey: np.ndarray, top: float, height: float, crisp: bool = False) -> str:
        """A grey picture (uint8 (rows, columns)) over the whole axis; ``crisp``: its pixels stay rectangles."""
        data = base64.b64encode(png(grey)).decode()
        style = ' style="image-rendering:pixelated"' if crisp else ""
        return (
            f'<image x="0" y="{top:g}" width="{self.width}" height="{height:g}" preserveAspectRatio="none"{style} '
            f'href="data:image/png;base64,{data}"/>'
        )

    def tier(self, marks: Sequence[Mark], top: int, lines_from: int, colour: str) -> str:
        """A row of labelled intervals, and thin lines at their boundaries up to ``lines_from``."""
        parts = []
        for mark in marks:
            if mark.start >= self.end:
                break
            if mark.end <= self.start:
                continue
            low, high = max(mark.start - self.start, 0.0), min(mark.end, self.end) - self.start
            x, right = low * self.scale, high * self.scale
            played = plays(mark.sound, low, high) if mark.sound else ""
            parts.append(
                f'<g{played}><title>{esc(mark.about)}</title><rect x="{x:.1f}" y="{top}" width="{right - x:.1f}" height="{TIER}" '
                f'fill="{mark.fill}" stroke="{colour}" stroke-width=".6"/>'
                f'<path d="M{x:.1f} {lines_from}V{top}M{right:.1f} {lines_from}V{top}" stroke="{colour}" stroke-width=".7" opacity=".7"/>'
                f"{_label(mark, x, right, top)}</g>"
            )
        return "".join(parts)

    def axis(self, top: int) -> str:
        """Seconds, a tick per half second, AXIS pixels high."""
        return "".join(
            f'<path d="M{(t - self.start) * self.scale:.0f} {top}v4" stroke="#555"/>'
            f'<text x="{(t - self.start) * self.scale + (10 if t == self.start else 0):.0f}" y="{top + 15}" fill="#555">{t:.1f}</text>'
            for t in np.arange(np.ceil(2 * self.start) / 2, self.end + 1e-9, 0.5)
        )


def _label(mark: Mark, left: float, right: float, top: int) -> str:
    """The text, squeezed into its interval if it is too long."""
    room, wanted = right - left - 2, 7.5 * len(mark.label)
    squeeze = f' textLength="{max(room, 1):.1f}" lengthAdjust="spacingAndGlyphs"' if wanted > room else ""
    colour = "#999" if mark.faint else "#000"
    return f'<text x="{(left + right) / 2:.1f}" y="{top + 0.68 * TIER:.1f}" fill="{colour}"{squeeze}>{esc(mark.label)}</text>'
