"""Progress: in a log whole lines, rarer as time goes by; at a terminal one line, gone at the end; jobs are summed up."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from kdtool.core import progress


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_of_a_log(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress.progress(range(100), 100, "features"):
        time.now += 9.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "features: 2/100 2%, 14:42 left" and "\r" not in "".join(lines)
    assert 20 < len(lines) < 50, "more than ten seconds apart, and rarer later"


def test_one_line_at_a_terminal(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        for _ in progress.progress(range(3), 3, "decode"):
            time.now += 1.0
        written = ""
        while not written.endswith(" \r"):
            written += os.read(ours, 1000).decode()
    os.close(ours)
    assert written.startswith("\rdecode: 1/3 33%, 0:02 left\rdecode: 2/3 66%, 0:01 left\r ") and "\n" not in written


def test_jobs_are_summed_up_from_their_logs(time: Time, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = [tmp_path / f"{j}.log" for j in range(3)]
    watch = progress.Watch("align", logs, 3)
    time.now = 20.0
    watch.look([0, 1])
    logs[0].write_text("# command\nalign, job 1: 5/20 25%, 0:30 left\nalign, job 1: 10/20 50%, 0:20 left\nalign, job 1: 15/2")
    logs[1].write_text("update 7 of 20\ntrain_student: 6/12 50%, ce 2.1, 0:10 left\n")
    watch.done = 1
    time.now = 30.0
    watch.look([0, 1])
    watch.look([0, 1])
    assert capsys.readouterr().err.splitlines() == ["align: 0 of 3 jobs done, 0%", "align: 1 of 3 jobs done, 67%, 0:15 left"]
