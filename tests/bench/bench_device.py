"""Training of students on a device beside the CPU: updates per second and losses.

In: a prepared folder with fbank, ali, dev_fbank, dev_ali and the teachers' dumps post_senone, post_phone, post_subword; without one,
synthetic data. Out: for cross-entropy and for HMT-KD a line per device: precision, updates per second (wall clock, batches made on
the CPU included), how long making a batch takes, the main head's loss where the CPU stops and at the end, frame cross-entropy on dev.
It needs no k2 and no Lhotse, so any torch from 1.13.1 on works. From a finished recipe's work folder:

    mkdir -p /tmp/p && cp -rL data/train_clean_5/fbank exp/sat/ali_train /tmp/p && mv /tmp/p/ali_train /tmp/p/ali
    cp -rL data/dev_clean_2/fbank /tmp/p/dev_fbank && cp -rL exp/sat/ali_dev /tmp/p/dev_ali
    for u in senone phone subword; do cp -rL exp/teacher_$u/post_train /tmp/p/post_$u; done

Called by tests/gpu.sh, or with "$KD_PYTHON" after `. utils/env.sh`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdtool.core.cli import parse_args
from kdtool.core.device import choose_device
from kdtool.student.config import Posts, StudentConfig
from kdtool.student.data import TrainingSet
from kdtool.student.loop import Trainer
from kdtool.student.train import load

ROOT = Path(__file__).resolve().parents[2]
CE, HMT = ROOT / "egs/mini_librispeech/conf/student_ce.yaml", ROOT / "utils/conf/student_hmt.yaml"
WARM = 5  # untimed updates
MEAN = 20  # updates per average of the loss


def data_of(folder: Path | None, cfg: StudentConfig) -> tuple[TrainingSet, TrainingSet]:
    """Training and dev set of a prepared folder, or noise of the recipes' sizes."""
    if folder is None:
        sys.path.insert(0, str(Path(__file__).parent))
        from bench_student import make_data

        units = tuple(sorted({s.unit for s in cfg.head_specs()}))
        return make_data(60, 1300, units), make_data(4, 500, (), seed=1)
    posts = [Posts(p.name, p) for p in sorted(folder.glob("post_*"))]
    return load({name: folder / place for name, place in (("feats", "fbank"), ("ali", "ali"), ("dev_feats", "dev_fbank"),
                                                          ("dev_ali", "dev_ali"))}, posts)  # fmt: skip


def run(cfg: StudentConfig, data: tuple[TrainingSet, TrainingSet], total: int, updates: int, losses_at: list[int]) -> dict[str, Any]:
    """The first ``updates`` of a training of ``total``."""
    with tempfile.TemporaryDirectory() as work:
        trainer = Trainer(cfg, *data, Path(work))
    trainer.total = total
    trainer.model.train()
    batches, started = 0.0, 0.0
    for n in range(updates):
        if n == min(WARM, updates - 1):
            wait(trainer.compute.device)
            batches, started = 0.0, time.monotonic()
        begin = time.monotonic()
        trainer.kind.inputs(trainer.next_batch())  # one extra time beside training: subtracted below
        batches += time.monotonic() - begin
        trainer.step()
        trainer.update += 1
    wait(trainer.compute.device)
    seconds, timed = time.monotonic() - started - batches, updates - min(WARM, updates - 1)
    main = trainer._sums["main"]
    figures = trainer.kind.score(trainer.model.eval(), data[1]).figures
    return {"device": trainer.compute.describe(), "precision": trainer.compute.precision, "updates": updates,
            "updates_per_s": round(timed / seconds, 2), "batch_ms": round(1e3 * batches / timed, 2),
            **{f"loss_{n}": round(float(np.mean(main[max(0, n - MEAN) : n])), 4) if n <= updates else "" for n in losses_at},
            "dev_ce": round(figures["ce"], 4)}  # fmt: skip


def wait(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run both systems and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="prepared folder (default: synthetic data)")
    parser.add_argument("--device", default="auto", help="device to compare with the CPU: auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16; on the CPU, too")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--cpu-updates", type=int, default=60, help="number of updates on the CPU (0: no CPU beside the device)")
    parser.add_argument("--config", action="append", help="student's options, instead of the recipe's (repeat it for several layers)")
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    layers = [part for layer in a.config or [str(CE), str(HMT)] for part in ("--config", layer)]
    hmt = replace(parse_args(StudentConfig, [], layers, prog="bench_device.py", description="")[1], precision=a.precision)
    data = data_of(a.folder, hmt)
    device = str(choose_device(a.device))
    runs = [(device, a.updates)] + ([("cpu", min(a.cpu_updates, a.updates))] if a.cpu_updates and device != "cpu" else [])
    losses_at = sorted({n for _, n in runs})
    rows = [{"system": name, **run(replace(cfg, device=where), data, a.updates, updates, losses_at)}
            for name, cfg in (("ce", replace(hmt, heads=[])), ("hmt", hmt)) for where, updates in runs]  # fmt: skip
    print(f"torch {torch.__version__}")
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print("  ".join(f"{value!s:>14s}" for value in row.values()))
    return rows


if __name__ == "__main__":
    main()
