"""The recipe's command line and what Ctrl-C leaves behind.  In: run.sh as a user calls it.  Out: exit status and message."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = str(ROOT / "egs/mini_librispeech/run.sh")


def call(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, *argv], capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


@pytest.mark.parametrize(("argv", "status", "message"), [
    (["--no-such-option"], 2, "unknown option --no-such-option"),
    (["--stage", "0"], 2, "--stage 0: no such stage"),
    (["--stage", "99"], 2, "--stage 99: no such stage"),
    (["--stage", "$(id)"], 2, "no such stage"),
    (["--stop-stage", "nowhere"], 2, "--stop-stage nowhere: no such stage"),
    (["--stage", "decode", "--stop-stage", "corpus"], 2, "comes after"),
    (["--stage"], 2, "wants a value"),
    (["--nj", "none"], 2, "--nj none"),
    (["stray"], 2, "unexpected argument"),
    (["--help"], 0, ""),
    (["--list-stages"], 0, ""),
    (["--corpus", "nowhere", "--lm-text", "a", "--lexicon", "b"], 1, "nowhere: no such file or folder"),
    (["--corpus", "."], 2, "--corpus was given without --lm-text"),
])  # fmt: skip
def test_exit_status_and_message(argv: list[str], status: int, message: str, tmp_path: Path) -> None:
    done = call("--work", str(tmp_path / "w"), *argv, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    if status == 2:
        assert not (tmp_path / "w" / "exp").exists()


def test_two_runs_on_one_work_folder(tmp_path: Path) -> None:
    with open(tmp_path / ".lock", "w") as lock:
        holder = subprocess.Popen(["flock", "-n", str(tmp_path / ".lock"), "sleep", "30"])
        time.sleep(0.5)
        done = call("--tiny", "--work", str(tmp_path), "--stop-stage", "1")
        holder.terminate()
        holder.wait()
        assert done.returncode == 1 and "in use by another run" in done.stderr
        assert lock.name.endswith(".lock")


def test_ctrl_c_ends_every_child(tmp_path: Path) -> None:
    child = subprocess.Popen([RUN, "--tiny", "--work", str(tmp_path / "ctrl_c_here")], start_new_session=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    time.sleep(8)
    os.killpg(child.pid, signal.SIGINT)
    output, _ = child.communicate(timeout=30)
    assert child.returncode == 130, output
    assert "run the same command again" in output
    time.sleep(0.5)
    left = subprocess.run(["pgrep", "-f", "[c]trl_c_here"], capture_output=True, text=True, check=False)
    assert left.stdout == "", left.stdout
