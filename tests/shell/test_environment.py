"""The user's environment must not change what the scripts do.  In: hostile variables, streams, folders.  Out: what a clean run gives."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_input_data import ROOT, write_corpus

SCRIPTS = sorted(str(p.relative_to(ROOT)) for top in ("steps", "utils", "egs", "local", "tests") for p in (ROOT / top).rglob("*.sh")
                 if os.access(p, os.X_OK))  # fmt: skip
# The first one stands in for Python, the other is not for users.
NO_HELP = {"utils/no_environment.sh", "tests/slurm/install.sh"}
NOISE = """echo read by bash
printf 'read by bash\\n' >&2
cd /
set -x -f -C +e
shopt -s nullglob failglob expand_aliases
alias cd=false python=false grep=false
cd() { echo a function; }
dirname() { echo /nowhere; }
realpath() { echo /nowhere; }
"""
SPOILT = "raise SystemExit('a module of the user stands in the way')\n"
TIMES = re.compile(r"\b\d+ s\b|\bin \d+:\d\d\b")
LHOTSE = re.compile(r"WARNING:root:We couldn't create lhotse .*\n")  # said by Lhotse itself where there is no home folder


def make_spoilt(folder: Path) -> None:
    """A folder with modules and commands that have the names of ours, a file for BASH_ENV, and folders for CDPATH."""
    folder.mkdir()
    for name in ("json", "random", "yaml", "numpy", "lhotse", "kdtool", "local", "sitecustomize"):
        (folder / f"{name}.py").write_text(SPOILT)
    for name in ("python", "python3", "grep", "awk", "sed", "which"):
        (folder / name).write_text("#!/bin/sh\necho another $0; exit 7\n")
        (folder / name).chmod(0o755)
    (folder / "noise.sh").write_text(NOISE)
    for place in ("utils", "steps", "egs/mini_librispeech", "local/librispeech"):
        (folder / place).mkdir(parents=True)
    (folder / "with  two spaces").mkdir()


# Name -> variables; {} is the spoilt folder.
HOSTILE: dict[str, dict[str, str]] = {
    "bash start file": {"BASH_ENV": "{}/noise.sh", "ENV": "{}/noise.sh"},
    "bash options": {"SHELLOPTS": "xtrace:noclobber:noglob:allexport:verbose", "BASHOPTS": "nullglob:failglob:nocasematch:lastpipe"},
    "CDPATH": {"CDPATH": "{}:/tmp", "GLOBIGNORE": "*", "OLDPWD": "/"},
    "bash variables": {"IFS": "/.", "BASH_COMPAT": "3.2", "FUNCNEST": "1", "TMOUT": "1", "PS4": "$(exit 3)", "SECONDS": "x",
                       "PWD": "/nowhere", "opt": "x", "stages": "x", "about": "x", "name": "x", "words": "x", "data": "x", "status": "x"},
    "POSIX": {"POSIXLY_CORRECT": "1", "POSIX_ME_HARDER": "1"},
    "functions": {f"BASH_FUNC_{name}%%": "() {  echo a function; return 3; }"
                  for name in ("cd", "python", "grep", "realpath", "dirname", "mktemp", "source", "exec", "set", "printf", "kill", "wait")},
    "Python": {"PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "{}/json.py", "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error",
               "PYTHONINSPECT": "1", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "PYTHONHASHSEED": "7",
               "PYTHONPLATLIBDIR": "nowhere", "PYTHONVERBOSE": "1"},
    "GNU tools": {"GREP_OPTIONS": "--invert-match", "GREP_COLORS": "mt=31", "GREP_COLOR": "31", "DF_BLOCK_SIZE": "7", "BLOCK_SIZE": "7",
                  "LS_COLORS": "x", "QUOTING_STYLE": "shell", "TIME_STYLE": "iso", "XZ_OPT": "x", "GZIP": "-9", "LESS": "x"},
    "language": {"LC_ALL": "C", "LANG": "de_DE.UTF-8", "LANGUAGE": "de:fr", "LC_NUMERIC": "de_DE.UTF-8", "LC_COLLATE": "tr_TR.UTF-8"},
    "threads and memory": {"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "7", "MALLOC_PERTURB_": "165",
                           "MALLOC_ARENA_MAX": "1", "MALLOC_CHECK_": "1", "LD_PRELOAD": "libm.so.6", "TZ": "Asia/Kathmandu"},
    "git": {"GIT_DIR": "/nowhere/.git", "GIT_WORK_TREE": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index", "GIT_CONFIG_COUNT": "x"},
    "PATH": {"PATH": "{}:" + os.environ["PATH"]},
    "home": {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere", "XDG_CONFIG_HOME": "/proc/nowhere"},
    "temporary folder": {"TMPDIR": "{}/with  two spaces"},
}  # fmt: skip


def hostile(name: str, folder: Path) -> dict[str, str]:
    return {**os.environ, **{key: value.replace("{}", str(folder)) for key, value in HOSTILE[name].items()}}


def content(work: Path) -> dict[str, bytes]:
    """What the run has made: every file that is no record of times, and of each record what it was made with."""
    found = {}
    for path in sorted(work.rglob("*")):
        if path.name in (".lock", "log") or not path.is_file():
            continue
        data = path.read_bytes()
        if path.name == ".done.json":
            record = json.loads(data)
            data = json.dumps([record["key"], {name: made[-1] for name, made in record["outputs"].items()}]).encode()
        elif path.suffix == ".gz":
            data = gzip.decompress(data)
        found[str(path.relative_to(work))] = data.replace(str(work).encode(), b"WORK")
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_corpus(folder / "corpus")
    (folder / "text").write_text("HELLO WORLD\n")
    make_spoilt(folder / "spoilt")
    return folder


Outcome = tuple[int, str, str, dict[str, bytes]]


@pytest.fixture(scope="module")
def run(world: Path) -> Callable[..., Outcome]:
    def run_recipe(name: str, *before: str, **more: Any) -> Outcome:
        """The recipe's first stage, then two jobs of the launcher: status, standard output, standard error, content."""
        work = world / name.replace(" ", "_")
        recipe = [str(ROOT / "egs/mini_librispeech/run.sh"), "--tiny", "--corpus", "corpus", "--lm-text", "text", "--lexicon", "text",
                  "--work", str(work), "--stop-stage", "corpus"]  # fmt: skip
        launch = [str(ROOT / "utils/launch.sh"), "--max-jobs", "1", "N=1,2", str(work / "log/N"),
                  "sh", "-c", "echo job N $OMP_NUM_THREADS $LC_ALL"]  # fmt: skip
        status, output, errors = 0, "", ""
        for command in (recipe, recipe, launch):
            done = subprocess.run([*before, *command], capture_output=True, text=True, cwd=world, check=False, **more)
            status += done.returncode
            output, errors = output + done.stdout, errors + LHOTSE.sub("", done.stderr)
        masked = (TIMES.sub("TIME", text).replace(str(work), "WORK") for text in (output, errors))
        return status, *masked, content(work)

    return run_recipe


