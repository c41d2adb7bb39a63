"""Set-up: made once, again when its requirements change, never used half-made; faults name what fixes them.

The build itself (minutes, gigabytes) is replaced by a stand-in in a copy of utils/, except where it stops early.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """#!/bin/bash -p
set -euo pipefail
echo "built $1" >&2
mkdir -p "$1/bin"
ln -s {python} "$1/bin/python"
while [[ -e "{root}/hold" ]]; do sleep 0.02; done
[[ ! -e "{root}/fail" ]] || exit 1
"$1/bin/python" -c 'import platform; print(platform.python_version())' >"$1/.ready"
"""
RECIPE = """set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
source "$(dirname "${BASH_SOURCE[0]}")/path.sh"
source "$KD_ROOT/utils/recipe.sh"
opt=([work]="") stages=(only) about=([only]="a line")
only() { "$KD_PYTHON" -c 'import sys; print("it ran with", sys.executable)'; }
recipe_options "$@"
recipe_run
"""
COMPILER = """import pathlib, sys
pathlib.Path(__file__).parents[2].joinpath(".venv/native").mkdir(exist_ok=True)
print("compiled")
sys.exit(pathlib.Path(__file__).parents[2].joinpath("no_compiler").exists())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose build waits while the file 'hold' is there, and fails while 'fail' is."""
    shutil.copytree(ROOT / "utils", tmp_path / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "steps").mkdir()
    shutil.copy(ROOT / "steps" / "extract_features.sh", tmp_path / "steps")
    for room in ("core", "graph"):
        (tmp_path / "kdtool" / room).mkdir(parents=True)
    (tmp_path / "kdtool" / "core" / "native.py").write_text(COMPILER)
    (tmp_path / "kdtool" / "posteriors").mkdir()
    for name in ("__init__.py", "core/__init__.py", "graph/__init__.py", "graph/search.cc", "graph/viterbi.cc", "posteriors/levels.cc"):
        (tmp_path / "kdtool" / name).touch()
    (tmp_path / "utils" / "build_env.sh").write_text(STAND_IN.format(python=sys.executable, root=tmp_path))
    return tmp_path


def run(command: list[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("KD_")} | variables
    return subprocess.run([str(c) for c in command], env=env, capture_output=True, text=True, check=False)


def test_made_once_and_again_when_requirements_change(checkout: Path) -> None:
    setup = checkout / "utils" / "setup_env.sh"
    assert run([setup]).stderr.count("built") == 1
    assert run([setup]).stderr == ""
    (checkout / "utils" / "requirements.txt").write_text("numpy==1.26.3\n")
    assert run([setup]).stderr.count("built") == 1
    environments = [p.name for p in (checkout / ".venv").glob("env-*")]
    assert environments == [os.readlink(checkout / ".venv" / "current")]


def test_made_again_when_the_python_below_it_is_another(checkout: Path) -> None:
    setup = checkout / "utils" / "setup_env.sh"
    run([setup])
    (checkout / ".venv" / "current" / ".ready").write_text("3.10.1\n")
    assert "built" in run([setup]).stderr


def test_a_failed_build_is_not_used_and_the_next_one_is(checkout: Path) -> None:
    setup = checkout / "utils" / "setup_env.sh"
    (checkout / "fail").touch()
    assert run([setup]).returncode == 1
    assert not (checkout / ".venv" / "current").exists()
    (checkout / "fail").unlink()
    assert run([setup]).returncode == 0
    assert (checkout / ".venv" / "current" / ".ready").exists()


def start(checkout: Path) -> subprocess.Popen[str]:
    """The set-up, in a new session."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("KD_")}
    return subprocess.Popen([checkout / "utils" / "setup_env.sh"], env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_two_at_once_build_once(checkout: Path) -> None:
    (checkout / "hold").touch()
    first = start(checkout)
    assert first.stderr is not None and first.stderr.readline().startswith("built ")
    second = start(checkout)
    assert second.stderr is not None and "waiting" in second.stderr.readline()
    (checkout / "hold").unlink()
    assert [p.communicate()[1] for p in (first, second)] == ["", ""] and first.returncode == second.returncode == 0


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_to_the_set_up_alone_ends_the_build(checkout: Path, name: str) -> None:
    (checkout / "hold").touch()
    process = start(checkout)
    assert process.stderr is not None and process.stderr.readline().startswith("built ")
    process.send_signal(signal.Signals[f"SIG{name}"])
    _, said = process.communicate(timeout=240)  # ends when the build, which holds the same stream, has ended, too
    assert process.returncode == 130 and said == "set-up: interrupted; run the same command again\n"
    (checkout / "hold").unlink()
    assert not (checkout / ".venv" / "current").exists() and run([checkout / "utils" / "setup_env.sh"]).returncode == 0


def test_a_step_without_an_environment_says_how_to_make_it(checkout: Path) -> None:
    done = run([checkout / "steps" / "extract_features.sh", "--help"])
    assert done.returncode == 1
    assert done.stderr == f"error: the environment is not made yet; make it with {checkout}/utils/setup_env.sh\n"


def test_the_first_run_of_a_recipe_makes_the_environment_and_goes_on(checkout: Path) -> None:
    core = Path("kdtool", "core")
    shutil.copytree(ROOT / core, checkout / core, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    recipe = checkout / "egs" / "toy" / "run.sh"
    recipe.parent.mkdir(parents=True)
    shutil.copy(ROOT / "egs" / "mini_librispeech" / "path.sh", recipe.parent)
    recipe.write_text(RECIPE)
    done = run(["bash", recipe, "--work", checkout / "work"])
    assert done.returncode == 0 and done.stderr.count("built") == 1, done.stderr
    assert f"it ran with {checkout}/.venv/current/bin/python\n" in done.stdout


def test_environment_of_entry_scripts(checkout: Path) -> None:
    run([checkout / "utils" / "setup_env.sh"])
    script = f'source "{checkout}/utils/env.sh"; first="$PATH"; source "{checkout}/utils/env.sh"; [[ "$first" == "$PATH" ]] && env'
    values = dict(line.split("=", 1) for line in run(["bash", "-c", script]).stdout.splitlines() if "=" in line)
    assert values["KD_ROOT"] == values["PYTHONPATH"] == str(checkout)
    assert values["KD_PYTHON"] == f"{checkout}/.venv/current/bin/python"
    assert values["PATH"].startswith(f"{checkout}/.venv/current/bin:{checkout}/.venv/current/kenlm/bin:")
    assert values["OMP_NUM_THREADS"] == "1"


def test_own_environment_is_checked_once_and_nothing_is_installed(checkout: Path) -> None:
    own = {"KD_PYTHON_ENV": sys.executable, "KD_KENLM_BIN": str(Path(shutil.which("lmplz") or "").parent)}
    checker = checkout / "utils" / "check_env.py"
    done = run([checkout / "utils" / "setup_env.sh"], **own)
    assert done.returncode == 0, done.stderr
    checker.write_text(checker.read_text().replace("def main() -> None:", "def main() -> None:\n    print('checked')"))
    assert "checked" in run([checkout / "utils" / "setup_env.sh"], **own).stdout
    assert "checked" not in run([checkout / "utils" / "setup_env.sh"], **own).stdout
    assert not list((checkout / ".venv").glob("env-*"))


@pytest.mark.parametrize("own", [False, True])
def test_the_searches_are_compiled_once_and_when_a_source_changes(checkout: Path, own: bool) -> None:
    variables = {"KD_PYTHON_ENV": sys.executable, "KD_KENLM_BIN": str(Path(shutil.which("lmplz") or "").parent)} if own else {}
    command = [checkout / "utils" / "setup_env.sh"]
    assert run(command, **variables).stdout.count("compiled") == 1
    assert "compiled" not in run(command, **variables).stdout
    for later, name in enumerate(("graph/search.cc", "graph/viterbi.cc", "posteriors/levels.cc", "core/native.py"), 2):
        os.utime(checkout / "kdtool" / name, (time.time() + later,) * 2)
        assert run(command, **variables).stdout.count("compiled") == 1
        os.utime(checkout / ".venv" / "native" / ".made", (time.time() + later,) * 2)
        assert "compiled" not in run(command, **variables).stdout
    later = time.time() + 10
    os.utime(checkout / "kdtool" / "graph" / "search.cc", (later, later))
    (checkout / "no_compiler").touch()
    assert run(command, **variables).returncode == 1
    (checkout / "no_compiler").unlink()
    assert "compiled" in run(command, **variables).stdout


def test_own_environment_that_lacks_packages(checkout: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / "own"], check=True)
    done = run([checkout / "utils" / "setup_env.sh"], KD_PYTHON_ENV=str(checkout / "own" / "bin" / "python"))
    assert done.returncode == 1
    for word in ("import k2: ModuleNotFoundError", "import torch", "package kaldi-decoder", "lmplz: not there", "KD_KENLM_BIN"):
        assert word in done.stderr
    for script in (checkout / "utils" / "setup_env.sh", checkout / "steps" / "extract_features.sh"):
        wrong = run([script], KD_PYTHON_ENV="/nowhere/python")
        assert (wrong.returncode, "KD_PYTHON_ENV=/nowhere/python" in wrong.stderr) == (1, True)


def test_no_python_and_no_compiler_name_the_fix(checkout: Path) -> None:
    shutil.copy(ROOT / "utils" / "build_env.sh", checkout / "utils")
    old = checkout / "python3.9"
    old.write_text("#!/bin/sh\nexit 127\n")
    old.chmod(0o755)
    done = run([checkout / "utils" / "setup_env.sh"], KD_BASE_PYTHON=str(old))
    assert done.returncode == 1
    fix = "apt-get install python3 python3-venv python3-dev g++"
    for word in ("no usable Python 3.10 or 3.11", f"{old} does not start", fix, "KD_PYTHON_ENV"):
        assert word in done.stderr
    done = run([checkout / "utils" / "setup_env.sh"], CXX="/nowhere/g++")
    assert done.returncode == 1
    for word in ("no working C++ compiler (/nowhere/g++)", "apt-get install"):
        assert word in done.stderr
    assert not (checkout / ".venv" / "current").exists()


def test_usage(checkout: Path) -> None:
    done = run([checkout / "utils" / "setup_env.sh", "--fast"])
    assert done.returncode == 2
    assert "--fast" in done.stderr
    assert "KD_PYTHON_ENV" in run([checkout / "utils" / "setup_env.sh", "--help"]).stdout
