"""The benchmarks of posteriors run and their figures make sense, on a synthetic language."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest
from teacher_data import make_tree, sentences, write_alignments, write_lang, write_text

from kdtool.posteriors import make as dump_step
from kdtool.teacher import train as train_step

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench_dumps(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_dumps", BENCH / "bench_dumps.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("bench", None)


def test_dumps(bench_dumps: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lang, tree = write_lang(tmp_path / "lang"), make_tree()
    (tmp_path / "gmm").mkdir()
    tree.save(tmp_path / "gmm")
    write_text(tmp_path / "text", sentences(300))
    write_alignments(tmp_path / "ali", sentences(9, seed=5), lang, tree)
    names = [str(tmp_path / n) for n in ("text", "lang", "gmm", "ali", "ali", "phone")]
    train_step.main(["--options", "{order: 3, prune: [0]}", "--held-out", "20", "--own-text", "true", *names])
    dump_step.main([*(str(tmp_path / n) for n in ("lang", "phone", "ali")), str(tmp_path / "post")])
    capsys.readouterr()
    bench_dumps.main(["dumps", str(tmp_path / "lang"), str(tmp_path / "ali"), f"{tmp_path / 'phone'}={tmp_path / 'post'}"])
    rows = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in capsys.readouterr().out.splitlines()[1:]}
    assert all(len(values) == 2 for values in rows.values())
    for name, (own, whole) in rows.items():
        assert own > 0 and (math.isnan(whole) if name in ("mass", "nats_lost") else whole == pytest.approx(own, rel=1e-3))
    assert 0.9 < rows["mass"][0] <= 1 and {"npy_fp16_bytes_a_second", "write_x", "read_x"} <= set(rows)


def test_ngram(bench_dumps: object, tmp_path: Path) -> None:
    text = tmp_path / "lm.txt"
    text.write_text("".join(line + "\n" for line in sentences(400)))
    figures = bench_dumps.ngram(text, 24, 3, 0, 20)
    assert figures["distributions_a_second"] > 0 and figures["largest_difference_from_kenlm"] < 1e-5
