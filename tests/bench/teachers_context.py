"""How well a teacher's posteriors can be predicted from a student's input: two analyses beside the report's "What heads learnt".

After `. utils/env.sh`, with "$KD_PYTHON" before each line:

    tests/bench/teachers_context.py units TEACHER LANG ALI_TRAIN ALI_DEV
    tests/bench/teachers_context.py probe TEACHER LANG ALI_TRAIN ALI_DEV STUDENT FEATS_TRAIN FEATS_DEV --layer 7 --around 6

In: folders of a recipe.  Out: mean KL(teacher || prediction) on dev in nats per frame, without silence.
- units: predictions are means of the teacher's distributions over the training set: one for all positions, one per unit, and one per
  unit with the one, two, three units before it (and without it); rare contexts back off to shorter ones. An upper bound for an
  encoder that never confuses the units that it sees.
- probe: a small network learns the teacher's distributions from one layer of a trained, frozen encoder, with N outputs of the
  encoder ``--around`` each side. What the encoder knows about them without training on them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.lang.lang import Lang
from kdtool.report.learnt import Taught, divergence, taught
from kdtool.student.model import Student
from kdtool.teacher.registry import load_teacher

LEAN = 3.0  # count of the shorter context's mean
Answer = Callable[[np.ndarray, int], np.ndarray]


def context(ids: np.ndarray, place: int, before: int, own: bool) -> tuple[int, ...]:
    """The units before a position, -1 for none, and its own."""
    units = [int(ids[i]) if i >= 0 else -1 for i in range(place - before, place + 1)]
    return tuple(units if own else units[:-1])


def means(train: Taught, before: int, own: bool, shorter: Answer) -> Answer:
    """The mean distribution of each context in the training set."""
    sums: dict[tuple[int, ...], np.ndarray] = {}
    counts: dict[tuple[int, ...], int] = defaultdict(int)
    for utt, ids in train.labels.items():
        for place, row in enumerate(train.rows[utt].astype(np.float64)):
            key = context(ids, place, before, own)
            sums[key] = sums[key] + row if key in sums else row
            counts[key] += 1

    def answer(ids: np.ndarray, place: int) -> np.ndarray:
        key, less = context(ids, place, before, own), shorter(ids, place)
        return (sums[key] + LEAN * less) / (counts[key] + LEAN) if key in sums else less

    return answer


def units(train: Taught, dev: Taught) -> Iterator[tuple[str, float]]:
    """(known units, mean divergence), least known first."""
    rows = np.concatenate(list(train.rows.values())).astype(np.float64)
    mean = rows.mean(axis=0)
    answers: dict[str, Answer] = {"nothing": lambda ids, place: mean}
    for before in range(4):
        if before:
            less = answers[f"{before - 1} before" if before > 1 else "nothing"]
            answers[f"{before} before"] = means(train, before, False, less)
        less = answers[f"its own and {before - 1} before" if before else "nothing"]
        answers[f"its own and {before} before"] = means(train, before, True, less)
    frames = {u: np.bincount(f[f >= 0], minlength=len(dev.rows[u])) for u, f in dev.frames.items()}
    for name, answer in answers.items():
        total = 0.0
        for utt, ids in dev.labels.items():
            given = np.stack([answer(ids, place) for place in range(len(ids))])
            total += float(frames[utt] @ divergence(dev.rows[utt].astype(np.float64), given))
        yield name, total / sum(f.sum() for f in frames.values())


def hidden(model: Student, layer: int, around: int, feats: FeatureSet, own: Taught) -> tuple[Tensor, Tensor]:
    """The layer's outputs with those around (frames, D * (2 around + 1)), and the teacher's distributions there (frames, V)."""
    encoder, inputs, targets = model.encoder, [], []
    for utt, rows in own.rows.items():
        x = feats.get(utt)
        index = np.arange(-encoder.left, -encoder.left + encoder.input_frames(-(-len(x) // encoder.subsampling))).clip(0, len(x) - 1)
        with torch.no_grad():
            h = encoder(torch.from_numpy(np.ascontiguousarray(x[index].T, dtype=np.float32))[None])[layer][0].T
        row = own.frames[utt][:: encoder.subsampling][: len(h)]
        padded = torch.cat([h[:1].expand(around, -1), h, h[-1:].expand(around, -1)])
        windows = torch.cat([padded[k : k + len(h)] for k in range(2 * around + 1)], dim=1)
        inputs.append(windows[row >= 0])
        targets.append(torch.from_numpy(rows[row[row >= 0]].astype(np.float32)))
    return torch.cat(inputs), torch.cat(targets)


def probe(train: tuple[Tensor, Tensor], dev: tuple[Tensor, Tensor], epochs: int, batch: int = 256) -> float:
    """The lowest mean divergence on dev of a network with one hidden layer."""
    torch.manual_seed(0)
    (x, q), (x_dev, q_dev) = train, dev
    net = nn.Sequential(nn.BatchNorm1d(x.shape[1]), nn.Linear(x.shape[1], 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, q.shape[1]))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * (len(x) // batch))

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return -(torch.special.entr(target).sum(1) + (target * torch.log_softmax(logits, 1)).sum(1)).mean()

    best = np.inf
    for _ in range(epochs):
        net.train()
        for chosen in torch.randperm(len(x))[: len(x) // batch * batch].view(-1, batch):
            optimizer.zero_grad()
            loss(net(x[chosen]), q[chosen]).backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            best = min(best, float(loss(net(x_dev), q_dev)))
    return best


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("units", "probe"))
    parser.add_argument("folders", type=Path, nargs="+", help="the folders named above, in that order")
    parser.add_argument("--offset", type=int, default=0, help="offset in units from a frame's unit to the teacher's target (1: next)")
    parser.add_argument("--layer", type=int, default=-1, help="layer of the encoder (probe)")
    parser.add_argument("--around", type=int, default=0, help="outputs of the encoder on each side (probe)")
    parser.add_argument("--utterances", type=int, default=500, help="number of training utterances, spread evenly (probe)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of the probe")
    a = parser.parse_args()
    torch.set_num_threads(1)
    teacher, lang = load_teacher(a.folders[0]), Lang.load(a.folders[1])
    alis = [AlignmentSet.open(f) for f in a.folders[2:4]]
    if a.what == "units":
        sets = [taught(teacher, ali, lang, ali.ids, 0) for ali in alis]
        for name, value in units(*sets):
            print(f"{name:24s}{value:.3f}")
        return
    model = Student.load(a.folders[4])
    both = []
    for ali, feats in zip(alis, map(FeatureSet.open, a.folders[5:7]), strict=True):
        ids = [u for u in ali.ids if u in set(feats.ids)]
        own = taught(teacher, ali, lang, ids[:: -(-len(ids) // a.utterances)], a.offset)
        both.append(hidden(model, a.layer, a.around, feats, own))
    print(f"probe of layer {a.layer}, {a.around} around, {len(both[0][0])} frames: {probe(both[0], both[1], a.epochs):.3f}")


if __name__ == "__main__":
    main()
