"""Where a step may write, and what happens to a user's files there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from kdtool.core import ownership, step
from kdtool.core.cli import Common
from kdtool.core.digest import read_record
from kdtool.core.errors import KdError, UsageError
from kdtool.core.state import kind_of
from kdtool.core.step import run_step


def make(out: Path, *, name: str = "toy", content: str = "x", inputs: dict[str, Path] | None = None, force: bool = False) -> bool:
    """A step with an output, a nested one, a hidden file and a log."""

    def body(work: Path) -> None:
        for place in ("result", "more/deep", ".hidden", "log/job.log"):
            (work / place).parent.mkdir(exist_ok=True)
            (work / place).write_text(content)

    options = {"content": content}
    return run_step(name, out=out, inputs=inputs or {}, options=options, code=(), body=body, common=Common(force=force))


def tree(root: Path) -> dict[str, bytes | str]:
    """All that is below a folder: content of files, targets of links."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        found[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
    return found


def put(*names: str, content: str = "mine") -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)

    return change


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda root: (root / name).symlink_to(target)


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for one in changes:
            one(root)

    return change


FOREIGN = {
    "a file of the user": (put("out/thesis.txt"), "out", ["out: holds 1 file (thesis.txt)", "choose another output folder"]),
    "many files": (put(*(f"out/wavs/{n}.wav" for n in range(30)), "out/notes.txt"), "out", ["20 or more files (notes.txt, wavs/"]),
    "a name that is not UTF-8": (put(os.fsdecode(b"out/caf\xe9\n.txt")), "out", ["1 file (caf\\xe9\\n.txt)"]),
    "a folder in the record's place": (put("out/.done.json/own"), "out", ["1 file (.done.json/own)"]),
    "a hidden file": (put("out/.git/config"), "out", ["1 file (.git/config)"]),
    "folders alone": (lambda root: (root / "out/a").mkdir(parents=True), "out", ["folders (a)"]),
    "a file in the folder's place": (put("out"), "out", ["out: is not a folder"]),
    "a link to the user's folder": (both(put("real/own"), link("out", "real")), "out", ["real: holds 1 file (own)"]),
    "a link to itself": (link("out", "out"), "out", ["out: is not a folder"]),
    "a link inside": (both(put("real/own"), lambda r: (r / "out").mkdir(), link("out/l", "../real")), "out", ["1 file (l)"]),
    "a record of another program": (put("out/.done.json", content='{"done": true}'), "out", ["1 file (.done.json)"]),
    "another step's folder": (lambda r: make(r / "out", name="other step"), "out", ["made by another step ('other step', not 'toy')"]),
    "a work folder of the user": (put(".out.work/plan.txt"), "out", [".out.work: holds 1 file (plan.txt)"]),
    "a work file of the user": (put(".out.work"), "out", [".out.work: holds '.out.work'"]),
    "an old folder of the user": (put(".out.old/plan.txt"), "out", [".out.old: holds 1 file (plan.txt)"]),
    "a lock of the user": (put(".out.lock"), "out", [".out.lock: is no lock of this toolkit"]),
    "a lock folder": (put(".out.lock/plan.txt"), "out", [".out.lock: is no lock of this toolkit"]),
    "an owner of a lock": (put(".out.lock.owner"), "out", [".out.lock: is no lock of this toolkit"]),
    "a broken record without a sign of ours": (put("out/.done.json", "out/own", content=""), "out", ["2 files (.done.json, own)"]),
}


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(("change", "out", "words"), FOREIGN.values(), ids=FOREIGN.keys())
def test_what_the_step_did_not_make_is_refused_and_untouched(
    change: Callable[[Path], None], out: str, words: list[str], dry_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "COUNTED", 20)
    change(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(UsageError) as error:
        run_step("toy", out=tmp_path / out, inputs={}, options={}, code=(), body=never, common=Common(force=True, dry_run=dry_run))
    assert all(word in str(error.value) for word in words), error.value
    assert tree(tmp_path) == before


def never(work: Path) -> None:
    raise AssertionError("the step ran")


@pytest.mark.parametrize("place", [".", "..", "/", "HOME", "HOME/.."])
def test_where_the_user_stands_and_lives_is_no_output(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "here/inside").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here/inside")
    before = tree(tmp_path)
    out = Path(place.replace("HOME", str(tmp_path / "home")))
    with pytest.raises(UsageError, match=r"the folder that you stand in|your home folder"):
        run_step("toy", out=out, inputs={}, options={}, code=(), body=never, common=Common())
    assert tree(tmp_path) == before


def test_what_is_absent_empty_or_the_step_s_own_is_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for helper in ("work", "old"):
        (tmp_path / f".out.{helper}").mkdir()
    (tmp_path / ".out.lock").touch()
    assert make(tmp_path / "out") and make(tmp_path / "out", content="y")
    assert (tmp_path / "out/result").read_text() == "y"
    assert os.listdir(tmp_path) == ["out"]


def test_an_output_is_contains_or_lies_inside_no_input(tmp_path: Path) -> None:
    """Neither where the output is the step's own."""
    put("corpus/a.wav")(tmp_path)
    (tmp_path / "alias").symlink_to("corpus")
    make(tmp_path / "made/own")
    put("made/own/a.wav")(tmp_path)
    (tmp_path / "wav").symlink_to("made/own/a.wav")
    made, corpus = tmp_path / "made/own", tmp_path / "corpus"
    before = tree(tmp_path)
    for out, source, how in (
        (made, made, "is the same as"), (made, made / "a.wav", "contains"), (made, tmp_path / "wav", "contains"),
        (corpus / "out", corpus, "lies inside"), (corpus / "a/b", tmp_path / "alias", "lies inside"),
        (tmp_path / "alias/out", corpus, "lies inside"), (tmp_path / "new", tmp_path / "new/x", "contains"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"{how} .*, the input source"):
            make(out, inputs={"source": source}, force=True)
    assert tree(tmp_path) == before
    assert make(made / "nested", inputs={"parent": made}), "a step's own nesting"
    assert not make(made / "nested", inputs={"parent": made})


def backups(root: Path) -> dict[str, bytes | str]:
    return {name: content for name, content in tree(root).items() if ".backup." in name and content != ""}


def test_changed_and_added_files_are_kept_as_a_numbered_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    make(out)
    make(out / "nested")
    make(out, force=True)
    assert backups(tmp_path) == {}, "what the toolkit made itself is no user's"
    time = (out / "more/deep").stat()
    put("more/deep", content="X")(out)
    os.utime(out / "more/deep", ns=(time.st_atime_ns, time.st_mtime_ns))  # size and time as recorded
    put("notes.txt", ".git/config", "log/mine", "nested/result", "nested/own/notes", "more/.x")(out)
    link("l", "more")(out)
    capsys.readouterr()
    make(out, content="y")
    kept = {"more/deep": b"X", "notes.txt": b"mine", ".git/config": b"mine", "log/mine": b"mine", "nested/result": b"mine",
            "nested/own/notes": b"mine", "more/.x": b"mine", "l": "more"}  # fmt: skip
    assert backups(tmp_path) == {f".out.backup.1/{name}": content for name, content in kept.items()}
    told = capsys.readouterr().out
    assert f"toy: 8 files that you changed or added are kept in {tmp_path}/.out.backup.1 (.git/config, l, log/mine, ..)" in told
    assert not (out / "nested").exists() and not (tmp_path / ".out.old").exists()
    put("result")(out)
    make(out, content="y")  # its output was altered
    assert (out / "result").read_text() == "y"
    assert (tmp_path / ".out.backup.2/result").read_text() == "mine"
    put("notes.txt")(out)
    make(out, content="y", force=True)
    assert "1 file that you changed or added is kept in" in capsys.readouterr().out
    assert (tmp_path / ".out.backup.3/notes.txt").read_text() == "mine"


def test_a_nested_step_that_moves_along_keeps_what_is_in_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    make(out / "nested")
    put("nested/notes.txt")(out)
    make(out, force=True)
    assert (out / "nested/notes.txt").read_text() == "mine" and backups(tmp_path) == {}


def test_a_copy_of_a_nested_step_and_backups_of_one_are_the_user_s(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    make(out / "nested")
    shutil.copytree(out / "nested", out / "kept by me")
    put(".nested.backup.1/result")(out)
    make(out, content="y")
    names = {f".out.backup.1/kept by me/{n}" for n in tree(tmp_path / ".out.backup.1/kept by me") if n not in ("log", "more")}
    assert set(backups(tmp_path)) == {".out.backup.1/.nested.backup.1/result", *names}
    assert read_record(tmp_path / ".out.backup.1/kept by me") is not None


def test_a_damaged_record_of_ours_and_an_older_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    make(out)
    (out / ".done.json").write_text("")
    assert make(out)
    assert (tmp_path / ".out.backup.1/result").read_text() == "x" and (out / "result").read_text() == "x"
    record = read_record(out)
    assert record is not None
    for name in ("kind", "place", "others"):
        del record[name]
    (out / ".done.json").write_text(json.dumps(record))
    assert not make(out), "up to date"
    put("log/mine")(out)
    assert make(out, content="y")
    assert "may be its own logs, which its older record does not list" in capsys.readouterr().out
    assert (tmp_path / ".out.backup.2/log/mine").read_text() == "mine" and not (tmp_path / ".out.backup.2/result").exists()
    (out / ".done.json").write_text("{}")
    (out / "env.json").unlink()
    with pytest.raises(UsageError, match="no step of this toolkit made"):
        make(out)


def test_an_interrupted_swap_and_an_interrupted_backup_keep_everything(tmp_path: Path) -> None:
    out, old, backup = tmp_path / "out", tmp_path / ".out.old", tmp_path / ".out.backup.1"
    make(out)
    put("result", "notes.txt", content="mine")(out)
    shutil.copytree(out, old, symlinks=True)
    shutil.rmtree(out)
    make(tmp_path / "other/out", content="y")
    (tmp_path / "other/out").rename(out)
    backup.mkdir()
    (old / "notes.txt").rename(backup / "notes.txt")
    assert not make(out, content="y"), "killed while it moved the user's files"
    assert backups(tmp_path) == {".out.backup.1/notes.txt": b"mine", ".out.backup.2/result": b"mine"} and not old.exists()
    out.rename(old)
    put("result", content="again")(old)
    (tmp_path / ".out.work").mkdir()
    assert make(out, content="z"), "killed between the renames, then the options changed"
    assert (tmp_path / ".out.backup.3/result").read_text() == "again" and sorted(p.name for p in tmp_path.glob(".out.[ow]*")) == []


def run_killed(out: Path, content: str, operation: int) -> int:
    """Make `out` in a child that is killed before its n-th change of the file system (0: never); its status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        left = [operation]

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def counting(*args: object, **more: object) -> object:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **more)

            return counting

        for name in ("rename", "rmdir", "unlink", "mkdir", "replace"):
            setattr(os, name, counted(getattr(os, name)))
        make(out, content=content)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def test_killed_at_each_of_its_file_operations_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "environment", dict)  # asks git each time
    out = tmp_path / "work/out"
    for operation in range(1, 200):
        shutil.rmtree(out.parent, ignore_errors=True)
        make(out, content="a")
        put("more/deep", content="corrected")(out)
        put("notes.txt")(out)
        status = run_killed(out, "b", operation)
        found = [path.read_text() for path in out.parent.rglob("*") if path.is_file()]
        assert status in (0, signal.SIGKILL) and "corrected" in found and "mine" in found, operation
        assert run_killed(out, "b", 0) == 0
        assert (out / "more/deep").read_text() == "b"
        assert sorted(str(c) for c in backups(out.parent).values()) == ["b'corrected'", "b'mine'"], operation
        assert not [p for p in out.parent.iterdir() if p.name.endswith((".work", ".old"))]
        if not status:
            break
    assert 20 < operation < 199


def test_kinds_of_steps() -> None:
    names = {"3-gram LM": "n-gram", "LM text": "LM", "mfcc features of train": "features", "phone teacher x": "teacher", "align": "align",
             "export features": "export", "student x": "student"}  # fmt: skip
    assert {name: kind_of(name) for name in names} == names


def test_a_failed_step_leaves_the_user_s_files_where_they_were(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    put("notes.txt")(out)
    before = tree(out)

    def broken(work: Path) -> None:
        raise KdError("no")

    with pytest.raises(KdError, match="no"):
        run_step("toy", out=out, inputs={}, options={}, code=(), body=broken, common=Common())
    assert tree(out) == before
