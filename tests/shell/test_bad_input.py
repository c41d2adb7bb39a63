"""Every kind of bad input: a non-zero exit, one message that names the file or utterance and what to do, no unfinished output.

Each row of a table is one case. Where it is cheap, the input is then fixed and the same command must succeed.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_input_cases import AUDIO, CORPUS, CORRUPT, DECODES, FEATURES, FRAMES, LANGUAGE, NESTED, STUDENTS, TEST_SETS, USAGE, UTT
from bad_input_changes import Change
from bad_input_data import ROOT, STEPS, Caller, child, command, processes_of, run_sh, spoil, without_privilege, write_audio, write_world


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_world(root)
    return root


@pytest.fixture
def world(sound: Path, tmp_path: Path) -> Path:
    """A copy to spoil; times are kept, so what was made stays up to date."""
    return Path(shutil.copytree(sound, tmp_path / "w"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(monkeypatch, capsys)


def check(done: tuple[int, str], out: Path, *words: str, status: int = 1) -> None:
    """The exit status, every part of the message, no traceback, and no output that a later run would take for whole."""
    assert done[0] == status, done[1]
    assert "Traceback" not in done[1], done[1]
    for word in words:
        assert word in done[1], done[1]
    assert not out.exists() or not list(out.glob("**/.done.json")), list(out.iterdir())


@pytest.mark.parametrize("options", [[], ["--max-utts", "4"]], ids=["whole", "limited"])
@pytest.mark.parametrize(("change", "words"), [row[1:] for row in CORPUS], ids=[row[0] for row in CORPUS])
def test_corpus(change: Change, words: list[str], options: list[str], world: Path, sound: Path, call: Caller) -> None:
    change(world)
    check(call("corpus", world, *options), world / "out", *words)
    shutil.rmtree(world / "corpus", ignore_errors=True)
    shutil.copytree(sound / "corpus", world / "corpus")
    assert call("corpus", world, *options)[0] == 0
    assert (world / "out/train_clean_5/.done.json").is_file()


@pytest.mark.parametrize(("step", "change", "options", "words"), [row[1:] for row in LANGUAGE], ids=[row[0] for row in LANGUAGE])
def test_language_and_missing_input(
    step: str, change: Change, options: list[str], words: list[str], world: Path, call: Caller
) -> None:
    small = ["--bpe-size", "20"] if step == "lang" else ["--order", "2"] if step == "ngram" else []
    change(world)
    check(call(step, world, *small, *options), world / "out", *words)


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "unrecorded"])
@pytest.mark.parametrize(("step", "name", "how"), [(s, n, h) for s, n, hows in CORRUPT for h in hows])
def test_corrupt_model_alignment_or_dump(step: str, name: str, how: str, recorded: bool, world: Path, call: Caller) -> None:
    """With its folder's record, and without: a folder that came from elsewhere has none."""
    if not recorded:
        (world / name).with_name(".done.json").unlink(missing_ok=True)
    spoil(world / name, how)
    check(call(step, world), world / "out", str((world / name).parent), "again")


def test_the_stage_of_a_corrupt_output_restores_it(world: Path, call: Caller) -> None:
    assert call("corpus", world)[0] == 0
    folder = world / "out" / "train_clean_5"
    whole = (folder / "supervisions.jsonl.gz").read_bytes()
    text, record = "supervisions.jsonl.gz", ".done.json"
    for name, how in ((text, "cut"), (text, "flipped"), (record, "cut"), (record, "empty")):
        spoil(folder / name, how)
        assert call("corpus", world)[0] == 0
        assert (folder / "supervisions.jsonl.gz").read_bytes() == whole
    (folder / ".done.json").write_text("{}")
    shutil.rmtree(world / "data/train_clean_5")
    folder.rename(world / "data/train_clean_5")
    shutil.rmtree(world / "out")
    check(call("features", world), world / "nothing", ".done.json: broken", "run its stage again")


