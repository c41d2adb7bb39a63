"""The training loop.

In: train_set, config, a work folder (perhaps an interrupted run's).  Out: the chosen model, the learning curve.

Resumes exactly: dropout and masks are seeded by (seed, update), the order by (seed, epoch), the rest is in the checkpoint.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdtool.core.errors import KdError
from kdtool.core.progress import Line, clock
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.student.augment import mask_features, warp_features
from kdtool.student.batches import Batch, Sampler, make_batch
from kdtool.student.config import StudentConfig
from kdtool.student.data import TrainingSet
from kdtool.student.evaluate import evaluate
from kdtool.student.losses import Losses
from kdtool.student.model import Shape, Student, load_state, log_priors
from kdtool.student.optim import Average, clip_gradient, learning_rate, load_checkpoint, make_optimizer, save_checkpoint
from kdtool.student.precision import resolved

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
ACCURACY_EVERY = 5  # updates; the arg max of all frames costs a hundredth of an update


class Trainer:
    """One student in training.  ``run`` goes from wherever the work folder's checkpoint stands to the end."""

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, dev: TrainingSet, work: Path) -> None:
        self.cfg, self.train_set, self.dev, self.work = cfg, train_set, dev, Path(work)
        torch.set_num_threads(1)
        torch.manual_seed(cfg.seed)
        self.losses = Losses(cfg, train_set)
        shape = Shape(cfg.encoder, dict(cfg.encoder_options), train_set.input_dim, train_set.num_pdfs, cfg.hidden, train_set.feature_kind,
                      train_set.tree_digest)  # fmt: skip
        self.model = Student(shape, self.losses.aux_shapes, cfg.head_dropout)
        self.encoder = self.model.encoder
        self.sampler = Sampler(train_set, seed=cfg.seed, chunk=cfg.chunk, batch=cfg.batch, subsampling=self.encoder.subsampling,
                               balance=cfg.balance)  # fmt: skip
        self.model.log_priors.copy_(log_priors(train_set.counts(self.sampler.repeats)))
        self.total = max(1, round(cfg.epochs * self.sampler.batches_per_epoch))
        self.eval_every = max(1, round(cfg.eval_epochs * self.sampler.batches_per_epoch))
        self.precision = resolved(cfg.precision)
        self.optimizer = make_optimizer(self.model, cfg)
        self.average = Average(self.model, cfg.average) if cfg.average else None
        self.update = 0
        self.curve: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self._sums: dict[str, list[float]] = {}
        self._line = Line()

    def run(self, stop_after: int | None = None) -> None:
        """Train to the last update (or ``stop_after`` updates of this call, as an interruption would)."""
        if (self.work / CHECKPOINT).exists():
            self._resume()
        started, first = time.monotonic(), self.update
        self.model.train()
        while self.update < self.total:
            if stop_after is not None and self.update - first >= stop_after:
                return
            self.step()
            self.update += 1
            if self.update % self.eval_every == 0 or self.update == self.total:
                self._look_at_dev()
            if self.update % self.cfg.checkpoint_every == 0 or self.update == self.total:
                self._save()
            if self._line.due() and self.update < self.total:
                left = (time.monotonic() - started) / (self.update - first) * (self.total - self.update)
                share = f"{self.update}/{self.total} {100 * self.update // self.total}%"
                self._line.say(f"train_student: {share}, {self._means()}, {clock(left)} left")
        self._line.clear()

    def step(self) -> None:
        """One update."""
        batch = self.next_batch()
        torch.manual_seed(_mix(self.cfg.seed, self.update))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.model(torch.from_numpy(batch.feats), None if batch.pad is None else torch.from_numpy(batch.pad))
        total, means = self.losses(logits, batch, self.update / self.total)
        if not bool(torch.isfinite(total)):
            raise KdError(f"update {self.update}: the loss is {float(total)} ({means}) on utterances {', '.join(sorted(set(batch.ids)))}; "
                          "look at their features, or lower lr or clip")  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        if self.cfg.clip:
            clip_gradient(self.model, self.cfg.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.update, self.total, self.cfg)
        self.optimizer.step()
        self.encoder.constrain(self.update)
        if self.average is not None:
            self.average.update(self.model, self.update)
        if self.update % ACCURACY_EVERY == 0:
            means["accuracy"] = self._accuracy(logits["main"].detach(), batch)
        for name, value in means.items():
            self._sums.setdefault(name, []).append(value)

    def next_batch(self) -> Batch:
        """The chunks of the update that is due, masked."""
        cfg = self.cfg
        windows = self.sampler.windows(self.update)
        outputs = self.sampler.outputs(windows)
        batch = make_batch(self.train_set, windows, outputs=outputs, subsampling=self.encoder.subsampling, left=self.encoder.left,
                           input_frames=self.encoder.input_frames(int(outputs.max())))  # fmt: skip
        rng = np.random.default_rng([cfg.seed, 3, self.update])
        if cfg.warp:
            batch.feats = warp_features(batch.feats, rng, cfg.warp)
        mask_features(batch.feats, rng, freq_masks=cfg.freq_masks,
                      freq_width=cfg.freq_width, time_masks=cfg.time_masks, time_width=cfg.time_width)  # fmt: skip
        return batch

    @staticmethod
    def _accuracy(logits: torch.Tensor, batch: Batch) -> float:
        labels = torch.from_numpy(batch.labels).view(logits.shape[0], -1)
        return float((logits.argmax(1) == labels).sum() / (labels >= 0).sum().clamp(min=1))

    def _means(self) -> str:
        return ", ".join(f"{n} {np.mean(v[-50:]):.3f}" for n, v in sorted(self._sums.items())) or "a new epoch"

    def _say(self, text: str) -> None:
        self._line.clear()
        print(f"train_student: {text}", file=sys.stderr, flush=True)

    def _look_at_dev(self) -> None:
        """Score the averaged weights on dev; keep them when their frame cross-entropy is the lowest so far."""
        candidate = Student(self.model.shape, self.losses.aux_shapes, self.cfg.head_dropout)
        candidate.load_state_dict(self.average.state if self.average is not None else self.model.state_dict())
        score = evaluate(candidate, self.dev)
        entry = {"update": self.update, "epoch": round(self.update / self.sampler.batches_per_epoch, 3),
                 "lr": learning_rate(self.update - 1, self.total, self.cfg), "dev_ce": score.ce, "dev_accuracy": score.accuracy,
                 **{f"train_{n}": float(np.mean(v)) for n, v in sorted(self._sums.items())}}  # fmt: skip
        self.curve.append(entry)
        self._say(f"epoch {entry['epoch']:g}, {self._means()}; dev cross-entropy {score.ce:.4f}, accuracy {score.accuracy:.2%}")
        self._sums = {}
        if not self.best or score.ce < self.best["dev_ce"]:
            self.best = entry
            save_tensors(self.work / BEST, candidate.state_dict())

    def _save(self) -> None:
        progress = {"update": self.update, "curve": self.curve, "best": self.best, "sums": self._sums}
        save_checkpoint(self.work / CHECKPOINT, self.model, self.optimizer, self.average, progress)

    def _resume(self) -> None:
        progress = load_checkpoint(self.work / CHECKPOINT, self.model, self.optimizer, self.average)
        self.update, self.curve, self.best, self._sums = (progress[k] for k in ("update", "curve", "best", "sums"))
        self._say(f"goes on after update {self.update} of {self.total}")

    def chosen(self) -> Student:
        """The model with the best average on dev, with its auxiliary heads."""
        load_state(self.model, load_tensors(self.work / BEST), str(self.work / BEST))
        return self.model.eval()


def _mix(seed: int, update: int) -> int:
    return int(np.random.SeedSequence([seed, 4, update]).generate_state(1, np.uint64)[0] >> np.uint64(1))
