"""Bad Kaldi data folders: exit status, message, nothing unfinished; each case makes its own small world."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_input_changes import Case
from bad_input_data import Caller
from bad_input_kaldi import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_kaldi_folder(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    case.change(tmp_path)
    status, said = Caller(monkeypatch, capsys)(case.step, tmp_path, *case.options)
    assert status == case.status, said
    assert "Traceback" not in said and all(word in said for word in case.words), said
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("touched")) and not Path("touched").exists()
