"""Praat TextGrids.  In: tiers of intervals.  Out: a file in Praat's long text format, each tier from 0 to the duration."""

from collections.abc import Sequence
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text

Tier = tuple[str, Sequence[tuple[float, float, str]]]  # name, (start, end, label) in seconds


def fill(intervals: Sequence[tuple[float, float, str]], duration: float) -> list[tuple[float, float, str]]:
    """The intervals, with empty ones filling the gaps, from 0 to `duration`. Raises KdError: an interval overlaps the one before, is
    empty or leaves the file."""
    full: list[tuple[float, float, str]] = []
    at = 0.0
    for start, end, label in intervals:
        if not at <= start < end <= duration:
            raise KdError(f"interval {label!r} from {start} to {end} s follows {at} s in a file of {duration} s")
        if start > at:
            full.append((at, start, ""))
        full.append((start, end, label))
        at = end
    if at < duration:
        full.append((at, duration, ""))
    return full


def write_textgrid(path: Path, duration: float, tiers: Sequence[Tier]) -> None:
    """Write a TextGrid; gaps in a tier become empty intervals, as Praat requires."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {duration!r}",
             "tiers? <exists>", f"size = {len(tiers)}", "item []:"]  # fmt: skip
    for number, (name, intervals) in enumerate(tiers, 1):
        full = fill(intervals, duration)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}", "        xmin = 0",
                  f"        xmax = {duration!r}", f"        intervals: size = {len(full)}"]  # fmt: skip
        for n, (start, end, label) in enumerate(full, 1):
            lines += [f"        intervals [{n}]:", f"            xmin = {start or 0!r}", f"            xmax = {end!r}",
                      f"            text = {_quoted(label)}"]  # fmt: skip
    with open_text(path, "w") as f:
        f.write("\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
