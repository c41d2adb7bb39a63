"""The undisturbed tiny recipe, run once for all tests of this folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kill_test import Moment, content, undisturbed
from tiny_recipe import command


@pytest.fixture(scope="session")
def timeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[float, Moment]]]:
    """Its folder, and when each of its steps was done."""
    work = tmp_path_factory.mktemp("undisturbed")
    moments = undisturbed(command(work))
    print(f"tiny recipe: {moments[-1][0]:.0f} s")
    if "KD_TINY_CONTENT" in os.environ:  # for the tests in tests/slurm
        Path(os.environ["KD_TINY_CONTENT"]).write_text(json.dumps(content(work)))
    return work, moments


@pytest.fixture
def finished(timeline: tuple[Path, list[tuple[float, Moment]]]) -> Path:
    return timeline[0]
