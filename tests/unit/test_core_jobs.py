"""Arrays on this machine: cores and memory respected, kills named, finished jobs kept when and only when nothing changed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdtool.core import array, limits, pool
from kdtool.core.array import Array, Needs, checked, overridden
from kdtool.core.children import start
from kdtool.core.cli import Common
from kdtool.core.errors import KdError, UsageError
from kdtool.core.jobs import run_commands
from kdtool.core.parts import JOBS
from kdtool.core.step import run_step


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = 1


def python(code: str, *argv: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, argv)]


# Job J writes its number and how often it has been run, and fails while the file 'broken' names it.
JOB = """
import pathlib, sys
work, job, root = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
with open(root / f"runs.{job}", "a") as f:
    f.write("x")
(work / f"part.{job}").mkdir()
(work / f"part.{job}" / "text").write_text(f"{job} of {sys.argv[4]}")
broken = root / "broken"
sys.exit(3 if broken.exists() and job in broken.read_text().split() else 0)
"""


def step(root: Path, *, jobs: int = 3, size: int = 1, force: bool = False) -> None:
    def body(work: Path) -> None:
        commands = [python(JOB, work, j, root, jobs) for j in range(1, jobs + 1)]
        logs = [work / "log" / f"toy.{j}.log" for j in range(1, jobs + 1)]
        run_commands(commands, logs, name="toy", at_once=1, outputs=lambda j: [work / f"part.{j}"])
        (work / "all").write_text(" ".join((work / f"part.{j}" / "text").read_text() for j in range(1, jobs + 1)))

    run_step("toy", out=root / "out", inputs={"source": root / "source"}, options=Config(size), code=(), body=body,
             common=Common(force=force))  # fmt: skip


def runs(root: Path, jobs: int = 3) -> list[int]:
    return [len((root / f"runs.{j}").read_text()) if (root / f"runs.{j}").exists() else 0 for j in range(1, jobs + 1)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "source").write_text("1")
    (tmp_path / "broken").write_text("2")
    with pytest.raises(KdError, match=r"(?s)1 of 3 jobs failed: 2 \(exit status 3\).*redoes only"):
        step(tmp_path)
    assert runs(tmp_path) == [1, 1, 0]
    (tmp_path / "broken").unlink()
    return tmp_path


def test_only_what_is_not_done_is_redone(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    step(root)
    assert runs(root) == [1, 2, 1] and "1 of 3 jobs were done before" in capfd.readouterr().err
    assert (root / "out/all").read_text() == "1 of 3 2 of 3 3 of 3"
    assert sorted(os.listdir(root / "out/log")) == ["toy.1.log", "toy.2.log", "toy.3.log"]
    step(root)
    assert runs(root) == [1, 2, 1]


def test_nothing_is_kept_when_anything_changed(root: Path) -> None:
    (root / "source").write_text("2")
    step(root)
    assert runs(root) == [2, 2, 1]


@pytest.mark.parametrize("change", [{"size": 2}, {"force": True}, {"jobs": 2}])
def test_nothing_is_kept_for_other_options_other_jobs_or_force(root: Path, change: dict) -> None:
    step(root, **change)
    assert runs(root)[:2] == [2, 2]
    if "jobs" in change:
        assert (root / "out/all").read_text() == "1 of 2 2 of 2" and not (root / "out/part.3").exists()


@pytest.mark.parametrize("damage", ["content", "missing", "note", "outside"])
def test_a_damaged_part_is_made_again(root: Path, damage: str) -> None:
    note = next((root / ".out.work/log" / JOBS).glob("*/done.1.json"))
    part = root / ".out.work/part.1/text"
    if damage == "content":
        part.write_text("9 of 9")
    elif damage == "missing":
        part.unlink()
    elif damage == "note":
        note.write_text("{")
    else:
        note.write_text('{"../../source": "0"}')
    step(root)
    assert runs(root) == [2, 2, 1] and (root / "out/all").read_text() == "1 of 3 2 of 3 3 of 3"
    assert (root / "source").read_text() == "1"


def test_a_step_killed_while_it_sorts_the_parts_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kdtool.core.parts.clear", die)
        with pytest.raises(KeyboardInterrupt):
            step(root)
    step(root)
    assert runs(root) == [1, 2, 1]


def toy(tmp_path: Path, at_once: int, mem: int = 0) -> Array:
    return Array("toy", [], [], at_once, tmp_path / "jobs", Needs(mem=mem))


def test_cores_and_memory_bound_the_jobs_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 4)
    monkeypatch.setattr(pool, "free_memory", lambda: 3500)
    assert pool.jobs_at_once(toy(tmp_path, 8), 8) == 4 and pool.jobs_at_once(toy(tmp_path, 3), 8) == 3
    assert pool.jobs_at_once(toy(tmp_path, 8), 2) == 2 and pool.jobs_at_once(toy(tmp_path, 8, 500), 8) == 4
    assert not capsys.readouterr().err
    assert pool.jobs_at_once(toy(tmp_path, 8, 1000), 8) == 3
    assert "3 instead of 4 jobs at once" in capsys.readouterr().err
    assert pool.jobs_at_once(toy(tmp_path, 8, 10000), 8) == 1


def test_no_more_jobs_run_side_by_side_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 8)
    monkeypatch.setattr(pool, "free_memory", lambda: 2500)
    code = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]); (folder / f"begun.{os.getpid()}").touch()
while len(list(folder.glob("begun.*"))) < 2:
    time.sleep(0.02)
"""
    children: list[subprocess.Popen[bytes]] = []
    living: list[int] = []

    def start_and_count(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        children.append(start(command, log))
        living.append(sum(child.poll() is None for child in children))
        return children[-1]

    monkeypatch.setattr(pool, "start", start_and_count)
    logs = [tmp_path / f"{j}.log" for j in range(5)]
    run_commands([python(code, tmp_path)] * 5, logs, name="toy", at_once=5, needs=Needs(mem=1000))
    assert len(living) == 5 and max(living) == 2


@pytest.mark.parametrize(("files", "cores", "free"), [
    ({"proc/self/cgroup": "0::/a/b", "cg/a/cpu.max": "150000 100000", "cg/a/b/cpu.max": "max 100000",
      "cg/a/memory.max": "1048576000", "cg/a/memory.current": "943718400", "cg/a/memory.stat": "anon 1\ninactive_file 104857600"}, 2, 200),
    ({"proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n0::/",
      "cg/cpu/x/cpu.cfs_quota_us": "100000", "cg/cpu/x/cpu.cfs_period_us": "100000",
      "cg/memory/x/memory.limit_in_bytes": "524288000", "cg/memory/x/memory.usage_in_bytes": "104857600"}, 1, 400),
    ({"proc/self/cgroup": "0::/"}, 64, 8000),
])  # fmt: skip
def test_control_groups_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict, cores: int, free: int) -> None:
    for name, text in {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8192000 kB", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "cg").mkdir(exist_ok=True)
    monkeypatch.setattr(limits, "PROC", tmp_path / "proc")
    monkeypatch.setattr(limits, "CGROUP", tmp_path / "cg")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert (limits.cores(), limits.free_memory()) == (cores, free)


def test_this_machine_is_read() -> None:
    assert 1 <= limits.cores() <= (os.cpu_count() or 1) and limits.free_memory() > 0 and limits.memory_kills() >= 0


def test_a_kill_for_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = python("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(KdError, match=r"1 \(signal 9\)\nsomebody killed it"):
        run_commands([killed], [tmp_path / "log"], name="toy", at_once=1)
    counts = iter([5, 6])
    monkeypatch.setattr(pool, "memory_kills", lambda: next(counts))
    with pytest.raises(KdError, match=r"(?s)signal 9, killed by the kernel for memory.*estimate for a job is 700 MB.*KD_JOB_MEM"):
        run_commands([killed], [tmp_path / "log"], name="toy", at_once=1, needs=Needs(mem=700))


def test_needs_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_JOB_MEM", "4G")
    monkeypatch.setenv("KD_JOB_TIME", "1-12:00")
    assert overridden(Needs(mem=100, gpu=2)) == Needs(4096, 2, "1-12:00")
    for name, bad in (("KD_JOB_MEM", "lots"), ("KD_JOB_TIME", "1 hour"), ("KD_JOB_GPU", "-1")):
        with monkeypatch.context() as patch, pytest.raises(UsageError, match=name):
            patch.setenv(name, bad)
            overridden(Needs())
    assert [checked(t, None, None, "xyz", Needs()).mem for t in ("500", "500m", "1.5G", "1T", "100K")] == [500, 500, 1536, 1048576, 1]
    assert array.TIME.fullmatch("90") and array.TIME.fullmatch("8:00:00") and not array.TIME.fullmatch("8:00:00; id")


def test_unknown_backend_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_BACKEND", "pbs")
    with pytest.raises(UsageError, match="local and slurm"):
        run_commands([["true"]], [tmp_path / "log"], name="toy", at_once=1)
