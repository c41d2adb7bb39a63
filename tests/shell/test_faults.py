"""Faults of the machine: a full disk, a read-only folder, a missing permission, a clock set back, slow renames.

Each error names the cause, and the same command succeeds once it is fixed. Where this user may mount, disks are real ones.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bad_input_data import ROOT, STEPS, child, command, without_privilege, write_world

from kdtool.core.digest import RECORD


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_world(root)
    return root


@pytest.fixture
def world(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "w"))


def namespace() -> list[str]:
    """Command prefix that gives private mounts; empty where that is not allowed."""
    for how in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        try:
            if subprocess.run([*how, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode == 0:
                return how
        except OSError:
            break
    return []


def on_disk(step: str, world: Path, spoil: str, fix: str) -> list[tuple[int, str]]:
    """The step on a small private disk: full, then fixed; exit status and messages of both."""
    disk = world / "disk"
    disk.mkdir()
    argv = [sys.executable, "-m", STEPS[step][0], *command(step, world)]
    argv[-1] = str(disk / "out")
    script = f"""
        disk="$1"; shift
        mount -t tmpfs -o size=20m none "$disk" || exit 99
        {spoil}
        "$@" 2>"$disk.1"; echo $?
        {fix}
        "$@" 2>"$disk.2"; echo $?
        test -f "$disk/out/{RECORD}" -o -n "$(echo "$disk"/out/*/{RECORD})"
    """
    whole = [*namespace(), "bash", "-c", script, "-", str(disk), *argv]
    done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = [int(line) for line in done.stdout.splitlines() if line.isdigit()]
    return [(status, Path(f"{disk}.{n}").read_text()) for n, status in enumerate(statuses, 1)]


def without_mounts(step: str, world: Path) -> list[tuple[int, str]]:
    """The same by a limit on the size of files: the second write of a file fails as on a full disk."""
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, resource.RLIM_INFINITY))

    runs = [child(step, world, preexec_fn=limit), child(step, world)]
    return [(done.returncode, done.stderr) for done in runs]


@pytest.mark.parametrize(("step", "pages"), [("corpus", 2), ("features", 4), ("align", 8), ("student", 12)])
def test_full_disk(step: str, pages: int, world: Path) -> None:
    if namespace():
        fill = f'dd if=/dev/zero of="$disk/fill" bs=4096 count=$((5120 - {pages})) status=none'
        (status, error), fixed = on_disk(step, world, fill, 'rm "$disk/fill"')
        assert "No space left on device" in error or "is full" in error, error
    else:
        (status, error), fixed = without_mounts(step, world)
        assert "File too large" in error or "could not be written" in error, error
    assert status == 1 and "Traceback" not in error, error
    assert fixed[0] == 0, fixed[1]


@pytest.mark.parametrize("step", ["corpus", "student"])
def test_read_only_disk(step: str, world: Path) -> None:
    if namespace():
        (status, error), fixed = on_disk(step, world, 'mount -o remount,ro "$disk"', 'mount -o remount,rw "$disk"')
        assert "Read-only file system; fix its permissions, or choose another place" in error, error
    else:
        (world / "locked").mkdir(mode=0o555)
        (world / "out").symlink_to(world / "locked" / "out")
        first = child(step, world, preexec_fn=without_privilege)
        (world / "out").unlink()
        second = child(step, world)
        (status, error), fixed = (first.returncode, first.stderr), (second.returncode, second.stderr)
    assert status == 1 and "Traceback" not in error, error
    assert fixed[0] == 0, fixed[1]


UNREADABLE = [("align", "gmm/gmm.safetensors"), ("student", "posts/shard-00000.safetensors"), ("lang", "lexicon.txt")]


@pytest.mark.parametrize(("step", "name"), UNREADABLE)
def test_missing_permission(step: str, name: str, world: Path) -> None:
    options = ["--bpe-size", "20"] if step == "lang" else []
    (world / name).chmod(0)
    os.utime(world / name, (1, 1))  # else its digest would be taken from the record, and only the step itself would look
    done = child(step, world, *options, preexec_fn=without_privilege)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f"{world / name}: Permission denied; fix its permissions" in done.stderr
    (world / name).chmod(0o644)
    assert child(step, world, *options, preexec_fn=without_privilege).returncode == 0


def test_a_folder_that_may_not_be_read_is_not_passed_over(world: Path) -> None:
    """Its content would be lost silently."""
    speaker = next(p for p in sorted((world / "corpus/train-clean-5").iterdir()) if p.is_dir())
    speaker.chmod(0)
    done = child("corpus", world, preexec_fn=without_privilege)
    assert done.returncode == 1 and f"{speaker}: Permission denied; fix its permissions" in done.stderr, done.stderr
    speaker.chmod(0o755)
    assert child("corpus", world, preexec_fn=without_privilege).returncode == 0


def patched(folder: Path, source: str) -> dict[str, str]:
    """The environment of a Python that runs `source` before all else."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(source)
    return {**os.environ, "PYTHONPATH": f"{folder / 'site'}:{ROOT}"}


