"""The completion mechanism: up to date, what changed, whole or absent, killed and resumed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kdtool.core.cli import Common
from kdtool.core.digest import input_digest
from kdtool.core.errors import KdError
from kdtool.core.step import run_step


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = 3
    note: Path | None = None


def make(out: Path, source: Path, cfg: Config = Config(), force: bool = False, content: str = "x") -> bool:
    def body(work: Path) -> None:
        (work / "result").write_text(content * cfg.size + source.read_text())

    code = ("kdtool.core.progress",)
    return run_step("toy", out=out, inputs={"source": source}, options=cfg, code=code, body=body, common=Common(force=force))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("one")
    return path


def test_second_run_is_up_to_date_and_changes_name_their_cause(tmp_path, source, capsys):
    out = tmp_path / "exp" / "toy"
    assert make(out, source)
    assert not make(out, source)
    assert "toy: up to date" in capsys.readouterr().out
    os.utime(source, (1, 1))
    assert not make(out, source), "a new time stamp is not new content"
    source.write_text("two")
    assert make(out, source)
    assert "changed: input source" in capsys.readouterr().out
    assert make(out, source, Config(size=4))
    assert "option size 3 -> 4" in capsys.readouterr().out
    assert not make(out, source, Config(size=4, note=tmp_path)), "paths count as inputs or not at all"


def test_altered_output_is_made_again_and_refused_as_input(tmp_path, source, capsys):
    out = tmp_path / "toy"
    make(out, source)
    (out / "result").write_text("half")
    with pytest.raises(KdError, match="result has 4 bytes"):
        make(tmp_path / "next", out)
    assert make(out, source)
    assert "its output was altered" in capsys.readouterr().out


def test_interrupted_is_said_and_a_finished_folder_is_kept(tmp_path, source, capsys):
    out, work = tmp_path / "toy", tmp_path / ".toy.work"
    make(out, source)
    record = (out / ".done.json").read_text()
    # Killed before the record was there: it begins again. Killed before the renames: it is put in place.
    out.rename(work)
    (work / ".done.json").rename(work / ".key.json")
    assert make(out, source)
    assert "runs (interrupted, begins again)" in capsys.readouterr().out
    out.rename(work)
    (work / ".done.json").write_text(record)
    assert not make(out, source)
    said = capsys.readouterr().out
    assert "an interrupted run had finished it" in said and "up to date" in said
    # Killed between the two renames, after them, and in the removal of the old one.
    out.rename(tmp_path / ".toy.old")
    assert not make(out, source)
    shutil.copytree(out, tmp_path / ".toy.old")
    make(tmp_path / ".toy.old" / "nested", source)
    assert not make(out, source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source", "toy"] and (out / "nested" / "result").exists()


def test_an_input_that_changes_meanwhile_is_told(tmp_path, source):
    def body(work: Path) -> None:
        (work / "result").write_text(source.read_text())
        source.write_text("three")

    with pytest.raises(KdError, match="changed while the step ran: input source"):
        run_step("toy", out=tmp_path / "toy", inputs={"source": source}, options={}, code=(), body=body, common=Common())
    assert not (tmp_path / "toy").exists()


def test_two_processes_on_one_output(tmp_path, source):
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from kdtool.core.cli import Common, cli_main
        from kdtool.core.step import run_step

        def body(work):
            print("begun", flush=True)
            while not Path(sys.argv[3]).exists():
                time.sleep(0.02)
            (work / "result").write_text("whole")

        def main():
            common = Common(wait_lock=float(sys.argv[2]))
            run_step("toy", out=Path(sys.argv[1]), inputs={}, options={}, code=(), body=body, common=common)

        cli_main(main)
    """))

    def start(wait: str) -> subprocess.Popen[str]:
        argv = [sys.executable, str(script), str(tmp_path / "out"), wait, str(tmp_path / "go")]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    first = start("0")
    assert [first.stdout.readline(), first.stdout.readline()] == ["toy: runs (no output yet)\n", "begun\n"]
    second, third = start("0"), start("200")
    _, error = second.communicate()
    assert second.returncode == 1 and f"{tmp_path / 'out'} is in use by" in error and f"(pid {first.pid} on " in error
    assert "waiting up to 200 s" in third.stderr.readline()
    (tmp_path / "go").touch()
    output, _ = third.communicate()
    assert first.wait() == third.returncode == 0 and output == "toy: up to date\n"
    assert sorted(p.name for p in tmp_path.glob("*out*")) == ["out"]


