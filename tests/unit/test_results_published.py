"""The tables that the repository shows (those of ablations: results/ablation*.md) are those that their score files give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kdtool.ablation.collect import main as ablation
from kdtool.core.errors import KdError
from kdtool.results.collect import main
from kdtool.results.tables import describe

PUBLISHED = sorted((Path(__file__).resolve().parents[2] / "egs").glob("*/results/*.md"))


def arguments(tables: Path) -> list[str]:
    return ["--check", "true", "--results", str(tables.with_suffix(".json")), str(tables.parent), str(tables)]


@pytest.mark.parametrize("tables", PUBLISHED, ids=lambda path: path.stem)
def test_published_tables_match_their_scores(tables: Path) -> None:
    (ablation if tables.stem.startswith("ablation") else main)(arguments(tables))


@pytest.mark.parametrize("tables", PUBLISHED, ids=lambda path: path.stem)
def test_an_edited_figure_is_noticed(tables: Path, tmp_path: Path) -> None:
    for path in (tables, tables.with_suffix(".json")):
        (tmp_path / path.name).write_text(path.read_text())
    edited, text = tmp_path / tables.name, tables.read_text()
    figure = list(re.finditer(r"\d+\.\d", text))[-1].start()
    edited.write_text(f"{text[:figure]}9{text[figure:]}")
    with pytest.raises(KdError):
        (ablation if tables.stem.startswith("ablation") else main)(arguments(edited))


def test_a_weight_that_changes_is_told_by_its_points() -> None:
    heads = [{"unit": "phone", "layer": 2, "kind": "soft", "weight": w} for w in (0.3, [[0.0, 1], [0.5, 0.25], [1.0, 0]])]
    assert describe({"objective": "ce+hmt", "heads": heads}) == "ce+hmt (phone@2 soft 0.3, phone@2 soft 1 to 0.25 to 0)"
