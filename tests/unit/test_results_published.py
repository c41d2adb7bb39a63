"""The tables that the repository shows (those of ablations: results/ablation*.md) are those that their score files give."""

from __future__ import annotations

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


def test_an_edited_figure_is_noticed(tmp_path: Path) -> None:
    for path in (PUBLISHED[0], PUBLISHED[0].with_suffix(".json")):
        (tmp_path / path.name).write_text(path.read_text())
    tables = tmp_path / PUBLISHED[0].name
    tables.write_text(tables.read_text().replace("student_ce", "student_xx", 1))
    with pytest.raises(KdError):
        main(arguments(tables))


def test_a_weight_that_changes_is_told_by_its_points() -> None:
    heads = [{"unit": "phone", "layer": 2, "kind": "soft", "weight": w} for w in (0.3, [[0.0, 1], [0.5, 0.25], [1.0, 0]])]
    assert describe({"objective": "ce+hmt", "heads": heads}) == "ce+hmt (phone@2 soft 0.3, phone@2 soft 1 to 0.25 to 0)"
