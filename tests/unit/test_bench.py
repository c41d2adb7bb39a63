"""Each benchmark runs and its figures make sense, on a synthetic corpus."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gmm_data
import pytest
from test_ali_steps import perfect_gmm
from test_decode_steps import write_lm

from kdtool.features.store import FeatureSet
from kdtool.graph import make_graph
from kdtool.lang.lang import Lang

SPEC = importlib.util.spec_from_file_location("bench", Path(__file__).parents[1] / "bench" / "bench.py")
assert SPEC and SPEC.loader
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    gmm_data.write_lang(root / "lang")
    gmm_data.write_features(root / "feats", 3)
    perfect_gmm(root / "gmm", Lang.load(root / "lang"), FeatureSet.open(root / "feats"))
    write_lm(root / "lm", "KA")
    make_graph.main([str(root / p) for p in ("lang", "lm", "gmm", "graph")])
    return root


def run(root: Path, what: str, *names: str) -> dict[str, float]:
    figures: dict[str, float] = bench.main([what, *(str(root / n) for n in names), "--utterances", "3", "--repeats", "1"])
    return figures


def test_align(root: Path) -> None:
    figures = run(root, "align", "feats", "lang", "gmm")
    assert figures["utterances"] == 3 and figures["viterbi_x_real_time"] > figures["viterbi_and_scoring_x_real_time"] * 0.5 > 0


def test_hclg(root: Path) -> None:
    figures = run(root, "hclg", "lang", "lm", "gmm")
    assert figures["states"] > 10 and figures["peak_mb"] > 10 and figures["cpu_seconds"] > 0


def test_decode_finds_what_fasterdecoder_finds(root: Path) -> None:
    figures = run(root, "decode", "gmm", "feats", "graph")
    assert figures["same_one_best"] == 3 and figures["largest_score_difference"] < 0.01 and figures["ratio"] > 0