@pytest.fixture(scope="module")
def clean(run: Callable[..., Outcome]) -> Outcome:
    outcome = run("clean")
    assert outcome[0] == 0 and "up to date" in outcome[1] and "job 1 1 C.UTF-8" in outcome[1], outcome[:3]
    return outcome


@pytest.mark.parametrize("name", HOSTILE)
def test_a_variable_changes_nothing(name: str, world: Path, run: Callable[..., Outcome], clean: Outcome) -> None:
    assert run(name, env=hostile(name, world / "spoilt")) == clean


def test_bash_with_the_scripts_name_is_the_same(world: Path, run: Callable[..., Outcome], clean: Outcome) -> None:
    """Here the start file is read before the script is: what it prints itself comes first, what it sets is forgotten."""
    (world / "spoilt" / "quiet.sh").write_text("set -f -C -x 2>/dev/null\nshopt -s nullglob failglob\ngrep() { false; }; cd() { false; }\n")
    env = {**hostile("CDPATH", world / "spoilt"), **HOSTILE["POSIX"], "SHELLOPTS": "noclobber", "BASH_ENV": str(world / "spoilt/quiet.sh")}
    status, output, _, made = run("by bash", "/bin/bash", env=env)
    assert (status, output, made) == (clean[0], clean[1], clean[3])


