"""The code version follows imports: code that decides a result counts, whether imported at the top, in a function or by name."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from kdtool.core import source


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "a/step.py": '"""Doc."""\nfrom kdtool.a import part\nfrom kdtool.b.lib import f\nJOB = "kdtool.c.job"\n'
                     "def g():\n    import kdtool.d.late\n",
        "a/part.py": "x = 1\n", "a/other.py": "x = 1\n", "b/lib.py": "def f():\n    return 1\n",
        "c/job.py": "KINDS = {'k': 'kdtool.e.kind:Class'}\n", "d/late.py": "from kdtool.core.errors import KdError\n",
        "e/kind.py": "Class = 1\n", "core/errors.py": "KdError = 1\n", "f/far.py": "x = 1\n",
        "b/lib.cc": "int x;\n", "f/far.cc": "int x;\n",
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / "kdtool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    monkeypatch.setattr(source, "ROOT", tmp_path)
    return tmp_path / "kdtool"


@pytest.mark.parametrize(("name", "counts"), [
    ("a/step.py", True), ("a/part.py", True), ("b/lib.py", True), ("c/job.py", True), ("d/late.py", True), ("e/kind.py", True),
    ("b/__init__.py", True), ("a/other.py", False), ("core/errors.py", False), ("f/far.py", False),
    ("b/lib.cc", True), ("f/far.cc", False),
])  # fmt: skip
def test_what_counts(root: Path, name: str, counts: bool) -> None:
    before = source.code_parts(["kdtool.a.step"])
    (root / name).write_text((root / name).read_text() + "new = 2\n")
    assert (source.code_parts(["kdtool.a.step"]) != before) == counts


def test_how_it_reads_does_not_count(root: Path) -> None:
    before = source.code_parts(["kdtool.a.step"])
    text = (root / "a/step.py").read_text().replace('"""Doc."""', '"""Another text.\n"""\n# why\n')
    (root / "a/step.py").write_text(text)
    assert source.code_parts(["kdtool.a.step"]) == before
    shutil.rmtree(root / "f")
    assert source.code_parts(["kdtool.a.step"]) == before


def test_what_a_step_reads_with_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Transcripts are read by code that is part of the steps' version: a change there may change every result."""
    repository = source.ROOT
    shutil.copytree(repository / "kdtool", tmp_path / "kdtool")
    monkeypatch.setattr(source, "ROOT", tmp_path)
    steps = ("kdtool.lang.prepare", "kdtool.lm.text", "kdtool.lm.ngram", "kdtool.corpus.split", "kdtool.corpus.kaldi_import")
    before = [source.code_parts([step]) for step in steps]
    rows = tmp_path / "kdtool/formats/rows.py"
    rows.write_text(rows.read_text().replace('"text": (str, type(None))', '"text": (str,)'))
    assert all(source.code_parts([step]) != was for step, was in zip(steps, before, strict=True))


def test_only_checks_are_imported_from_what_does_not_count() -> None:
    """kdtool.validate is left out of the code version, so steps may take from it what judges, never what reads."""
    names = {(place, name) for place in source.ROOT.glob("kdtool/*/**/*.py") if place.parent.name not in ("validate", "core")
             for node in ast.walk(ast.parse(place.read_text())) if isinstance(node, ast.ImportFrom)
             for name in node.names if str(node.module).startswith("kdtool.validate")}  # fmt: skip
    assert {name.name for _, name in names} <= {"door", "validate", "Level", "Report"}
