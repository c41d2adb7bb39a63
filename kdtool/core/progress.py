"""Progress of long work, with the remaining time: one line rewritten in place on a terminal, occasional lines in a log."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

S = TypeVar("S")
T = TypeVar("T")
EVERY = 10.0  # initial seconds between two lines of a log; later 5% of the elapsed time, at most five minutes
AT_TERMINAL = 0.5
TAIL = 4096  # bytes at the end of a job's log in which its last progress line is searched
PROGRESS = re.compile(rb"(\d+)%,[^\n]* left\n")


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = int(seconds + 0.5)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Line:
    """Destination of progress lines; `due` says when to print the next one."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.begun = self.last = time.monotonic()
        self.width = 0

    def spent(self) -> float:
        return time.monotonic() - self.begun

    def due(self) -> bool:
        every = AT_TERMINAL if self.terminal else min(300.0, max(EVERY, self.spent() / 20))
        return time.monotonic() - self.last >= every

    def say(self, text: str) -> None:
        self.last = time.monotonic()
        if self.terminal:
            columns = os.get_terminal_size(self.stream.fileno()).columns or 80
            print(f"\r{text[: columns - 1]:<{self.width}}", end="", file=self.stream, flush=True)
            self.width = min(len(text), columns - 1)
        else:
            print(text, file=self.stream, flush=True)

    def share(self, label: str, done: float, total: float) -> None:
        """Report if due: 'label: 120/492 24%, 0:31 left'."""
        if 0 < done < total and self.due():
            left = self.spent() / done * (total - done)
            self.say(f"{label}: {done:.0f}/{total:.0f} {100 * done // total:.0f}%, {clock(left)} left")

    def clear(self) -> None:
        """Erase the line from a terminal."""
        if self.width:
            print(f"\r{'':{self.width}}\r", end="", file=self.stream, flush=True)
            self.width = 0


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items and report on stderr."""
    line = Line()
    try:
        for done, item in enumerate(items, 1):
            yield item
            line.share(label, done, total)
    finally:
        line.clear()


def threaded(function: Callable[[S], T], items: Sequence[S], threads: int, label: str) -> list[T]:
    """The function's value for each item, in threads; on the system's error, such as a full disk, the rest is cancelled."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            return list(progress(pool.map(function, items), len(items), label))
        except OSError:
            pool.shutdown(cancel_futures=True)
            raise


class Watch:
    """Progress of jobs that report in their logs: 'name: 1 of 4 jobs done, 43%, 1:20 left'."""

    def __init__(self, name: str, logs: Sequence[Path], todo: int) -> None:
        self.name, self.logs, self.todo, self.done, self.line = name, logs, todo, 0, Line()

    def look(self, running: Iterable[int]) -> None:
        """Report if due; `running`: indices of the running jobs."""
        if not self.line.due():
            return
        share = (self.done + sum(last_share(self.logs[i]) for i in running)) / max(self.todo, 1)
        left = f", {clock(self.line.spent() / share * (1 - share))} left" if share > 0 else ""
        self.line.say(f"{self.name}: {self.done} of {self.todo} jobs done, {100 * share:.0f}%{left}")

    def clear(self) -> None:
        self.line.clear()


def last_share(log: Path) -> float:
    """Share of its work that a job has done, from the last progress line in its log; 0 if there is none yet."""
    try:
        with open(log, "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - TAIL))
            found = PROGRESS.findall(f.read())
    except OSError:  # on another machine the log may come late
        return 0.0
    return int(found[-1]) / 100 if found else 0.0
