"""Files below a folder, also behind links; circular links are reported. Unreadable folders: tests/shell/test_faults.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdtool.core.digest import input_digest
from kdtool.core.encoding import read_utf8
from kdtool.core.errors import KdError
from kdtool.core.walk import file_fault, files_below


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """corpus/{b,a.txt,a/{c,.d},link -> other} and other/e."""
    corpus = tmp_path / "corpus"
    (corpus / "a").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("corpus/b", "corpus/a.txt", "corpus/a/c", "corpus/a/.d", "other/e"):
        (tmp_path / name).write_text(name)
    (corpus / "link").symlink_to(tmp_path / "other")
    (corpus / "nowhere").symlink_to(tmp_path / "not there")
    return corpus


def names(folder: Path, **options: bool) -> list[str]:
    return [str(p.relative_to(folder)) for p in files_below(folder, **options)]


def test_what_is_below_is_found_in_order_behind_links_too(folder: Path) -> None:
    assert names(folder) == ["a/.d", "a/c", "a.txt", "b", "link/e"]
    assert names(folder, hidden=False) == ["a/c", "a.txt", "b", "link/e"]


def test_a_change_behind_a_link_changes_the_input(folder: Path) -> None:
    before = input_digest(folder, {}, {})
    (folder / "link" / "e").write_text("another")
    assert input_digest(folder, {}, {}) != before


@pytest.mark.parametrize("target", ["..", "."])
def test_a_link_to_where_it_lies_is_told(folder: Path, target: str) -> None:
    (folder / "a" / "up").symlink_to(target)
    with pytest.raises(KdError, match=r"corpus/a/up.*remove the link"):
        files_below(folder)


def test_what_is_no_file_is_told_and_never_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "self").symlink_to("self")
    (folder / "a" / "up").symlink_to("..")
    faults: list[tuple[Path, str]] = []
    assert [str(p.relative_to(folder)) for p in files_below(folder, faults=faults)] == ["a/.d", "a/c", "a.txt", "b", "link/e"]
    told = {str(p.relative_to(folder)): reason for p, reason in faults}
    assert set(told) == {"nowhere", "pipe", "self", "a/up"}
    assert "a link to " in told["nowhere"] and "which is not there" in told["nowhere"] and "a FIFO" in told["pipe"]
    assert "Too many levels" in told["self"] and "no end" in told["a/up"]
    before = input_digest(folder, {}, {})
    (folder / "nowhere").unlink()
    assert input_digest(folder, {}, {}) != before, "what is no file counts, so that the step runs again when it is one"


@pytest.mark.parametrize(
    ("name", "fault"),
    [("b", ""), ("a", "a folder"), ("pipe", "a FIFO"), ("nowhere", "which is not there"), ("no", "no such file"), ("b/x", "Not a dir"),
     ("x" * 300, "File name too long"), ("nul\0", "null byte"), (os.fsdecode(b"caf\xe9"), "not UTF-8"), ("/dev/null", "a device")],
)  # fmt: skip
def test_why_a_file_cannot_be_read(folder: Path, name: str, fault: str) -> None:
    os.mkfifo(folder / "pipe")
    found = file_fault(folder / name)
    assert fault in found and bool(found) == bool(fault)


def test_an_input_that_is_no_file_is_told(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(KdError, match=r"pipe: it is a FIFO \(named pipe\), not a file"):
        read_utf8(folder / "pipe")
    end, other = os.pipe()
    with pytest.raises(KdError, match=rf"/dev/fd/{end}: a pipe or device, which can be read once only; write"):
        input_digest(Path(f"/dev/fd/{end}"), {}, {})
    os.close(end), os.close(other)


def test_a_name_that_is_not_utf8_is_no_obstacle_to_a_digest(folder: Path) -> None:
    before = input_digest(folder, {}, {})
    (folder / os.fsdecode(b"caf\xe9")).write_text("x")
    assert input_digest(folder, {}, {}) != before
