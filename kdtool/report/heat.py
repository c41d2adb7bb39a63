"""One utterance as a picture: sound, words and phones, and below them each model's posteriors per frame.

In: audio, alignment, maps.  Out: HTML with one SVG; all parts have the same time axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdtool.features.store import FRAME_SHIFT
from kdtool.formats.alignment import Alignment
from kdtool.pictures.page import esc
from kdtool.pictures.timeline import AXIS, SPECTRUM, TIER, WAVE, Mark, Timeline
from kdtool.report.posteriors import Map, Phones

LEFT, ROW, TITLE, LEAST = 52, 11, 24, 640  # pixels: phone names, a phone's row, a map's heading, smallest width
WIDEST, FASTEST, LONGEST = 1080, 400, 20.0  # pixels, pixels per second, seconds shown
SEEN = 0.1  # a phone below this in all maps that was not spoken has no row
GAMMA = 0.7  # of the greys, so that 0.1 differs visibly from 0


def picture(ali: Alignment, maps: Sequence[Map], phones: Phones, sound: tuple[np.ndarray, int] | None) -> str:
    """The whole picture; without ``sound`` (samples, rate) it begins with the alignment."""
    end = min(ali.num_frames * FRAME_SHIFT, LONGEST)
    line = Timeline(end, min(FASTEST, WIDEST / end))
    frames = round(end / FRAME_SHIFT)
    top = WAVE + SPECTRUM if sound else 0
    parts = line.sound(*sound) if sound else []
    segments = ali.phone_segments()
    units = [*zip(phones.row[segments.ids].tolist(), segments.start.tolist(), segments.length.tolist(), strict=True)]
    tiers = {"words": ([_mark(*word) for word in ali.words], "#c22"),
             "phones": ([_mark(phones.names[n], start, length, n in phones.silent) for n, start, length in units], "#27a")}  # fmt: skip
    for name, (marks, colour) in tiers.items():
        parts += [line.tier(marks, top, 0, colour), f'<text class="r s" x="-6" y="{top + 17}" fill="#555">{name}</text>']
        top += TIER
    parts.append(line.axis(top))
    top += AXIS + 4
    shown = rows_of(ali, maps, phones, frames)
    for one in maps:
        parts += _map(line, one, shown, ali, phones, units, top, frames)
        top += TITLE + ROW * len(shown) + 6
    parts.append(line.axis(top))
    return f'<div class="wide">{line.svg(parts, top + AXIS + 4, LEFT, LEAST)}</div>'


def rows_of(ali: Alignment, maps: Sequence[Map], phones: Phones, frames: int) -> list[int]:
    """The names (indices) that get a row, the same in all maps."""
    aligned = set(phones.row[ali.phone[:frames]].tolist())
    largest = np.max([np.zeros(len(phones.names)), *(np.nan_to_num(m.probs[:frames]).max(axis=0) for m in maps)], axis=0)
    return [n for n in range(len(phones.names)) if n in aligned or largest[n] >= SEEN]


def grey(probs: np.ndarray) -> np.ndarray:
    """Probabilities (T, N) -> uint8 (N, T): white is 0, black is 1, light grey for NaN."""
    level = 255.0 * (1.0 - np.clip(np.nan_to_num(probs), 0, 1) ** GAMMA)
    return np.where(np.isnan(probs), 225, np.round(level)).astype(np.uint8).T


def _map(
    line: Timeline, one: Map, shown: Sequence[int], ali: Alignment, phones: Phones, units: Sequence[Sequence[int]], top: int, frames: int
) -> list[str]:
    """One map with its title, the names of its rows, and the aligned phones (row, start, length) as red frames."""
    aligned = phones.row[ali.phone]
    spoken = ~np.isin(aligned, sorted(phones.silent))
    spoken[frames:] = False
    mean = one.of_aligned(aligned, spoken)
    parts = [f'<text class="l b" x="0" y="{top + 17}">{esc(one.title)}{"" if np.isnan(mean) else f" ({mean:.2f})"}</text>']
    top += TITLE
    parts.append(line.image(grey(one.probs[:frames, shown]), top, ROW * len(shown), crisp=True))
    for n, index in enumerate(shown):
        parts.append(f'<text class="r" x="-6" y="{top + ROW * (n + 0.5) + 3.5:g}" style="font-size:10px">{esc(phones.names[index])}</text>')
    for phone, start, length in (unit for unit in units if unit[1] < frames):
        probs = one.probs[start : min(start + length, frames), phone]
        first, last = start * FRAME_SHIFT, (start + len(probs)) * FRAME_SHIFT
        about = f"{phones.names[phone]} {first:.2f} to {last:.2f} s" + ("" if np.isnan(probs).any() else f": {probs.mean():.3f}")
        parts.append(
            f'<rect x="{first * line.scale:.1f}" y="{top + ROW * shown.index(phone)}" width="{len(probs) * FRAME_SHIFT * line.scale:.1f}" '
            f'height="{ROW}" fill="transparent" stroke="#e33" stroke-width=".8"><title>{esc(about)}</title></rect>'
        )
    parts.append(f'<rect x="0" y="{top}" width="{line.width}" height="{ROW * len(shown)}" fill="none" stroke="#888" stroke-width=".6"/>')
    return parts


def _mark(label: str, start: int, length: int, faint: bool = False) -> Mark:
    first, last = start * FRAME_SHIFT, (start + length) * FRAME_SHIFT
    return Mark(label, first, last, f"{label} {first:.2f} to {last:.2f} s", "#fff" if faint else "#eef4fa", faint)
