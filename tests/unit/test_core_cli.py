"""Options, tables, tensors, jobs: the interface that users and steps rely on."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kdtool.core.cli import parse_args
from kdtool.core.dropped import account
from kdtool.core.errors import KdError, UsageError
from kdtool.core.jobs import run_commands, split
from kdtool.core.launch import expand
from kdtool.core.tables import open_text, read_jsonl, read_table, write_jsonl, write_table
from kdtool.core.tensors import load_metadata, load_tensors, save_tensors


@dataclasses.dataclass(frozen=True)
class Config:
    num_leaves: int = 800
    share: float = 0.02
    kind: str = "mfcc"
    flag: bool = False
    lm: Path | None = None
    heads: list = dataclasses.field(default_factory=list)


def parse(*argv: str) -> tuple[dict, Config, object]:
    return parse_args(Config, [("data", "in"), ("out", "out")], argv, prog="toy", description="Toy.")


def test_command_line_over_config_file_over_default(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("num_leaves: 20\nkind: fbank\nheads:\n  - {unit: phone}\n")
    paths, cfg, _ = parse("--config", str(config), "--num-leaves", "30", "--flag", "yes", "a", "b c; rm -rf $HOME")
    assert cfg == Config(num_leaves=30, kind="fbank", flag=True, heads=[{"unit": "phone"}])
    assert paths["out"] == Path("b c; rm -rf $HOME")


def test_the_later_config_wins_and_a_section_is_an_overlay(tmp_path):
    first, tiny = tmp_path / "a.yaml", tmp_path / "tiny.yaml"
    first.write_text("num_leaves: 20\nkind: fbank\n")
    tiny.write_text("tri: {num_leaves: 5}\nmono: {share: 0.5}\n")
    layers = [f"--config={layer}" for layer in (first, f"{tiny}:tri", f"{tiny}:no_such_section", f"{tmp_path}/absent.yaml?")]
    assert parse(*layers, "a", "b")[1] == Config(num_leaves=5, kind="fbank")
    with pytest.raises(UsageError, match="unknown mono, tri"):
        parse("--config", str(tiny), "a", "b")
    with pytest.raises(UsageError, match="no such file"):
        parse("--config", f"{tmp_path}/absent.yaml:tri", "a", "b")


def test_help_shows_defaults_as_a_user_gives_them(capsys):
    """Flags as true or false; nothing where an option is off without a value."""
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--flag FLAG (default: false) --lm LM --heads" in shown and "(default: 800)" in shown and "None" not in shown


@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_that_nobody_reads(lines):
    """'| head': one line on standard error, whether the output was still in the buffer or not."""
    code = f"from kdtool.core.cli import cli_main; import sys; sys.stdin.read(); cli_main(lambda: print('line\\n' * {lines}))"
    done = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done.stdout.close()
    done.stdin.close()
    told = done.stderr.read()
    assert done.wait() == 1 and told.startswith("error: -c: the reader of the output has ended") and told.count("\n") == 1, told


@pytest.mark.parametrize("argv", [
    ("--no-such", "1", "a", "b"), ("a",), ("--num-leaves", "many", "a", "b"), ("--num-leaves", "1.5", "a", "b"),
    ("--flag", "perhaps", "a", "b"), ("--config", "/nowhere.yaml", "a", "b"), ("--nj", "0", "a", "b"), ("--num", "3", "a", "b"),
    ("--heads", "{a: 1}", "a", "b"),
])  # fmt: skip
def test_usage_errors(argv):
    with pytest.raises(UsageError):
        parse(*argv)


@pytest.mark.parametrize("text", ["unknown_key: 1", "- a", "num_leaves: [1", "kind: !!python/object/apply:os.system ['true']"])
def test_bad_config_files(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError):
        parse("--config", str(tmp_path / "c.yaml"), "a", "b")


def test_tables_refuse_what_they_cannot_read(tmp_path):
    write_table(tmp_path / "t", {"b": 1, "a": 0})
    assert (tmp_path / "t").read_text() == "a 0\nb 1\n" and read_table(tmp_path / "t") == {"a": 0, "b": 1}
    for bad in ("a\n", "a 1\na 2\n", "a 1\nb 1\n", "a b\n"):
        (tmp_path / "t").write_text(bad)
        with pytest.raises(KdError, match="line"):
            read_table(tmp_path / "t")


def test_gzip_is_deterministic_and_broken_gzip_is_named(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_jsonl(tmp_path / name, [{"x": 1}] * 1000)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    (tmp_path / "a.gz").write_bytes((tmp_path / "b.gz").read_bytes()[:30])
    with pytest.raises(KdError, match=r"a\.gz"):
        list(read_jsonl(tmp_path / "a.gz"))


def test_nothing_half_written_stays(tmp_path):
    with pytest.raises(RuntimeError), open_text(tmp_path / "x", "w") as f:
        f.write("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_tensors_round_trip_with_sorted_metadata(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.int32).reshape(2, 3), "a": np.float32(2.0)}
    save_tensors(tmp_path / "x", arrays, {"z": "1", "y": "2"})
    save_tensors(tmp_path / "y", dict(reversed(arrays.items())), {"y": "2", "z": "1"})
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert load_metadata(tmp_path / "x") == {"z": "1", "y": "2"}
    assert (load_tensors(tmp_path / "x")["b"] == arrays["b"]).all() and load_tensors(tmp_path / "x")["a"].shape == ()


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 100])
def test_corrupt_tensor_file_is_named(tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(KdError, match=r"bad\.safetensors"):
        load_tensors(tmp_path / "bad.safetensors")


def test_account(tmp_path):
    account(10, 9, [("u1", "too\tshort")], max_share=0.1, where="toy", work=tmp_path)
    assert (tmp_path / "dropped.tsv").read_text() == "u1\ttoo short\n"
    one, two = [("u", "r")], [("u", "r"), ("v", "r")]
    for total, kept, dropped in ((10, 8, one), (10, 8, two), (1, 0, one), (0, 0, []), (4, 2, one * 2)):
        with pytest.raises(KdError):
            account(total, kept, dropped, max_share=0.1, where="toy", work=tmp_path)


def test_split_covers_everything_once():
    for n in range(7):
        assert [i for j in (1, 2, 3) for i in split(range(n), j, 3)] == list(range(n))


def test_failing_job_is_reported_with_log_and_redo(tmp_path):
    bad = [sys.executable, "-c", "import sys; print('the cause', file=sys.stderr); sys.exit(3)"]
    with pytest.raises(KdError, match=r"(?s)1 of 2 jobs failed: 2 \(exit status 3\).*the cause.*redo"):
        run_commands([[sys.executable, "-c", "pass"], bad], [tmp_path / "1", tmp_path / "2"], name="toy", at_once=2)


def test_the_redo_command_works_in_the_user_s_shell(tmp_path, monkeypatch):
    here = tmp_path / "a b"
    here.mkdir()
    monkeypatch.chdir(here)
    bad = [sys.executable, "-c", "import pathlib, kdtool.core; pathlib.Path('ran here').touch(); 1 / 0"]
    with pytest.raises(KdError) as e:
        run_commands([bad], [tmp_path / "1"], name="toy", at_once=1)
    redo = next(line for line in str(e.value).splitlines() if line.startswith("redo")).partition(": ")[2]
    (here / "ran here").unlink(missing_ok=True)
    done = subprocess.run(["bash", "-c", redo], cwd="/", env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr and (here / "ran here").exists(), done.stderr


def test_children_die_with_their_parent(tmp_path):
    child = "import time; time.sleep(600)"
    command = [sys.executable, "-c", child, f"marker-{tmp_path.name}"]
    parent = (f"from pathlib import Path; from kdtool.core.jobs import run_commands\n"
              f"run_commands([{command!r}], [Path({str(tmp_path / 'log')!r})], name='x', at_once=1)")  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=Path(__file__).parents[2])
    mine = ["pgrep", "-f", f"[m]arker-{tmp_path.name}$"]

    def wait_until(status: int) -> None:
        end = time.monotonic() + 240  # a guard against a hang
        while subprocess.run(mine, capture_output=True, check=False).returncode != status:
            assert time.monotonic() < end
            time.sleep(0.05)

    wait_until(0)
    process.kill()
    process.wait()
    wait_until(1)


def test_launcher_leaves_words_alone_that_only_hold_the_name(tmp_path):
    folder = str(tmp_path / "SYSTEMS" / "1SYS")
    launch = expand(["SYS=a,\\1", f"{folder}/x_SYS.log", "train", "--conf=SYS.yaml", f"{folder}/SYS,SYS_SYS"])
    assert launch.commands == [["train", f"--conf={v}.yaml", f"{folder}/{v},{v}_{v}"] for v in ("a", "\\1")]
    assert launch.logs == [Path(f"{folder}/x_{v}.log") for v in ("a", "\\1")]


def test_launcher_replaces_names_without_a_shell(tmp_path):
    command = [sys.executable, "-m", "kdtool.core.launch", "SYS=a,b", str(tmp_path / "SYS.log"), "touch", str(tmp_path / "SYS $(id)")]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == 0
    assert (tmp_path / "a $(id)").exists() and (tmp_path / "b $(id)").exists()
    assert subprocess.run(command[:4], cwd=Path(__file__).parents[2], check=False, capture_output=True).returncode == 2
    (tmp_path / "list").write_text("c\n\nd,e\n")
    command[3] = f"SYS=@{tmp_path}/list"
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == 0
    assert (tmp_path / "c $(id)").exists() and (tmp_path / "d,e $(id)").exists()
    (tmp_path / "list").write_text("\n")
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "list: no value in it" in done.stderr
