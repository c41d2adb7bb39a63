"""The training loop, shared by all kinds of students.

In: training set, config, device, a work folder (possibly of an interrupted run).  Out: the chosen model, the learning curve.

Resumes exactly: dropout and masks are seeded by (seed, update), the order by (seed, epoch), the rest is in the checkpoint.
A batch may be computed in parts (``accumulate``); each term of the loss is its sum over all parts divided by its count over all
parts, so the result does not depend on the parts (except for batch normalisation, which uses each part's statistics).
"""

import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdtool.core.device import Compute
from kdtool.core.errors import KdError
from kdtool.core.progress import Line, clock
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.student.augment import BandLimit, mask_features, warp_features
from kdtool.student.batches import Batch, Sampler, make_batch
from kdtool.student.config import StudentConfig
from kdtool.student.data import TrainingSet
from kdtool.student.init import take_weights
from kdtool.student.kind import Inputs, Term
from kdtool.student.model import load_state
from kdtool.student.optim import Average, clip_gradient, learning_rate, load_checkpoint, make_optimizer, save_checkpoint
from kdtool.student.registry import KINDS

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
FIGURES_EVERY = 5  # updates; the arg max of all frames costs 1% of an update


class Trainer:
    """One student in training.  ``run`` continues from the work folder's checkpoint to the end."""

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, dev: TrainingSet, work: Path) -> None:
        self.cfg, self.train_set, self.dev, self.work = cfg, train_set, dev, Path(work)
        torch.set_num_threads(1)
        self.compute = Compute.choose(cfg.device, cfg.precision)
        torch.manual_seed(cfg.seed)
        self.kind = KINDS[cfg.kind](cfg, train_set, self.compute)
        self.model, self.encoder = self.kind.model, self.kind.encoder
        if start := cfg.init or cfg.init_encoder:
            take_weights(self.model, start, encoder_only=cfg.init is None)
        self._candidate = copy.deepcopy(self.model)  # now: after a forward pass, an encoder may hold tensors that cannot be copied
        self.sampler = Sampler(train_set, seed=cfg.seed, chunk=cfg.chunk, batch=cfg.batch, subsampling=self.encoder.subsampling,
                               balance=cfg.balance)  # fmt: skip
        self.narrow = BandLimit(cfg.band_limit, cfg.band_lowest, train_set.feature_kind, train_set.input_dim) if cfg.band_limit else None
        self.total = max(1, round(cfg.epochs * self.sampler.batches_per_epoch))
        self.eval_every = max(1, round(cfg.eval_epochs * self.sampler.batches_per_epoch))
        self.optimizer = make_optimizer(self.model, cfg)
        self.average = Average(self.model, cfg.average) if cfg.average else None
        self.update = 0
        self.devices = [self.compute.describe()]
        self.curve: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self._sums: dict[str, list[float]] = {}
        self._line = Line()

    def run(self, stop_after: int | None = None) -> None:
        """Train to the last update (or ``stop_after`` updates of this call, like an interruption)."""
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
        parts = [self.kind.inputs(part) for part in self.next_batch().split(self.cfg.accumulate)]
        counts = total_counts(parts)
        torch.manual_seed(int(np.random.SeedSequence([self.cfg.seed, 4, self.update]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        self.optimizer.zero_grad(set_to_none=True)
        means: dict[str, Tensor] = {}
        for part in parts:
            self._backward(part.to(self.compute.device), counts, means)
        if self.cfg.clip:
            clip_gradient(self.model, self.cfg.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.update, self.total, self.cfg)
        self.optimizer.step()
        self.encoder.constrain(self.update, self.update / self.total)
        if self.average is not None:
            self.average.update(self.model, self.update)
        for name, value in zip(means, torch.stack([*means.values()]).tolist(), strict=True):
            self._sums.setdefault(name, []).append(value)

    def _backward(self, part: Inputs, counts: dict[str, float], means: dict[str, Tensor]) -> None:
        """Add the gradient of one part of the batch, and its share of each term's mean to ``means``."""
        terms = self.kind.loss(part, self.update / self.total, figures=self.update % FIGURES_EVERY == 0)
        items = {name: counts[name] for name in terms}
        for name, total in self.encoder.penalties().items():
            terms[name], items[name] = Term(total, part.counts["frames"]), counts["frames"]
        loss: Tensor | None = None
        for name, term in terms.items():
            mean = term.total / items[name]
            means[name] = means[name] + mean.detach() if name in means else mean.detach()
            if term.weight is not None:
                loss = term.weight * mean if loss is None else loss + term.weight * mean
        if loss is None:
            return
        if not bool(torch.isfinite(loss)):
            values = {name: float(value) for name, value in means.items()}
            raise KdError(f"update {self.update}: the loss is {float(loss)} ({values}) on utterances {', '.join(sorted(set(part.ids)))}; "
                          "look at their features, or lower lr or clip")  # fmt: skip
        loss.backward()

    def next_batch(self) -> Batch:
        """The masked chunks of the next update."""
        cfg = self.cfg
        windows = self.sampler.windows(self.update)
        outputs = self.sampler.outputs(windows)
        batch = make_batch(self.train_set, windows, outputs=outputs, subsampling=self.encoder.subsampling, left=self.encoder.left,
                           input_frames=self.encoder.input_frames(int(outputs.max())))  # fmt: skip
        rng = np.random.default_rng([cfg.seed, 3, self.update])
        if cfg.warp:
            batch.feats = warp_features(batch.feats, rng, cfg.warp)
        if self.narrow:
            self.narrow(batch.feats, rng)
        mask_features(batch.feats, rng, freq_masks=cfg.freq_masks,
                      freq_width=cfg.freq_width, time_masks=cfg.time_masks, time_width=cfg.time_width)  # fmt: skip
        return batch

    def _means(self) -> str:
        return ", ".join(f"{n} {np.mean(v[-50:]):.3f}" for n, v in sorted(self._sums.items())) or "a new epoch"

    def _log(self, text: str) -> None:
        self._line.clear()
        print(f"train_student: {text}", file=sys.stderr, flush=True)

    def _look_at_dev(self) -> None:
        """Score the averaged weights on dev; keep them if they are the best so far."""
        self._candidate.load_state_dict(self.average.state if self.average is not None else self.model.state_dict())
        score = self.kind.score(self._candidate, self.dev)
        entry = {"update": self.update, "epoch": round(self.update / self.sampler.batches_per_epoch, 3),
                 "lr": learning_rate(self.update - 1, self.total, self.cfg), **{f"dev_{n}": v for n, v in score.figures.items()},
                 **{f"train_{n}": float(np.mean(v)) for n, v in sorted(self._sums.items())}}  # fmt: skip
        self.curve.append(entry)
        self._log(f"epoch {entry['epoch']:g}, {self._means()}; dev {score.text}")
        self._sums = {}
        choice = f"dev_{self.kind.choice}"
        if not self.best or entry[choice] < self.best[choice]:
            self.best = entry
            save_tensors(self.work / BEST, self._candidate.state_dict())

    def _save(self) -> None:
        progress = {"update": self.update, "curve": self.curve, "best": self.best, "sums": self._sums, "devices": self.devices}
        save_checkpoint(self.work / CHECKPOINT, self.model, self.optimizer, self.average, progress)

    def _resume(self) -> None:
        progress = load_checkpoint(self.work / CHECKPOINT, self.model, self.optimizer, self.average)
        self.update, self.curve, self.best, self._sums = (progress[k] for k in ("update", "curve", "best", "sums"))
        self.devices = [*dict.fromkeys([*progress["devices"], *self.devices])]
        self._log(f"goes on after update {self.update} of {self.total}")
        if len(self.devices) > 1:
            self._log(f"begun on {self.devices[0]}, goes on on {self.compute.describe()}: not to the bit what one device gives")

    def chosen(self) -> nn.Module:
        """The model with the best average on dev, with all its heads, in evaluation mode."""
        load_state(self.model, load_tensors(self.work / BEST), str(self.work / BEST))
        return self.model.eval()


def total_counts(parts: list[Inputs]) -> dict[str, float]:
    """Each count summed over the parts of an update."""
    return {name: sum(part.counts[name] for part in parts) for name in parts[0].counts}
