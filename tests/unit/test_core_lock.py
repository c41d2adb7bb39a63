"""Locks: the holder is named, dead processes hold nothing, with flock and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdtool.core import lock
from kdtool.core.errors import KdError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["flock", "link"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file on a disk with flock, or on one where flock does not reach the other machines."""
    if request.param == "link":
        monkeypatch.setattr(lock, "flock_is_local", lambda _: True)
    monkeypatch.setattr(lock, "GRACE", 0.3)
    return tmp_path / ".out.lock"


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds it."""
    by_link = lock.flock_is_local(path)
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from kdtool.core import lock
        lock.flock_is_local = lambda _: {by_link}
        with lock.Lock(Path({str(path)!r}), "out"):
            print("held", flush=True)
            time.sleep(600)
    """)
    child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()


def test_second_process_is_told_who_holds_it(path: Path, other: subprocess.Popen[str]) -> None:
    said = rf"/out is in use by .*python.* \(pid {other.pid} on .*, user .*, since 2.*UTC\); wait for it"
    with pytest.raises(KdError, match=said), lock.Lock(path, "/out"):
        pytest.fail("held by two")
    assert f"pid {other.pid}" in lock.holder_of(path)


def test_waits_when_asked_to(
    path: Path, other: subprocess.Popen[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only sleeping moves on."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(lock, "time", clock)
    with pytest.raises(KdError, match="in use"), lock.Lock(path, "out", wait=50.0):
        pytest.fail("held by two")
    assert 50 <= sum(slept) < 51 and capsys.readouterr().err.count("waiting up to 50 s") == 1


def test_a_dead_process_holds_nothing(path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert lock.holder_of(path) == ""
    with lock.Lock(path, "out"):
        assert f"pid {os.getpid()}" in lock.holder_of(path)
    assert os.listdir(path.parent) == []


def test_another_machine_is_believed_where_only_its_word_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "flock_is_local", lambda _: True)
    path = tmp_path / ".lock"
    lock.owner_file(path).write_text(json.dumps({**lock.myself(), "host": "node7"}))
    with pytest.raises(KdError, match=r"on node7.*; if nothing runs there any more, remove .*\.lock\.owner"), lock.Lock(path, "out"):
        pytest.fail("taken")
    lock.owner_file(path).unlink()
    with lock.Lock(path, "out"):
        pass


def test_a_number_that_another_process_has_now_is_not_the_owner(tmp_path: Path) -> None:
    assert lock.is_alive(lock.myself()) is True
    assert lock.is_alive({**lock.myself(), "start": "1"}) is False
    assert lock.is_alive({**lock.myself(), "boot": "another"}) is False
    assert lock.is_alive({**lock.myself(), "host": "node7"}) is None


@pytest.mark.parametrize(("options", "local"), [("rw,vers=3,local_lock=none", False), ("rw,nolock", True), ("rw,local_lock=flock", True)])
def test_mounts_whose_locks_stay_on_this_machine(options: str, local: bool) -> None:
    mounts = f"21 1 8:1 / / rw - ext4 /dev/sda rw\n36 21 0:45 / /home/us rw - nfs server:/home {options}\n"
    assert lock.flock_is_local(Path("/home/us/exp/.lock"), mounts) is local
    assert not lock.flock_is_local(Path("/home/use/.lock"), mounts)


def test_file_system_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    path = tmp_path / ".lock"
    with lock.Lock(path, "out"):
        assert lock.owner_file(path).exists()
        with pytest.raises(KdError, match=f"pid {os.getpid()}"), lock.Lock(path, "out"):
            pytest.fail("held twice")


def test_of_two_that_take_over_from_a_dead_one_only_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the second one's look at the dead sign and its taking over, the first one takes over: its sign is never away."""
    path = tmp_path / ".lock"
    place, dead, first = lock.owner_file(path), {**lock.myself(), "boot": "before"}, lock.myself(os.getppid())
    place.write_text(json.dumps(dead))
    alive, held = lock.is_alive, []

    def look(owner: lock.Owner) -> bool | None:
        if owner == dead and not held:
            held.append(True)
            while lock._take_by_link(path, -1, first) is not None:
                pass
        return alive(owner)

    def watched(call: Any) -> Any:
        def wrapper(*args: Any, **more: Any) -> Any:
            answer = call(*args, **more)
            assert not held or not place.exists() or json.loads(place.read_text()) in (dead, first)
            signed.append(place.exists() and json.loads(place.read_text()) == first)
            return answer

        return wrapper

    signed: list[bool] = []
    monkeypatch.setattr(lock, "is_alive", look)
    for name in ("rename", "link", "unlink"):
        monkeypatch.setattr(lock.os, name, watched(getattr(os, name)))
    assert lock._take_by_link(path, -1, lock.myself()) == dead
    assert lock._take_by_link(path, -1, lock.myself()) == first
    assert True in signed and all(signed[signed.index(True) :]), "once signed, the sign stays"
    assert os.listdir(tmp_path) == [place.name]


def test_a_link_whose_answer_got_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def lost(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError  # what the repeated question is answered with

    monkeypatch.setattr(lock.os, "link", lost)
    assert lock._take_by_link(tmp_path / ".lock", -1, lock.myself()) is None
