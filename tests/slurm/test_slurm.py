"""Arrays in a real Slurm of one node: exact arguments, each way to fail reported separately, only failed jobs repeated, nothing left over.

The time limit's shortest value is a minute, so that job is started first and looked at last.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from one_node import OneNode

from kdtool.core.array import Needs
from kdtool.core.cli import Common
from kdtool.core.errors import KdError
from kdtool.core.jobs import run_commands
from kdtool.core.step import run_step

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = str(ROOT / "utils/launch.sh")


@pytest.fixture(scope="module")
def too_long(cluster: OneNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    log = tmp_path_factory.mktemp("time") / "J.log"
    command = [LAUNCH, "--time", "1", "--mem", "100M", "J=1:1", str(log), "sleep", "900"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    yield process
    process.terminate()
    process.wait(240)


@pytest.fixture(autouse=True)
def _started(too_long: subprocess.Popen[str]) -> None:
    """Every test of this file is run while that job runs."""


def wait_for(what: Callable[[], bool], seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.1)


def jobs_left(cluster: OneNode, name: str) -> list[str]:
    """State of the tasks that Slurm still has to end, of arrays whose label begins with `name`."""
    rows = [line.split() for line in cluster.call("squeue", "-h", "-r", "-o", "%j %T").splitlines()]
    return [row[1] for row in rows if row[0].startswith(name)]


ODD = [
    "", " ", "two words", "it's", '"quoted"', "a\nb\n", "$HOME", "$(touch /tmp/never)", "`id`", "*", "?[a]", "\\", "\\n", "%a %j %%", "--",
    "-x", "#SBATCH --mem=1", "é ∞", "tab\there", os.fsdecode(b"\xff\xfe"), "=", ";", "&", "| cat", "!", "~", "{a,b}", "\r",
]  # fmt: skip


def test_arguments_folders_and_environment_arrive_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b'c \"d\" %a $HOME \\n\n*"
    folder.mkdir()
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    monkeypatch.setenv("KD_ODD", "a\n b '\"$x")
    code = """
import json, os, sys
out = [list(os.fsencode(a)) for a in sys.argv[2:]]
json.dump([out, os.getcwd(), os.environ["KD_ODD"], os.environ["KD_BACKEND"]], open(sys.argv[1], "w"))
print("on stderr", file=sys.stderr)
"""
    out, log = folder / "argv", folder / "log %a" / "one.log"
    run_commands([[sys.executable, "-c", code, str(out), *ODD]], [log], name="odd $name\n", at_once=1)
    argv, where, odd, backend = json.loads(out.read_text())
    assert [bytes(a) for a in argv] == [os.fsencode(a) for a in ODD]
    assert (where, odd, backend) == (str(folder / "here"), "a\n b '\"$x", "local")
    assert log.read_text(errors="replace").endswith("on stderr\n")
    assert sorted(p.name for p in folder.iterdir()) == ["argv", "here", "log %a"] and [p.name for p in log.parent.iterdir()] == ["one.log"]


def test_standard_output_and_exit_status_of_the_launcher(tmp_path: Path) -> None:
    def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([LAUNCH, *arguments], capture_output=True, text=True, check=False)

    log = str(tmp_path / "JOB.log")
    needs = ("--max-jobs", "3", "--mem", "200M", "--time", "5", "--gpu", "0")
    done = launch(*needs, "JOB=1:3", log, "bash", "-c", "echo 'out JOB'; echo 'err JOB' >&2")
    assert done.returncode == 0 and sorted(done.stdout.splitlines()) == ["out 1", "out 2", "out 3"], done.stderr
    assert (tmp_path / "2.log").read_text().endswith("err 2\n")
    logs = [f"{n}.log" for n in (1, 2, 3)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [*(f".{log}.made" for log in logs), *logs], "notes say that the logs are ours"
    failed = launch("JOB=1:3", log, "bash", "-c", "echo cause >&2; [ JOB != 2 ] || exit 3")
    assert failed.returncode == 1 and "1 of 3 jobs failed: 2 (exit status 3)" in failed.stderr and "cause" in failed.stderr
    lost = launch("JOB=1:1", log, "no-such-program")
    assert lost.returncode == 1 and "1 (exit status 127)" in lost.stderr and "no-such-program: No such file" in lost.stderr
    huge = launch("--mem", "900T", "JOB=1:1", log, "true")
    assert huge.returncode == 1 and "sbatch refused" in huge.stderr and "Memory specification" in huge.stderr, huge.stderr


# Job J leaves a mark, waits for the others' marks, then does what the file 'deed.J' says.
JOB = """
import pathlib, sys, time
root, work, job = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
with open(root / f"runs.{job}", "a") as f:
    f.write("x")
while len(list(root.glob("runs.*"))) < 4:
    time.sleep(0.05)
(work / f"part.{job}").write_text(job)
deed = (root / f"deed.{job}").read_text()
if deed == "exit":
    sys.exit(3)
if deed == "grow":
    block = bytearray(400 << 20)
if deed in ("grow", "sleep"):
    time.sleep(900)
