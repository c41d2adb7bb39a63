"""The tiny recipe with KD_BACKEND=slurm: its arrays go through sbatch, and every file that counts is what local jobs make.

The local run's digests are those of the recipe's own tests when they have been run before (KD_TINY_CONTENT, set by
tests/run.sh, names the file); otherwise the recipe is run here once more.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from one_node import OneNode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipe"))
from kill_test import content
from tiny_recipe import command

ARRAYS = {"extract_mfcc", "extract_fbank", "align", "decode", "UNIT=phone,subword", "UNIT=senone,phone,subword", "SYS=ce,mtl,li,hmt"}


def run(work: Path, backend: str) -> str:
    begin = time.monotonic()
    env = {**os.environ, "KD_BACKEND": backend}
    done = subprocess.run(command(work), env=env, capture_output=True, text=True, check=False)
    print(f"tiny recipe, {backend}: {time.monotonic() - begin:.0f} s")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stderr


@pytest.fixture
def local(tmp_path: Path) -> dict[str, str]:
    """Name -> digest of what the recipe makes with local jobs."""
    known = Path(os.environ.get("KD_TINY_CONTENT", tmp_path / "content.json"))
    if not known.exists():
        run(tmp_path / "local", "local")
        known.write_text(json.dumps(content(tmp_path / "local")))
    return dict(json.loads(known.read_text()))


def test_same_results_as_local(cluster: OneNode, local: dict[str, str], tmp_path: Path) -> None:
    said = run(tmp_path / "slurm", "slurm")
    assert set(re.findall(r"^(\S+): \d+ jobs, Slurm array \d+$", said, re.MULTILINE)) >= ARRAYS, said[-3000:]
    found = content(tmp_path / "slurm")
    assert "exp/results.json" in found
    assert {n: d for n, d in found.items() if local.get(n) != d} == {} and sorted(found) == sorted(local)
    assert list((tmp_path / "slurm").rglob(".jobs")) == []
