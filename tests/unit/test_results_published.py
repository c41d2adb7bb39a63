"""The tables that the repository shows are those that its score files give."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtool.core.errors import KdError
from kdtool.results.collect import main

PUBLISHED = Path(__file__).resolve().parents[2] / "egs/mini_librispeech/results"


def arguments(folder: Path) -> list[str]:
    return ["--check", "true", "--results", str(folder / "librispeech_sample.json"), str(folder), str(folder / "librispeech_sample.md")]


def test_published_tables_match_their_scores() -> None:
    main(arguments(PUBLISHED))


def test_an_edited_figure_is_noticed(tmp_path: Path) -> None:
    for name in ("librispeech_sample.json", "librispeech_sample.md"):
        (tmp_path / name).write_text((PUBLISHED / name).read_text())
    tables = tmp_path / "librispeech_sample.md"
    tables.write_text(tables.read_text().replace("student_ce", "student_xx", 1))
    with pytest.raises(KdError):
        main(arguments(tmp_path))