def test_failure_leaves_the_old_output_and_nothing_that_counts(tmp_path, source):
    out = tmp_path / "toy"
    make(out, source)

    def broken(work: Path) -> None:
        (work / "result").write_text("half made")
        raise KdError("no")

    with pytest.raises(KdError):
        run_step("toy", out=out, inputs={"source": source}, options={"a": 1}, code=(), body=broken, common=Common())
    assert (out / "result").read_text() == "xxxone"
    with pytest.raises(KdError):
        run_step("toy", out=tmp_path / "new", inputs={"source": source}, options={}, code=(), body=broken, common=Common())
    assert not (tmp_path / "new").exists()


def test_nested_steps_stay_only_while_their_parent_stays_the_same(tmp_path, source):
    out = tmp_path / "toy"
    make(out, source)
    make(out / "nested", source)
    make(out, source, force=True)
    assert (out / "nested" / "result").exists()
    make(out, source, content="y")
    make(out, source, force=True, content="y")
    assert not (out / "nested").exists()


def test_missing_input(tmp_path):
    with pytest.raises(KdError, match="missing"):
        make(tmp_path / "toy", tmp_path / "nowhere")


def test_killed_run_is_resumed_in_its_folder(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from kdtool.core.cli import Common
        from kdtool.core.step import run_step

        def body(work):
            n = int((work / "count").read_text()) if (work / "count").exists() else 0
            (work / "count").write_text(str(n + 1))
            if n == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        run_step("toy", out=Path(sys.argv[1]), inputs={}, options={}, code=(), body=body, common=Common(), resumable=True)
    """))
    command = [sys.executable, str(script), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, check=False, env=environment).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert subprocess.run(command, check=False, env=environment).returncode == 0
    assert (tmp_path / "out" / "count").read_text() == "2"


def test_an_output_that_was_moved_away_and_linked_to_is_made_again_there(tmp_path: Path, source: Path) -> None:
    out, big = tmp_path / "exp" / "toy", tmp_path / "big" / "toy"
    make(out, source)
    big.parent.mkdir()
    out.rename(big)
    out.symlink_to(big)
    assert not make(out, source)
    assert make(out, source, Config(size=1))
    assert out.is_symlink() and (big / "result").read_text() == "xone"
    assert not make(out, source, Config(size=1))
    assert [os.listdir(f.parent) for f in (out, big)] == [["toy"], ["toy"]]


ROWS = '{"key": {"inputs": {}, "options": {}, "code": ""}, "outputs": {"result": 3}, "digest": ""}'


@pytest.mark.parametrize("record", ["[]", '{"key": 1, "outputs": {}, "digest": ""}', ROWS])
def test_a_record_of_other_things_is_broken(tmp_path: Path, source: Path, record: str, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "toy", source)
    (tmp_path / "toy" / ".done.json").write_text(record)
    with pytest.raises(KdError, match=r"broken, so nothing says that the folder is whole"):
        make(tmp_path / "next", tmp_path / "toy")
    assert make(tmp_path / "toy", source)
    assert "its record .done.json is broken" in capsys.readouterr().out


def test_folders_called_log_count_below_the_step_s_own(tmp_path: Path, source: Path) -> None:
    def body(work: Path) -> None:
        for name in ("log", "words/log"):
            (work / name).mkdir(parents=True)
            (work / name / "a").write_text("one")

    run_step("toy", out=tmp_path / "toy", inputs={}, options={}, code=(), body=body, common=Common())
    (tmp_path / "toy/log/a").write_text("other")
    input_digest(tmp_path / "toy", {}, {})
    (tmp_path / "toy/words/log/a").write_text("other")
    with pytest.raises(KdError, match=r"changed since it was made \(words/log/a"):
        input_digest(tmp_path / "toy", {}, {})
