"""Files below a folder: behind links too; a link without end is told. That unreadable folders are: tests/shell/test_faults.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtool.core.digest import input_digest
from kdtool.core.errors import KdError
from kdtool.core.walk import files_below


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