"""


@dataclasses.dataclass(frozen=True)
class Nothing:
    pass


def make(root: Path) -> None:
    def body(work: Path) -> None:
        commands = [[sys.executable, "-c", JOB, str(root), str(work), str(j)] for j in (1, 2, 3, 4)]
        logs = [work / "log" / f"four.{j}.log" for j in (1, 2, 3, 4)]
        run_commands(commands, logs, name="four", at_once=4, needs=Needs(mem=200), outputs=lambda j: [work / f"part.{j}"])
        (work / "all").write_text("".join((work / f"part.{j}").read_text() for j in (1, 2, 3, 4)))

    run_step("four", out=root / "out", inputs={}, options=Nothing(), code=(), body=body, common=Common())


def test_each_way_to_fail_is_told_and_only_those_jobs_are_redone(cluster: OneNode, tmp_path: Path) -> None:
    for j, deed in zip((1, 2, 3, 4), ("", "exit", "sleep", "grow"), strict=True):
        (tmp_path / f"deed.{j}").write_text(deed)

    def cancel() -> None:
        wait_for(lambda: len(list(tmp_path.glob("runs.*"))) == 4)
        rows = [line.split() for line in cluster.call("squeue", "-h", "-t", "RUNNING", "-o", "%j %K %F").splitlines()]
        cluster.call("scancel", next(f"{row[2]}_3" for row in rows if row[0].startswith("four.") and row[1] == "3"))

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(KdError) as e:
        make(tmp_path)
    thread.join()
    jobs = "2 (exit status 3), 3 (cancelled: by scancel or an administrator), 4 (over its memory of 200 MB)"
    assert str(e.value).splitlines()[0] == f"four: 3 of 4 jobs failed: {jobs}", e
    for j in (2, 3, 4):
        (tmp_path / f"deed.{j}").write_text("")
    make(tmp_path)
    assert [(tmp_path / f"runs.{j}").read_text() for j in (1, 2, 3, 4)] == ["x", "xx", "xx", "xx"]
    assert (tmp_path / "out/all").read_text() == "1234"


RECIPE = """here={root}/egs/mini_librispeech
source "$here/path.sh"
source "$KD_ROOT/utils/recipe.sh"
opt=([work]="") stages=(one) about=([one]="an array")
one() {{ "$KD_ROOT/utils/launch.sh" W=1:3 W.log bash -c '{command}'; }}
recipe_options "$@"
recipe_run
"""


def waiter(tmp_path: Path) -> subprocess.Popen[str]:
    """A launcher whose jobs sleep; returns when two of them run."""
    command = [LAUNCH, "W=1:3", str(tmp_path / "W.log"), "bash", "-c", f"touch {tmp_path}/runs.W; sleep 900"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("runs.*"))) == 2)
    return process


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, False)])
def test_a_signal_cancels_the_array(cluster: OneNode, tmp_path: Path, number: signal.Signals, to_all: bool) -> None:
    """Ctrl-C reaches the whole group; kill, a batch system and a closed terminal may reach the launcher alone."""
    process = waiter(tmp_path)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130 and "run the same command again" in said
    assert jobs_left(cluster, "W_1_3") == []


def test_a_signal_to_a_recipe_cancels_its_arrays(cluster: OneNode, tmp_path: Path) -> None:
    work = tmp_path / "work"
    recipe = tmp_path / "run.sh"
    recipe.write_text(RECIPE.format(root=ROOT, command=f"touch {tmp_path}/runs.W; sleep 900"))
    process = subprocess.Popen(["bash", recipe, "--work", work], stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("runs.*"))) == 2)
    process.terminate()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130 and said.endswith("interrupted; run the same command again to go on\n")
    wait_for(lambda: jobs_left(cluster, "W_1_3") == [])


def test_the_array_ends_when_the_waiting_process_is_killed(cluster: OneNode, tmp_path: Path) -> None:
    process = waiter(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: jobs_left(cluster, "W_1_3") == [])


def test_an_array_that_outlived_its_guard_too_is_cancelled_by_the_next_run(cluster: OneNode, tmp_path: Path) -> None:
    process = waiter(tmp_path)
    guards = subprocess.run(["pgrep", "-P", str(process.pid), "-x", "sh"], capture_output=True, text=True, check=True).stdout.split()
    for pid in [*map(int, guards), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert len(jobs_left(cluster, "W_1_3")) == 3
    done = subprocess.run([LAUNCH, "W=1:1", str(tmp_path / "W.log"), "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "an earlier run left the array W_1_3" in done.stderr, done.stderr
    assert jobs_left(cluster, "W_1_3") == [] and not (tmp_path / ".jobs").exists()


def test_a_killed_owner_leaves_no_daemon_and_two_clusters_do_not_meet(cluster: OneNode) -> None:
    code = f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r}); from one_node import OneNode\n"
    code += "with OneNode() as n: print(n.folder, flush=True); time.sleep(900)"
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert owner.stdout
    folder = owner.stdout.readline().strip()
    env = {**cluster.env, "SLURM_CONF": f"{folder}/slurm.conf"}
    subprocess.run(["sbatch", "--chdir=/", "--output=/dev/null", "--wrap", "sleep 900"], env=env, check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: "RUNNING" in subprocess.run(["squeue", "-h", "-o", "%T"], env=env, capture_output=True, text=True, check=True).stdout)
    os.killpg(owner.pid, signal.SIGKILL)
    owner.wait()

    def mine() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if folder.encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
        return found

    wait_for(lambda: mine() == [] and not Path(folder).exists())


def test_a_job_over_its_time_limit_is_told(too_long: subprocess.Popen[str]) -> None:
    _, said = too_long.communicate(timeout=400)
    assert too_long.returncode == 1 and "1 (over its time limit)" in said and "KD_JOB_TIME" in said, said
