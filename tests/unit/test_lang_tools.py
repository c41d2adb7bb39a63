"""External programs: progress comes from the lines of their output, a failure shows their log, none outlives an interruption."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from kdtool.core import progress
from kdtool.core.errors import KdError
from kdtool.lang.tools import run_tool


def test_lines_of_the_output_are_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    said: list[tuple[str, int, int]] = []
    share = progress.Line.share

    def noted(line: progress.Line, label: str, done: int, total: int) -> None:
        share(line, label, done, total)
        said.append((label, done, total))
        if done == 2:
            (tmp_path / "go").touch()

    monkeypatch.setattr(progress.Line, "share", noted)
    script = f"echo a; echo b; until [[ -e {tmp_path}/go ]]; do sleep 0.02; done; echo c"
    run_tool(["bash", "-c", script], tmp_path / "log", stdout=tmp_path / "out", lines=("G2P words", 3))
    assert ("G2P words", 2, 3) in said and "G2P words: 2/3 66%, " in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"


def test_a_failure_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(KdError, match=r"(?s)bash failed \(exit status 3\).*the cause"):
        run_tool(["bash", "-c", "echo the cause >&2; exit 3"], tmp_path / "log", stdout=tmp_path / "out", lines=("x", 9))
    with pytest.raises(KdError, match=r"no-such-program cannot be started"):
        run_tool(["no-such-program"], tmp_path / "log")


def test_ctrl_c_ends_the_program(tmp_path: Path) -> None:
    def living() -> bool:
        return subprocess.run(["pgrep", "-f", "^sleep 612[.]25"], capture_output=True, check=False).returncode == 0

    def press(main: int) -> None:
        while not living():
            time.sleep(0.02)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=press, args=[threading.main_thread().ident], daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_tool(["sleep", "612.25"], tmp_path / "log")
    assert not living()