BACK = "import time\nnow = time.time\ntime.time = lambda: now() - 3e8\n"


def test_clock_set_back(world: Path) -> None:
    """Made today, asked again years before: nothing runs; a change is seen although its time is older."""
    assert child("align", world).returncode == 0
    future = time.time() + 3e6
    for path in [*(world / "out").rglob("*"), *(world / "feats").rglob("*")]:
        os.utime(path, (future, future))
    done = child("align", world, env=patched(world, BACK))
    assert done.returncode == 0 and done.stdout == "align: up to date\n", done.stdout + done.stderr
    made = {p.name: p.read_bytes() for p in (world / "out").glob("*.safetensors")}
    done = child("align", world, "--force", env=patched(world, BACK))
    assert done.returncode == 0 and "align: done in " in done.stdout and "-" not in done.stdout.partition("done in ")[2], done.stdout
    assert made == {p.name: p.read_bytes() for p in (world / "out").glob("*.safetensors")}
    lexicon = world / "lang" / "lexicon.txt"
    lexicon.write_text(lexicon.read_text().replace("\n", " \n", 1))
    os.utime(lexicon, (1, 1))
    assert "changed: input lang" in child("align", world, "--dry-run").stdout


SLOW = """
import os, time
count = 0

def slow(real):
    def rename(*args, **more):
        global count
        count += 1
        number, side = os.environ.get("SLOW", "0 before").split()
        if count == int(number) and side == "before":
            stall()
        real(*args, **more)
        if count == int(number) and side == "after":
            stall()
    return rename

def stall():
    open(os.environ["STALLED"], "w").close()
    time.sleep(600)

os.rename, os.replace = slow(os.rename), slow(os.replace)
"""
TOY = """
import sys
from pathlib import Path
from kdtool.core.cli import Common, cli_main
from kdtool.core.step import run_step

out, text = Path(sys.argv[1]), sys.argv[2]

def body(work):
    (work / "result").write_text(text)

def main():
    rest = {"code": (), "common": Common()}
    run_step("toy", out=out, inputs={}, options={"text": text}, body=body, **rest)
    run_step("nested", out=out / "nested", inputs={"toy": out}, options={}, body=lambda w: (w / "sum").write_text(text), **rest)

cli_main(main)
"""


@pytest.mark.parametrize("before", [None, "one"], ids=["made", "made again"])
def test_killed_in_a_slow_rename(before: str | None, tmp_path: Path) -> None:
    """Killed before and after each rename that the steps do, as a rename over a network may hang: the next run ends whole."""
    (tmp_path / "toy.py").write_text(TOY)
    environment, stalled = patched(tmp_path, SLOW), tmp_path / "stalled"

    def start(text: str, slow: str = "0 before") -> subprocess.Popen[str]:
        argv = [sys.executable, str(tmp_path / "toy.py"), str(tmp_path / "exp" / "toy"), text]
        return subprocess.Popen(argv, env={**environment, "SLOW": slow, "STALLED": str(stalled)}, stdout=subprocess.PIPE, text=True)

    kills = 0
    for number in range(1, 30):
        for side in ("before", "after"):
            shutil.rmtree(tmp_path / "exp", ignore_errors=True)
            stalled.unlink(missing_ok=True)
            if before:
                start(before).communicate()
            run = start("two", f"{number} {side}")
            while run.poll() is None and not stalled.exists():
                time.sleep(0.005)
            run.kill()
            run.communicate()
            kills += stalled.exists()
            last = start("two")
            last.communicate()
            assert last.returncode == 0
            toy = tmp_path / "exp" / "toy"
            assert [(toy / "result").read_text(), (toy / "nested" / "sum").read_text()] == ["two", "two"]
            assert json.loads((toy / RECORD).read_text())["key"]["options"] == {"text": "two"}
            hidden = [p.name for p in (tmp_path / "exp").rglob(".*") if p.name != RECORD]
            assert all(name.endswith(".lock") for name in hidden), hidden  # of a dead process: holds nobody up
        if not stalled.exists():
            break
    assert kills >= 16, "each step writes three files whole and renames its folder"


def test_a_folder_whose_files_may_not_be_looked_at_is_not_passed_over(world: Path) -> None:
    """It can be listed, but not entered: its links lead nowhere that is known."""
    speaker = next(p for p in sorted((world / "corpus/train-clean-5").iterdir()) if p.is_dir())
    (speaker / "more").symlink_to(speaker / "7")
    speaker.chmod(0o444)
    done = child("corpus", world, preexec_fn=without_privilege)
    assert done.returncode == 1 and "Permission denied" in done.stderr and "Traceback" not in done.stderr, done.stderr
    speaker.chmod(0o755)
    (speaker / "more").unlink()
