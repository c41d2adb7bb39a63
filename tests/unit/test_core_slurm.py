"""The Slurm backend without Slurm: its configuration file, and replies that a real Slurm cannot be made to give at will.

The fake commands read what they answer from files; the real ones are tested in tests/slurm.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdtool.core import slurm, slurm_calls
from kdtool.core.array import Needs
from kdtool.core.errors import KdError, UsageError
from kdtool.core.jobs import run_commands
from kdtool.core.slurm_calls import ranges
from kdtool.core.slurm_conf import sbatch_options

ROOT = Path(__file__).resolve().parents[2]


def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Callable[[Needs], list[str]]:
    (tmp_path / "slurm.conf").write_text(text)
    monkeypatch.setenv("KD_SLURM_CONF", str(tmp_path / "slurm.conf"))
    return sbatch_options


def test_default_configuration_maps_memory_gpus_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KD_SLURM_CONF", raising=False)
    common = ["--ntasks=1", "--cpus-per-task=1"]
    assert sbatch_options(Needs()) == [*common, "--mem=2000M"]
    assert sbatch_options(Needs(4096, 2, "8:00:00")) == [*common, "--mem=4096M", "--gres=gpu:2", "--time=8:00:00"]


def test_a_sites_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = conf(tmp_path, monkeypatch, """
# comment
command sbatch --account 'my group' --comment="$(touch /tmp/never) `id`"   # and another
option mem=* --mem-per-cpu=$0
option gpu=0 --partition=cpu
option gpu=* --partition gpu --gres=gpu:$0
option time=*
default gpu=0
default time=1-00
""")  # fmt: skip
    common = ["--account", "my group", "--comment=$(touch /tmp/never) `id`"]
    assert own(Needs(mem=10)) == [*common, "--mem-per-cpu=10M", "--partition=cpu"]
    assert own(Needs(gpu=1)) == [*common, "--partition", "gpu", "--gres=gpu:1"]


@pytest.mark.parametrize(("line", "says"), [
    ("command srun -p x", "expected is"), ("option disk=* --tmp=$0", "expected is"), ("x", "expected is"),
    ("default gpu=one", "number of GPUs"), ("default mem=much", "a size"), ("option gpu='", "closing quotation"),
    ("command sbatch --array=1-3", "toolkit's own"), ("option gpu=* --output x", "toolkit's own"),
])  # fmt: skip
def test_bad_lines_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"slurm\.conf, line 2: .*{says}"):
        conf(tmp_path, monkeypatch, f"# first\n{line}\n")(Needs())


def test_missing_file_and_missing_option_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"a job needs gpu=1, and there is no line"):
        conf(tmp_path, monkeypatch, "option mem=* --mem=$0")(Needs(gpu=1))
    monkeypatch.setenv("KD_SLURM_CONF", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="KD_SLURM_CONF"):
        sbatch_options(Needs())


def test_ranges() -> None:
    assert [ranges(n) for n in ([1], [1, 2], [3, 1, 2, 7], [1, 3, 4, 9])] == ["1", "1-2", "1-3,7", "1,3-4,9"]


# sbatch runs the tasks at once unless the file 'lazy' is there; the others say what the files "answer" and "error" hold.
FAKE = f"""#!{sys.executable}
import os, pathlib, subprocess, sys, time
here = pathlib.Path(__file__).parent
name = pathlib.Path(sys.argv[0]).name
with open(here / "calls", "a") as f:
    f.write(" ".join([name, *sys.argv[1:]]) + "\\n")
if name == "sbatch":
    if (here / "refuses").exists():
        sys.exit("sbatch: error: Batch job submission failed: Invalid account")
    if not (here / "lazy").exists():
        task = [a for a in sys.argv if a.startswith("--array=")][0].split("=")[1].split("%")[0]
        script = [i for i, a in enumerate(sys.argv) if a.endswith("/script")][0]
        subprocess.run(["sh", *sys.argv[script:]], env={{**os.environ, "SLURM_ARRAY_TASK_ID": task}})
    print("17;somewhere")
if name == "squeue":
    if (here / "error").exists():
        sys.exit((here / "error").read_text())
    print((here / "answer").read_text() if (here / "answer").exists() else "")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("KD_BACKEND", "slurm")
    monkeypatch.setattr(slurm, "ASK", (0.2, 0.5))
    monkeypatch.setattr(slurm, "STATUS_DELAY", 1.5)
    monkeypatch.setattr(slurm, "SILENCE", 2.0)
    return folder


def run(tmp_path: Path, *command: str) -> None:
    run_commands([command or ["true"]], [tmp_path / "log" / "1.log"], name="odd", at_once=1)


def test_sbatch_that_refuses_is_quoted_and_nothing_stays(fake: Path, tmp_path: Path) -> None:
    (fake / "refuses").touch()
    with pytest.raises(KdError, match=r"(?s)sbatch refused the array: .*Invalid account.*KD_SLURM_CONF"):
        run(tmp_path)
    assert "scancel --quiet --name=odd." in (fake / "calls").read_text()


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin" if not Path("/usr/bin/sbatch").exists() else str(tmp_path))
    for program in ("sh", "sleep"):
        (tmp_path / program).symlink_to(f"/bin/{program}")
    monkeypatch.setenv("KD_BACKEND", "slurm")
    with pytest.raises(UsageError, match="there is no sbatch here"):
        run(tmp_path)


def test_a_vanished_job_is_not_waited_for_for_ever(fake: Path, tmp_path: Path) -> None:
    (fake / "lazy").touch()
    (fake / "error").write_text("slurm_load_jobs error: Invalid job id specified")
    with pytest.raises(KdError, match=r"(?s)1 \(lost: unknown to Slurm\).*must be shared with the nodes"):
        run(tmp_path)
    assert sum(line.startswith("squeue ") for line in (fake / "calls").read_text().splitlines()) >= 2, "asked once more after a delay"