def limited(size: int) -> Callable[[], None]:
    """A process that can write no file larger than this: the disk is full for it, and no right is needed to arrange that."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


FULL = [
    ("corpus", 200, ["out/.train_clean_5.work", "File too large"]),
    ("features", 3000, ["out.work/storage", "could not be written", "free space"]),
    ("ngram", 1000, ["lmplz failed", "lmplz.log"]),
    ("phone graph", 1800, ["/fst", "File too large"]),
    ("student", 4000, [".out.work/", "File too large"]),
]  # fmt: skip


@pytest.mark.parametrize(("step", "size", "words"), FULL, ids=[row[0] for row in FULL])
def test_writes_that_fail(step: str, size: int, words: list[str], world: Path) -> None:
    options = ["--order", "2"] if step == "ngram" else ["--min-count", "1"] if step == "phone graph" else []
    done = child(step, world, *options, preexec_fn=limited(size))
    check((done.returncode, done.stderr), world / "out", *words)
    if step != "student":
        done = child(step, world, *options)
        assert done.returncode == 0, done.stderr


def test_full_disk_is_told_with_the_file(world: Path, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    check(call("corpus", world), world / "out", ".key.json: No space left on device; free space", "run the same command again")
    monkeypatch.undo()
    assert not [p for p in (world / "out").rglob("*") if p.is_file() and p.name != ".key.json"]


def test_full_disk_after_a_program_that_does_not_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from collections import namedtuple

    from kdtool.core.errors import KdError
    from kdtool.lang.tools import run_tool

    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(0))
    with pytest.raises(KdError, match=r"true: the disk of .* is full \(0 bytes free\): free space"):
        run_tool(["true"], tmp_path / "log")


def test_read_only_folders(world: Path) -> None:
    locked = world / "locked"
    (locked / "inside").mkdir(parents=True)
    (world / "out").symlink_to(locked / "new")
    for folder in (locked / "inside", locked):
        folder.chmod(0o555)
    rights = {"preexec_fn": without_privilege}
    done = child("corpus", world, **rights)
    check((done.returncode, done.stderr), locked / "new", str(world / "out"), "error: ")
    for work in (locked / "new", locked / "inside"):
        done = run_sh("--tiny", "--work", str(work), "--stop-stage", "1", **rights)
        check((done.returncode, done.stderr), work, f"--work {work}: cannot", "choose another")
    for folder in (locked, locked / "inside"):
        folder.chmod(0o755)


@pytest.mark.parametrize(("step", "change", "words"), [row[1:] for row in NESTED], ids=[row[0] for row in NESTED])
def test_output_inside_an_input_without_a_record(step: str, change: Change, words: list[str], world: Path, call: Caller) -> None:
    change(world)
    check(call(step, world), Path(command(step, world)[-1]), *words, status=2)


@pytest.mark.parametrize(("argv", "status", "words"), USAGE, ids=[" ".join(row[0][:3]) for row in USAGE])
def test_recipe_usage(argv: list[str], status: int, words: list[str], tmp_path: Path) -> None:
    done = run_sh("--tiny", "--work", str(tmp_path / "w"), *argv, cwd=tmp_path)
    check((done.returncode, done.stderr), tmp_path / "w", *words, status=status)


TABLES = {"corpus": TEST_SETS, "features": FEATURES, "student": STUDENTS, "decode": DECODES, "dump frames": FRAMES}
OPTIONS = [(step, *row) for step, rows in TABLES.items() for row in rows]


@pytest.mark.parametrize(("step", "argv", "status", "words"), [(step, *row) for step, _, *row in OPTIONS], ids=[row[1] for row in OPTIONS])
def test_options(step: str, argv: list[str], status: int, words: list[str], world: Path, call: Caller) -> None:
    check(call(step, world, *argv), world / "out", *words, status=status)


@pytest.mark.parametrize("step", ["corpus", "features", "align", "dump", "student", "decode"])
def test_unknown_option_of_a_step(step: str, world: Path, call: Caller) -> None:
    check(call(step, world, "--no-such-option", "1"), world / "out", "--no-such-option", "--help", status=2)


def test_tiny_recipe_does_not_pass_over_a_spoilt_corpus(world: Path) -> None:
    (world / AUDIO).unlink()
    argv = ["--tiny", "--stop-stage", "1", "--corpus", str(world / "corpus"), "--lm-text", str(world / "lm.txt"),
            "--lexicon", str(world / "lexicon.txt"), "--work", str(world / "work")]  # fmt: skip
    done = run_sh(*argv)
    check((done.returncode, done.stderr), world / "work", UTT, "stage corpus failed", "go on with --stage corpus")
    write_audio(world / AUDIO)
    assert run_sh(*argv).returncode == 0


@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C", "TERM to the step alone"])
def test_an_interruption_ends_the_jobs_of_a_step(to_all: bool, world: Path) -> None:
    """The step's jobs wait before they begin."""
    (world / "site").mkdir()
    (world / "site" / "sitecustomize.py").write_text("import sys, time\nif '--job' in sys.orig_argv:\n    time.sleep(900)\n")
    argv = [sys.executable, "-m", STEPS["align"][0], *command("align", world)]
    env = {**os.environ, "PYTHONPATH": f"{world / 'site'}:{ROOT}"}
    process = subprocess.Popen(argv, env=env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not any("--job" in line for line in processes_of(process.pid)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    if to_all:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130 and "run the same command again" in output and "Traceback" not in output, output
    assert processes_of(process.pid) == [] and not (world / "out").exists()
    done = child("align", world)
    assert done.returncode == 0, done.stderr


def test_the_table_of_bad_input_and_its_count_are_those_of_the_cases() -> None:
    from bad_input_table import CASES, README, TABLE, counted, page

    advice = "write it again: python tests/shell/bad_input_table.py --write"
    readme = README.read_text(encoding="utf-8")
    assert len(CASES) >= 60 and len({str(case) for case in CASES}) == len(CASES)
    assert TABLE.read_text(encoding="utf-8") == page() and counted(readme) == readme, advice
