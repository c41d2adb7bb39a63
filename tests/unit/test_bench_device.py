"""The benchmark behind tests/gpu.sh trains both systems from a prepared folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from student_data import write_dump, write_set

SPEC = importlib.util.spec_from_file_location("bench_device", Path(__file__).parents[1] / "bench" / "bench_device.py")
assert SPEC and SPEC.loader
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)

CONFIG = """\
encoder: tdnn
encoder_options: {dim: 16, contexts: [1], front: {channels: 8}}
hidden: 8
batch: 2
chunk: 30
heads:
  - {unit: phone, layer: 0, weight: 0.3, hidden: 4}
"""


def test_both_systems_are_trained_from_a_prepared_folder(tmp_path: Path) -> None:
    write_set(tmp_path)
    write_set(tmp_path / "dev", utterances=2, seed=7)
    for name, place in (("dev/fbank", "dev_fbank"), ("dev/ali", "dev_ali")):
        (tmp_path / name).rename(tmp_path / place)
    write_dump(tmp_path / "post_phone", tmp_path / "ali", "phone")
    (tmp_path / "student.yaml").write_text(CONFIG)
    options = ["--config", str(tmp_path / "student.yaml"), "--device", "cpu", "--updates", "8", "--precision", "float32"]
    rows = bench.main([str(tmp_path), *options])
    assert [(r["system"], r["device"], r["updates"]) for r in rows] == [("ce", "cpu", 8), ("hmt", "cpu", 8)]
    assert all(r["updates_per_s"] > 0 and 0 < r["loss_8"] < 5 and 0 < r["dev_ce"] < 5 for r in rows)
