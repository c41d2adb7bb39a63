"""The published tables match their score files: results/*.md, and tables of the README files.

A table of a README file has a line before it that says where its figures come from:
    <!-- figures: results/ablation.json against ce: mtl hmt -->
One row per system in that order. With `against` (ablations only) a cell is the change of the error rate in percent of the other
system's, and p; without it is the error rate in percent, with its interval where the score file is no ablation's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kdtool.ablation.collect import main as ablation
from kdtool.core.errors import KdError
from kdtool.results.collect import main
from kdtool.results.tables import describe

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = sorted((ROOT / "egs").glob("*/results/*.md"))
FIGURES = re.compile(r"<!-- figures: (\S+?)(?: against (\S+?))?: (.+?) -->\n\|.*\n\|[-|: ]+\|\n((?:\|.*\n)+)")
QUOTED = [(path, match) for path in (ROOT / "README.md", *sorted((ROOT / "egs").glob("*/README.md")))
          for match in FIGURES.finditer(path.read_text(encoding="utf-8"))]  # fmt: skip
ORDER = ("loop", "phone", "weak", "3gram", "4gram", "word")  # the columns of a table


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


def cells(scores: Any, system: str, base: str | None) -> list[str]:
    """The figures of one system as a README shows them; of a test set where there is one."""
    if isinstance(scores, dict):
        results = next(s for s in scores["systems"] if s["name"] == system)["results"]
    else:
        results = [r for r in scores if r["system"] == system]
    last = max(r["set"] for r in results)  # 'test' comes after 'dev'
    row = []
    for r in sorted((r for r in results if r["set"] == last), key=lambda r: ORDER.index(r["lm"])):
        if base:
            row.append(f"{r['versus'][base]['relative']:+.1f} ({r['versus'][base]['p']:.2g})")
        elif isinstance(scores, dict):
            row.append(f"{r['mean']:.1f}")
        else:
            low, high = r["ci95"]
            row.append(f"{r['wer'] if r['per'] is None else r['per']:.1f} [{low:.1f}, {high:.1f}]")
    return row


@pytest.mark.parametrize(("path", "match"), QUOTED, ids=lambda value: str(value.parent.name) if isinstance(value, Path) else value[3])
def test_figures_in_a_readme_are_those_of_the_score_file(path: Path, match: re.Match[str]) -> None:
    source, base, systems, table = match.groups()
    scores = json.loads((path.parent / source).read_text(encoding="utf-8"))
    shown = [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in table.splitlines()]
    assert shown == [cells(scores, system, base) for system in systems.split()]


def test_every_table_with_intervals_says_where_it_comes_from() -> None:
    assert len(QUOTED) >= 8
    for path in {path for path, _ in QUOTED}:
        text = FIGURES.sub("", path.read_text(encoding="utf-8"))
        assert not re.search(r"\|\s*\d+\.\d \[\d|\|\s*[+-]\d+\.\d \(\d", text), f"{path}: a table of results without a line 'figures'"
