"""`kdtool align` as a whole, on speech whose true times are known: accuracy, every output, bad files, layouts."""

from __future__ import annotations

from pathlib import Path

import aligner_data
import pytest

from kdtool.__main__ import main as kdtool
from kdtool.aligner.score import compare, read_truth

# What a change of the aligner is held to (ms, percent): each a little worse than measured.
WORST = {
    "words": {"median": 9.0, "mean": 13.0, "within_20ms": 80.0, "within_30ms": 92.0, "within_50ms": 98.0},
    "phones": {"median": 9.0, "mean": 14.0, "within_20ms": 80.0, "within_30ms": 90.0, "within_50ms": 96.0},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aligner")
    aligner_data.make(root)
    return root


def align(root: Path, audio: Path, out: Path, *options: str) -> None:
    kdtool(["align", str(audio), "--model", str(root / "exp" / "mono"), "--out", str(out), "--nj", "2", *options])


def test_boundaries_are_where_the_sounds_are(model: Path, tmp_path: Path) -> None:
    align(model, model / "corpus" / "LibriSpeech" / "dev-clean-2", tmp_path / "out")
    result = compare(tmp_path / "out", read_truth([model / "corpus" / "truth"]))
    print(result)
    for kind, limits in WORST.items():
        assert result[kind]["boundaries"] > 300
        for name, limit in limits.items():
            assert (result[kind][name] >= limit) if name.startswith("within") else (result[kind][name] <= limit), (kind, name, result)
