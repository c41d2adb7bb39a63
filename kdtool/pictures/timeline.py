"""Speech along a time axis.  In: samples and labelled intervals in seconds.  Out: parts of an SVG.

A timeline's x axis has a fixed number of pixels per second, so that parts drawn below one another are aligned.
"""

import base64
import itertools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdtool.pictures.page import esc
from kdtool.pictures.player import plays

WAVE, SPECTRUM, TIER, AXIS = 60, 120, 26, 18  # heights in pixels
RANGE_DB, BANDS, TOP_HZ = 60.0, 96, 8000  # of a spectrogram: levels shown, rows, highest frequency
HOP, WINDOW = 0.004, 0.012  # its columns, seconds


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
    """An utterance from ``start`` to ``end``, seconds; ``scale``: pixels per second."""

    end: float
    scale: float
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
        style = ' style="image-rendering:pixelated"' if crisp else ""
        return (
            f'<image x="0" y="{top:g}" width="{self.width}" height="{height:g}" preserveAspectRatio="none"{style} '
            f'href="data:image/png;base64,{base64.b64encode(png(grey)).decode()}"/>'
        )

    def tier(self, marks: Sequence[Mark], top: int, lines_from: int, colour: str) -> str:
        """A row of labelled intervals, and thin lines at their boundaries up to ``lines_from``."""
        parts = []
        for mark in (m for m in marks if m.start < self.end and m.end > self.start):
            low, high = max(mark.start - self.start, 0.0), min(mark.end, self.end) - self.start
            x, right = low * self.scale, high * self.scale
            room, needed = right - x - 2, 7.5 * len(mark.label)  # a text that is too long is squeezed
            squeeze = f' textLength="{max(room, 1):.1f}" lengthAdjust="spacingAndGlyphs"' if needed > room else ""
            parts.append(
                f'<g{plays(mark.sound, low, high) if mark.sound else ""}><title>{esc(mark.about)}</title>'
                f'<rect x="{x:.1f}" y="{top}" width="{right - x:.1f}" height="{TIER}" '
                f'fill="{mark.fill}" stroke="{colour}" stroke-width=".6"/>'
                f'<path d="M{x:.1f} {lines_from}V{top}M{right:.1f} {lines_from}V{top}" stroke="{colour}" stroke-width=".7" opacity=".7"/>'
                f'<text x="{(x + right) / 2:.1f}" y="{top + 0.68 * TIER:.1f}" fill="{"#999" if mark.faint else "#000"}"{squeeze}>'
                f"{esc(mark.label)}</text></g>"
            )
        return "".join(parts)

    def axis(self, top: int) -> str:
        """Seconds, a tick per half second, AXIS pixels high."""
        return "".join(
            f'<path d="M{(t - self.start) * self.scale:.0f} {top}v4" stroke="#555"/>'
            f'<text x="{(t - self.start) * self.scale + (10 if t == self.start else 0):.0f}" y="{top + 15}" fill="#555">{t:.1f}</text>'
            for t in np.arange(np.ceil(2 * self.start) / 2, self.end + 1e-9, 0.5)
        )


def png(grey: np.ndarray) -> bytes:
    """An 8-bit greyscale PNG; grey: uint8 (rows, columns), the first row on top."""
    rows, columns = grey.shape
    raw = np.concatenate([np.zeros((rows, 1), np.uint8), grey], axis=1).tobytes()  # a filter byte before each row
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Grey levels, dark is loud: uint8 (BANDS, columns), low frequencies at the bottom, one column per HOP seconds.

    Short windows, as phoneticians use: glottal pulses and releases show. Levels are from the file's loudest point
    down to RANGE_DB below.
    """
    hop, size = max(1, round(HOP * rate)), round(WINDOW * rate)
    padded = np.pad(np.diff(samples.astype(np.float64), prepend=0.0), size // 2)
    columns = max(1, (len(padded) - size) // hop + 1)
    index = np.arange(size)[None] + hop * np.arange(columns)[:, None]
    power = np.abs(np.fft.rfft(padded[index] * np.hanning(size), 512)) ** 2
    edges = np.linspace(0, min(TOP_HZ, rate / 2) / rate * 512, BANDS + 1)
    bands = np.stack([power[:, int(a) : max(int(b), int(a) + 1)].mean(axis=1) for a, b in itertools.pairwise(edges)])
    level = 10 * np.log10(bands + 1e-12)
    return np.asarray(255 - 255 * np.clip((level - level.max()) / RANGE_DB + 1, 0, 1))[::-1].astype(np.uint8)


def waveform(samples: np.ndarray, width: int, height: float) -> str:
    """Data of an SVG path: the range of the samples in each of `width` columns, scaled to the loudest one."""
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    scale = 0.5 * height / max(float(np.abs(samples).max()), 1e-9)
    pieces = [samples[a : max(b, a + 1)] for a, b in itertools.pairwise(edges)]
    return "".join(f"M{x} {0.5 * height - scale * float(piece.max()):.1f}V{0.5 * height - scale * float(piece.min()) + 0.3:.1f}"
                   for x, piece in enumerate(pieces))  # fmt: skip