def test_bash_x_still_traces_the_script(world: Path) -> None:
    done = subprocess.run(["bash", "-x", ROOT / "utils/launch.sh", "--help"], capture_output=True, text=True, check=True)
    assert "usage: utils/launch.sh" in done.stdout and "+ exec " in done.stderr


@pytest.mark.parametrize("streams", ["<&-", ">&-", "<&- >&-", ">/dev/full"])
def test_closed_streams_change_nothing(streams: str, run: Callable[..., Outcome], clean: Outcome) -> None:
    status, output, errors, made = run("streams" + streams.replace("/", ""), "bash", "-c", f'exec "$@" {streams}', "bash")
    if "/dev/full" in streams:  # a full disk below a log: said, not passed over
        assert status and "No space left on device" in errors, errors
    else:
        assert (status, errors, made) == (clean[0], clean[2], clean[3])
        assert output == ("" if ">" in streams else clean[1])


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_a_umask_changes_nothing(mask: int, run: Callable[..., Outcome], clean: Outcome) -> None:
    assert run(f"umask {mask:o}", umask=mask) == clean


def test_variables_that_are_not_set_change_nothing(run: Callable[..., Outcome], clean: Outcome) -> None:
    gone = {"HOME", "LANG", "TERM", "USER", "LOGNAME", "SHELL", "PWD", "SHLVL", "_"}
    assert run("not set", env={key: value for key, value in os.environ.items() if key not in gone}) == clean


def test_a_missing_temporary_folder_is_said_and_replaced(run: Callable[..., Outcome], clean: Outcome) -> None:
    status, output, errors, made = run("no temporary folder", env={**os.environ, "TMPDIR": "/nowhere/tmp"})
    note = "note: TMPDIR=/nowhere/tmp is not a folder that can be written to; temporary files go to /tmp\n"
    assert errors.count(note) == 3, "one per script that the user started"
    assert (status, output, errors.replace(note, ""), made) == clean


def test_every_script_starts_a_bash_that_ignores_the_environment() -> None:
    for script in SCRIPTS:
        text = (ROOT / script).read_text(encoding="utf-8")
        assert text.startswith("#!/bin/bash -p\n"), script
        assert "$(cd " not in text.replace("CDPATH='' cd ", ""), f"{script}: $(cd ..) without CDPATH=''"


def test_every_script_answers_help_whatever_the_environment_says(world: Path) -> None:
    spoilt = world / "spoilt"
    variables = {key: value for name in HOSTILE for key, value in hostile(name, spoilt).items()}
    asked = [script for script in SCRIPTS if script not in NO_HELP]
    assert len(asked) > 40
    for script in asked:
        answers = [
            subprocess.run([ROOT / script, "--help"], capture_output=True, text=True, check=False, cwd=spoilt, env=env)
            for env in (os.environ, variables)
        ]
        assert answers[0].returncode == 0 and "usage" in answers[0].stdout.lower(), f"{script}: {answers[0].stderr}"
        plain, spoiled = (re.sub(r"\s+", " ", a.stdout + a.stderr) for a in answers)
        assert (answers[1].returncode, spoiled) == (0, plain), script


def test_modules_of_the_user_do_not_stand_in_the_way(world: Path) -> None:
    """PYTHONPATH counts only with the user's own Python; the current folder never does (from Python 3.11 on)."""
    spoilt, checkout = world / "spoilt", world / "checkout"
    python = checkout / ".venv/current/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name in ("kdtool", "local"):
        (checkout / name).symlink_to(ROOT / name)
    (checkout / "utils").mkdir()
    for name in ("env.sh", "launch.sh"):
        (checkout / "utils" / name).write_bytes((ROOT / "utils" / name).read_bytes())
        (checkout / "utils" / name).chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "KD_PYTHON_ENV"} | {"PYTHONPATH": str(spoilt)}
    where = spoilt if sys.version_info >= (3, 11) else world
    command = [checkout / "utils/launch.sh", "N=1,2", world / "log.N", "sh", "-c", "echo job N"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=where, env=env)
    assert (done.returncode, sorted(done.stdout.split("\n"))) == (0, ["", "job 1", "job 2"]), done.stderr