@pytest.mark.parametrize(("state", "told"), [
    ("NODE_FAIL None", "its node failed"), ("PREEMPTED None", "preempted"), ("BOOT_FAIL None", "its node did not boot"),
    ("OUT_OF_MEMORY OutOfMemory", "over its memory"), ("COMPLETED None", "lost: COMPLETED"), ("FAILED JobLaunchFailure", "lost: FAILED"),
])  # fmt: skip
def test_states_are_told(fake: Path, tmp_path: Path, state: str, told: str) -> None:
    (fake / "lazy").touch()
    (fake / "answer").write_text(f"1 {state}\n")
    with pytest.raises(KdError, match=rf"1 of 1 jobs failed: 1 \({told}"):
        run(tmp_path)


def test_a_kill_inside_the_job_is_told_with_slurms_reason(fake: Path, tmp_path: Path) -> None:
    killed = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    for state, told in (("OUT_OF_MEMORY OutOfMemory", "over its memory"), ("FAILED NonZeroExitCode", "signal 9")):
        (fake / "answer").write_text(f"1 {state}\n")
        with pytest.raises(KdError, match=rf"failed: 1 \({told}\)"):
            run(tmp_path, *killed)


def test_a_late_status_file_counts(
    fake: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file comes after Slurm has said COMPLETED, half of it first, as over a network's file system."""
    monkeypatch.setattr(slurm, "STATUS_DELAY", 240.0)
    (fake / "lazy").touch()
    (fake / "answer").write_text("1 COMPLETED None\n")
    code = f"""
import glob, json, os, pathlib, sys, time
while not (found := glob.glob({str(tmp_path)!r} + "/log/.jobs/*/*/spec.json")):
    time.sleep(0.05)
folder, calls = pathlib.Path(found[0]).parent, pathlib.Path({str(fake / "calls")!r})

def asked():
    return calls.read_text().count("squeue ") if calls.exists() else 0

while asked() < 2:
    time.sleep(0.02)
(folder / "stdout.1").write_text("late words")
(folder / "status.1").write_text('{{"status": 0, "ho')
before = asked()
while asked() < before + 2:
    time.sleep(0.02)
(folder / "status.1").write_text(json.dumps({{"status": 0, "host": "far", "seconds": 1}}))
"""
    node = subprocess.Popen([sys.executable, "-c", code])
    run(tmp_path)
    assert node.wait() == 0 and "late words" in capfd.readouterr().out
    assert not (tmp_path / "log/.jobs").exists()


@pytest.mark.parametrize("comes", [True, False])
def test_an_output_that_comes_late_is_waited_for(fake: Path, tmp_path: Path, comes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    late, looks = tmp_path / "late", 0
    monkeypatch.setattr(slurm, "STATUS_DELAY", 240.0 if comes else 0.5)

    def outputs(_: int) -> list[Path]:
        nonlocal looks
        looks += 1
        if comes and looks == 3:
            late.touch()
        return [late]

    def go() -> None:
        run_commands([["true"]], [tmp_path / "log" / "1.log"], name="odd", at_once=1, outputs=outputs)

    if comes:
        go()
        assert looks == 3
    else:
        with pytest.raises(FileNotFoundError, match="has not made it"):
            go()
        assert looks >= 2


def test_a_silent_controller_is_borne_then_told(fake: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (fake / "lazy").touch()
    (fake / "error").write_text("slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(KdError, match=r"(?s)Slurm has not answered for 2 s.*Unable to contact.*scancel --name=odd"):
        run(tmp_path)
    assert "Slurm does not answer" in capfd.readouterr().err


def test_a_job_that_ends_while_the_controller_is_silent_counts(fake: Path, tmp_path: Path) -> None:
    (fake / "error").write_text("slurm_load_jobs error: Unable to contact slurm controller")
    run(tmp_path, sys.executable, "-c", "pass")


def test_a_task_of_an_array_that_is_gone_does_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", slurm_calls.STARTER, str(ROOT), str(tmp_path / "gone"), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "whoever waited for this array is gone" in done.stderr


OPTIONS = (("--gpu", "x"), ("--time", "soon"), ("--mem", "lots"), ("--max-jobs", "0"), ("--disk", "3"))


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ROOT / "utils/launch.sh"), *arguments], capture_output=True, text=True, check=False)


def test_launcher_help_and_exit_statuses(tmp_path: Path) -> None:
    said = launch("--help")
    assert said.returncode == 0
    for word in ("JOB=1:4 exp/log/part.JOB.log my_command", "--max-jobs", "--mem", "--gpu", "--time", "KD_BACKEND", "exit status: 0"):
        assert word in said.stdout, word
    log = str(tmp_path / "JOB.log")
    assert launch("JOB=1:2", log, "true").returncode == 0
    assert launch("JOB=1:2", log, "false").returncode == 1
    good, before = ["JOB=1:2", log, "touch", str(tmp_path / "made")], sorted(os.listdir(tmp_path))
    for wrong in (good[:2], ["job=1:2", *good[1:]], ["JOB=1:2", "same.log", "true"], ["JOB=3:1", *good[1:]], ["--mem"], [],
                  ["--mem", *good], *([option, value, *good] for option, value in OPTIONS)):  # fmt: skip
        done = launch(*wrong)
        assert done.returncode == 2 and done.stderr.startswith("error: "), (wrong, done.stderr)
    assert sorted(os.listdir(tmp_path)) == before
