"""External programs: their progress is told by the lines of their output, a failure ends with their log, none outlives an interruption."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from kdtool.core import progress
from kdtool.core.errors import KdError
from kdtool.lang.tools import run_tool


def test_lines_of_the_output_are_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    script = "echo a; echo b; sleep 1; echo c; sleep 0.2"
    run_tool(["bash", "-c", script], tmp_path / "log", stdout=tmp_path / "out", lines=("G2P words", 3))
    said = capsys.readouterr().err
    assert "G2P words: 2/3 66%, 0:0" in said and "3/3" not in said
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"


def test_a_failure_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(KdError, match=r"(?s)bash failed \(exit status 3\).*the cause"):
        run_tool(["bash", "-c", "echo the cause >&2; exit 3"], tmp_path / "log", stdout=tmp_path / "out", lines=("x", 9))
    with pytest.raises(KdError, match=r"no-such-program cannot be started"):
        run_tool(["no-such-program"], tmp_path / "log")


def test_ctrl_c_ends_the_program(tmp_path: Path) -> None:
    timer = threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_tool(["sleep", "61.25"], tmp_path / "log")
    left = subprocess.run(["pgrep", "-f", "^sleep 61[.]25"], capture_output=True, check=False)
    assert left.returncode == 1
