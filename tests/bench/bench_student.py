"""The cost of learning from teachers, on synthetic data: needs no recipe's folder.

After `. utils/env.sh`, with "$KD_PYTHON" before each line:

    tests/bench/bench_student.py step     # training steps in pairs: cross-entropy, and with the auxiliary heads of a config
    tests/bench/bench_student.py loss     # the soft loss on truncated posteriors against the dense one
    tests/bench/bench_student.py export   # parameters and decoding time of the two exported models

In: a student's config (step, export) or the sizes of a batch (loss).  Out: CPU seconds of one core, medians, and the median of the
paired ratios with its 95% bootstrap interval; memory is what torch allocates additionally (from its profiler).

The loss is measured from the posteriors of a dump to the gradient at the logits, which all forms write:
truncated as in kdtool/objectives/soft.py in training, in the logits' memory (apart: with separate memory); dense as
in textbooks (full-width targets per unit, copied to the frames, log_softmax, KL); and hard labels, the cost of
the head without a teacher.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdtool.core.cli import parse_args
from kdtool.objectives import make_objective
from kdtool.objectives.targets import FrameTargets, Posteriors
from kdtool.student.config import StudentConfig
from kdtool.student.data import SpeedCopy, TrainingSet
from kdtool.student.loop import Trainer
from kdtool.student.model import MODEL_FILE, Student
from kdtool.student.table import PosteriorTable

ROOT = Path(__file__).resolve().parents[2]
CONF = [str(ROOT / "egs/mini_librispeech/conf/student_ce.yaml"), str(ROOT / "utils/conf/student_hmt.yaml")]
SIZES = {"senone": 800, "phone": 40, "subword": 500}  # units, as in the recipes
FRAMES = {"senone": 3, "phone": 9, "subword": 20}  # 10 ms frames per unit, on average
KEPT = (15, 40)  # kept entries per unit: fewest and most


def make_data(utterances: int, frames: int, units: tuple[str, ...], seed: int = 0, dim: int = 80) -> TrainingSet:
    """Noise with random units of realistic length; 1/8 of the frames is silence."""
    rng = np.random.default_rng(seed)
    tables = [PosteriorTable(u, SIZES[u], 1.0) for u in units]
    counts = [0] * len(units)
    copies = []
    for i in range(utterances):
        rows = []
        for k, unit in enumerate(units):
            length = rng.integers(1, 2 * FRAMES[unit], frames)
            row = np.repeat(np.arange(frames), length)[:frames]
            rows.append(np.where(np.arange(frames) < frames // 8, -1, counts[k] + row).astype(np.int32))
            counts[k] += int(row[-1]) + 1
        labels = np.repeat(rng.integers(0, SIZES["senone"], frames), 3)[:frames].astype(np.int32)
        copies.append(SpeedCopy(f"u{i}", f"u{i}", f"s{i % 8}", rng.normal(size=(frames, dim)).astype(np.float16), labels, rows))
    for table, rows_of in zip(tables, counts, strict=True):
        fill(table, rows_of, rng)
    return TrainingSet(copies, [[i] for i in range(utterances)], tables, dim, "fbank", SIZES["senone"], [], utterances)


def fill(table: PosteriorTable, rows: int, rng: np.random.Generator) -> None:
    """Random truncated posteriors of ``rows`` units."""
    kept = np.minimum(rng.integers(KEPT[0], KEPT[1] + 1, rows), table.num_units - 1)
    table.offsets = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    first = rng.integers(0, table.num_units, rows)
    within = np.arange(int(kept.sum())) - np.repeat(table.offsets[:-1], kept)
    table.ids = ((np.repeat(first, kept) + within) % table.num_units).astype(np.int32)
    z = rng.normal(0, 2, len(table.ids)).astype(np.float32)
    total = np.add.reduceat(np.exp(z), table.offsets[:-1])
    table.logp = z - np.repeat(np.log(total / 0.99), kept).astype(np.float32)
    table.rest = np.full(rows, np.log(0.01), np.float32)
    table.unit_ids = table.ids[table.offsets[:-1]]
    table.utterance = np.zeros(rows, np.int32)


def pair(values: list[tuple[float, float]], names: tuple[str, str]) -> dict[str, Any]:
    """Medians in milliseconds, median of the paired ratios (second to first) and its 95% interval."""
    x = np.array(values)
    ratios = x[:, 1] / x[:, 0]
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    first, second = 1e3 * np.median(x, axis=0)
    return {f"{names[0]}_ms": round(first, 2), f"{names[1]}_ms": round(second, 2), "pairs": len(x),
            "ratio": round(float(np.median(ratios)), 3), "interval": (round(float(low), 3), round(float(high), 3))}  # fmt: skip


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def step(cfg: StudentConfig, updates: int, warm: int = 5) -> dict[str, Any]:
    """Whole updates (batch, forward, loss, backward, optimiser, average), the two systems in turns on the same chunks."""
    units = tuple(sorted({s.unit for s in cfg.head_specs()}))
    train, dev = make_data(60, 1300, units), make_data(1, 100, units, seed=1)
    plain = replace(cfg, heads=[], main="ce", main_options={})
    times = []
    with tempfile.TemporaryDirectory() as folder:
        both = [Trainer(c, train, dev, Path(folder)) for c in (plain, cfg)]
        for trainer in both:
            trainer.model.train()
        for n in range(warm + updates):
            took = {}
            for i in (0, 1) if n % 2 else (1, 0):
                took[i] = cpu(both[i].step)
                both[i].update += 1
            times.append((took[0], took[1]))
    return {"precision": both[0].compute.precision, "heads": len(cfg.heads), **pair(times[warm:], ("ce", "heads"))}


def dense_loss(logits: Tensor, dense: Tensor, inverse: Tensor, temperature: float) -> Tensor:
    """KL(P^T || Q^T) T^2 of each frame, from log-probabilities (U, V) of the units."""
    target = torch.log_softmax(dense / temperature, dim=1)[inverse]
    log_q = torch.log_softmax(logits / temperature if temperature != 1.0 else logits, dim=1)
    return F.kl_div(log_q, target, reduction="none", log_target=True).sum(1) * temperature**2


def loss(num_units: int, frames: int, temperature: float, repeats: int) -> dict[str, Any]:
    """The forms of the loss in turns on the same logits; the time above plain cross-entropy is that of the loss."""
    rng = np.random.default_rng(0)
    table = PosteriorTable("subword", num_units, 1.0)
    fill(table, frames // 4, rng)
    inverse = torch.from_numpy(np.sort(rng.integers(0, frames // 4, frames)))
    labels = torch.from_numpy(table.unit_ids.astype(np.int64))[inverse]
    logits = torch.randn(frames, num_units, requires_grad=True)
    soft, hard = (make_objective(n, o, auxiliary=True) for n, o in (("soft", {"temperature": temperature}), ("hard", {})))
    ids, logp, rest = (torch.from_numpy(a) for a in table.padded(np.arange(frames // 4)))
    left = torch.log(rest.exp() / (num_units - (logp > -torch.inf).sum(1)))
    dense = left[:, None].repeat(1, num_units).scatter(1, ids, torch.where(logp > -torch.inf, logp, left[:, None]))

    sparse = FrameTargets(labels, inverse, Posteriors(ids, logp, rest))
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "hard": lambda z: hard(z, FrameTargets(labels)),
        "sparse_apart": lambda z: soft(z, sparse),
        "sparse": lambda z: soft.consume(z, sparse),  # type: ignore[attr-defined]
        "dense": lambda z: dense_loss(z, dense, inverse, temperature),
    }

    def grad(form: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        logits.grad = None
        form(z).mean().backward()
        return logits.grad  # type: ignore[return-value]

    def once(form: Callable[[Tensor], Tensor]) -> float:
        z = logits.clone()  # as in training, per head
        return cpu(lambda: grad(form, z))

    t = np.array([[once(form) for form in forms.values()] for _ in range(repeats + 3)][3:])
    memory = {name: peak_memory(lambda f=f: grad(f, logits.clone())) - 4 * logits.numel() for name, f in forms.items()}
    figures: dict[str, Any] = {"units": num_units, "frames": frames, "temperature": temperature}
    for i, name in enumerate(forms):
        figures |= {f"{name}_ms": round(1e3 * float(np.median(t[:, i])), 2), f"{name}_mb": round(memory[name] / 1e6, 1)}
    figures["gradient_mb"] = round(logits.numel() * 4 / 1e6, 1)
    figures["time_ratio"] = pair([(r[3], r[2]) for r in t], ("dense", "sparse"))["ratio"]
    figures["memory_ratio"] = round(memory["sparse"] / memory["dense"], 3)
    figures["largest_difference"] = float((grad(forms["sparse"], logits.clone()) - grad(forms["dense"], logits.clone())).abs().max())
    return figures


def peak_memory(work: Callable[[], Any]) -> int:
    """Peak bytes that torch allocated beyond the start, from its profiler."""
    work()  # caches exist from here on
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    held = [e.nbytes() for e in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_us()) if e.name() == "[memory]"]
    return int(np.cumsum([0, *held]).max())


def export(cfg: StudentConfig, seconds: float, repeats: int) -> dict[str, Any]:
    """Both systems, saved as by training and loaded as by decoding."""
    units = tuple(sorted({s.unit for s in cfg.head_specs()}))
    train, dev = make_data(8, 1300, units), make_data(1, 100, units, seed=1)
    plain = replace(cfg, heads=[], main="ce", main_options={})
    feats = np.random.default_rng(0).normal(size=(round(100 * seconds), train.input_dim)).astype(np.float32)
    figures: dict[str, Any] = {}
    models = []
    for name, c in (("ce", plain), ("heads", cfg)):
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(c, train, dev, Path(folder))
            trained = trainer.model
            trainer.kind.save(trained, Path(folder))
            models.append(Student.load(Path(folder)))
            figures[f"{name}_bytes"] = (Path(folder) / MODEL_FILE).stat().st_size
        figures[f"{name}_parameters_in_training"] = sum(p.numel() for p in trained.parameters())
        figures[f"{name}_parameters"] = sum(p.numel() for p in models[-1].parameters())
    times = []
    for n in range(repeats + 2):
        took = {i: cpu(lambda i=i: models[i].log_posteriors(feats)) for i in ((0, 1) if n % 2 else (1, 0))}
        times.append((took[0], took[1]))
    return {**figures, "audio_seconds": seconds, **pair(times[2:], ("ce", "heads"))}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "loss", "export"))
    parser.add_argument("--config", nargs="+", default=CONF, help="a student's config with heads, in layers (step, export)")
    parser.add_argument("--precision", default="", help="instead of the config's: float32 or bfloat16 (step)")
    parser.add_argument("--repeats", type=int, default=60, help="number of timed pairs")
    parser.add_argument("--units", type=int, default=5000, help="outputs of the head (loss)")
    parser.add_argument("--frames", type=int, default=400, help="frames with a target (loss); the recipes' heads have 400 per update")
    parser.add_argument("--temperature", type=float, default=1.0, help="temperature of teacher and student (loss)")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of the utterance (export)")
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    if a.what == "loss":
        figures = loss(a.units, a.frames, a.temperature, a.repeats)
    else:
        layers = [f"--config={layer}" for layer in a.config]
        cfg = parse_args(StudentConfig, [], layers, prog="bench_student.py", description="")[1]
        if a.precision:
            cfg = replace(cfg, precision=a.precision)
        figures = step(cfg, a.repeats) if a.what == "step" else export(cfg, a.seconds, a.repeats)
    for name, value in figures.items():
        print(f"{name:34s}{value}")
    return figures


if __name__ == "__main__":
    main()
