"""Progress of long work, readable in a log file: one line at most every ten seconds, with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = int(seconds + 0.5)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def progress(items: Iterable[T], total: int, label: str, every: float = 10.0) -> Iterator[T]:
    """Pass the items through and report on stderr: 'label: 120/492 24%, 0:31 left'."""
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every and done < total:
            last = now
            left = (now - start) / done * (total - done)
            print(f"{label}: {done}/{total} {100 * done // total}%, {clock(left)} left", file=sys.stderr, flush=True)
