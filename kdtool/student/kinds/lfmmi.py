"""Student kind "lfmmi": lattice-free maximum mutual information (Povey et al. 2016), one output per 30 ms, with k2.

In: chunks of features, their phones near the alignment (numerators), the denominator graph; labels and rows of dumps for the other heads.
Out: ``model.safetensors`` (encoder and main head, whose outputs are scores, not log-probabilities) and ``heads.safetensors`` (all heads).

The loss: denominator's less numerator's total per output, plus the cross-entropy of a head "ce" (Kaldi's xent-regularize) and the squared
outputs (l2). The auxiliary heads are those of every student.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdtool.chain.denominator import Denominator
from kdtool.chain.labels import SUBSAMPLING
from kdtool.chain.numerator import Numerator, Spoken, numerator, spans
from kdtool.chain.totals import ENGINES, Totals
from kdtool.core.device import Compute
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tensors import save_tensors
from kdtool.student.batches import Batch, Window, make_batch, speaker_weights
from kdtool.student.config import StudentConfig
from kdtool.student.data import TrainingSet
from kdtool.student.kind import Inputs, Score, StudentKind, Term
from kdtool.student.losses import HeadLosses
from kdtool.student.model import CE_HEAD, HEADS_FILE, AuxShape, Shape, Student, log_priors


@dataclass(frozen=True)
class Options:
    """``tolerance``: 10 ms frames by which a phone may begin and end away from the alignment; ``ce``: weight of the cross-entropy head;
    ``l2``: of half the squared outputs, per output frame; ``leak``: of the denominator, Kaldi's leaky HMM (dense.py); ``engine``: what
    computes the denominator, k2, dense, or auto: dense on the CPU and with a leak, else k2. Both are exact."""

    tolerance: int = 5
    ce: float = 0.1
    l2: float = 5e-5
    leak: float = 0.0
    engine: str = "auto"

    @classmethod
    def of(cls, cfg: StudentConfig) -> "Options":
        """From the option kind_options; UsageError names what is wrong."""
        known = [f.name for f in dataclasses.fields(cls)]
        if unknown := sorted({*cfg.kind_options} - {*known}):
            raise UsageError(f"kind_options: unknown {', '.join(unknown)}; kind lfmmi has {', '.join(known)}")
        options = cls(**cfg.kind_options)
        if min(options.tolerance, options.ce, options.l2, options.leak) < 0:
            raise UsageError(f"kind_options {cfg.kind_options}: none may be negative")
        if options.engine not in ENGINES:
            raise UsageError(f"kind_options: engine {options.engine}; known are {', '.join(ENGINES)}")
        if options.leak and options.engine == "k2":
            raise UsageError(f"kind_options: leak {options.leak} with engine k2, which has none; take engine dense or auto")
        return options


def load_denominator(cfg: StudentConfig, data: TrainingSet) -> Denominator:
    """The denominator of the config; KdError unless it is of the set's tree."""
    if cfg.denominator is None:
        raise UsageError("kind lfmmi needs a denominator graph: give --denominator DIR (steps/make_denominator.sh)")
    den = Denominator.load(cfg.denominator)
    if (own := den.meta["tree_digest"]) != data.tree_digest:
        raise KdError(f"{cfg.denominator} was made with tree {own[:12]}, the alignment with {data.tree_digest[:12] or 'none'}; convert the "
                      "alignment with that tree (steps/convert_ali.sh)")  # fmt: skip
    return den


class Lfmmi(StudentKind):
    """LF-MMI of chunks or whole utterances."""

    choice, chosen_by = "mmi", "dev LF-MMI loss"
    model: Student

    @classmethod
    def usable(cls, cfg: StudentConfig, data: TrainingSet, *, dev: bool) -> TrainingSet:
        """The training set without utterances whose numerator has no path, be it that the denominator does not know their phones.

        Of dev, whose phones the denominator was not made from, ``score`` takes the chunks that have a path.
        """
        den, options = load_denominator(cfg, data), Options.of(cfg)
        if dev:
            return data
        spoken = {source: Spoken(phones, den) for source, phones in data.phones.items()}
        lost = {}
        for i, copy in enumerate(data.copies):
            one, place = spoken[copy.source_id], _place(data, i)
            if (bad := one.unknown()) >= 0:
                before, phone = ([0, *data.phones[copy.source_id].tolist()][bad + k] for k in (0, 1))
                lost[i] = f"no path: the denominator does not know phone {phone} after {before} (place {bad + 1})"
            elif numerator(one, *spans(place, 0, -(-len(place) // SUBSAMPLING), options.tolerance)) is None:
                lost[i] = f"no path: {len(one.enter)} phones in {len(place)} frames, {options.tolerance} frames of tolerance"
        return data.without(lost)

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, compute: Compute) -> None:
        self.compute, self.options = compute, Options.of(cfg)
        self.den = load_denominator(cfg, train_set)
        self.losses = HeadLosses(cfg, train_set)
        self.outputs = max(1, -(-(cfg.chunk or 150) // SUBSAMPLING))
        shape = Shape(cfg.encoder, dict(cfg.encoder_options), train_set.input_dim, train_set.num_pdfs, cfg.hidden, train_set.feature_kind,
                      train_set.tree_digest)  # fmt: skip
        ce = AuxShape(CE_HEAD, -1, cfg.hidden, train_set.num_pdfs)
        self.model = Student(shape, [ce, *self.losses.aux_shapes], cfg.head_dropout)
        self.encoder = self.model.encoder
        if self.encoder.subsampling != SUBSAMPLING:
            raise UsageError(f"encoder_options: subsampling {self.encoder.subsampling}; kind lfmmi has one output per {SUBSAMPLING} frames")
        self.model.log_priors.copy_(log_priors(train_set.counts(speaker_weights(train_set, cfg.balance))))
        self.model.to(compute.device)
        auto = "dense" if compute.device.type == "cpu" or self.options.leak else "k2"
        self.totals = Totals(self.den, auto if self.options.engine == "auto" else self.options.engine, self.options.leak)
        self._train_set = train_set
        self._spoken: dict[str, Spoken] = {}

    def inputs(self, batch: Batch) -> Inputs:
        tensors = {"feats": torch.from_numpy(batch.feats)}
        if batch.pad is not None:
            tensors["pad"] = torch.from_numpy(batch.pad)
        targets, counts = self.losses.targets(batch)
        outputs = len(batch.labels) // len(batch.ids)
        lengths = outputs - (np.zeros(len(batch.ids), np.int64) if batch.pad is None else batch.pad)
        graphs, mmi = self._numerators(self._train_set, batch.windows, lengths)
        counts = {**counts, CE_HEAD: counts["main"], "mmi": mmi, "l2": batch.frames, "frames": batch.frames}
        return Inputs({**tensors, **targets, **graphs}, counts, batch.ids)

    def _numerators(self, data: TrainingSet, windows: list[Window], lengths: np.ndarray) -> tuple[dict[str, Tensor], int]:
        """Tensors num.rows (which chunks, longest first), num.lengths, num.sizes (R,) and num.arcs (A, 4); outputs of these chunks.

        A chunk without a path (speech faster than the tolerance allows) is left out: its other losses stay.
        """
        found: dict[int, Numerator] = {}
        for row, (copy, start) in enumerate(windows):
            source = data.copies[copy].source_id
            key = f"{id(data)} {source}"
            if key not in self._spoken:
                self._spoken[key] = Spoken(data.phones[source], self.den)
            one = numerator(self._spoken[key], *spans(_place(data, copy), start, int(lengths[row]), self.options.tolerance))
            if one is not None:
                found[row] = one
        rows = sorted(found, key=lambda r: (-int(lengths[r]), r))
        arcs = np.concatenate([found[r].arcs for r in rows] or [np.zeros((0, 4), np.int32)])
        parts = {"rows": rows, "lengths": [int(lengths[r]) for r in rows], "sizes": [len(found[r].arcs) for r in rows]}
        tensors = {f"num.{name}": torch.tensor(values, dtype=torch.int64) for name, values in parts.items()}
        return {**tensors, "num.arcs": torch.from_numpy(arcs)}, sum(parts["lengths"])

    def _mmi(self, main: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Sum over the chunks of the denominator's less the numerator's total, nats; main: outputs (B, V, n)."""
        lengths, sizes = (tensors[f"num.{name}"].tolist() for name in ("lengths", "sizes"))
        logits = main.permute(0, 2, 1)[tensors["num.rows"], : lengths[0]]
        num, den = self.totals(logits, lengths, tensors["num.arcs"], sizes)
        return (den - num).sum()

    def loss(self, inputs: Inputs, share: float, figures: bool = False) -> dict[str, Term]:
        with self.compute.autocast():
            logits = self.model(inputs.tensors["feats"], inputs.tensors.get("pad"))
        counts, main = inputs.counts, logits["main"].float()
        terms = self.losses({**logits, "main": logits[CE_HEAD]}, inputs, share)
        if "main" in terms:
            terms[CE_HEAD] = terms.pop("main")._replace(weight=self.options.ce)
        if counts["mmi"]:
            terms["mmi"] = Term(self._mmi(main, inputs.tensors), counts["mmi"])
        inside = torch.ones_like(main[:, 0])
        if (pad := inputs.tensors.get("pad")) is not None:
            inside = (torch.arange(main.shape[2], device=main.device) < (main.shape[2] - pad)[:, None]).to(main.dtype)
        terms["l2"] = Term(0.5 * (main.square().sum(1) * inside).sum(), counts["l2"], self.options.l2)
        return terms

    @torch.no_grad()
    def score(self, model: nn.Module, dev: TrainingSet) -> Score:
        """LF-MMI loss (nats per output) on chunks that cover each utterance, those without a numerator left out."""
        assert isinstance(model, Student)
        was_training = model.training
        model.eval()
        # Kaldi, too, validates on what the denominator accepts: see the share in the text.
        total, used, all_outputs = 0.0, 0, 0
        for group in dev.groups:
            frames = len(dev.copies[group[0]].labels)
            outputs = min(self.outputs, -(-frames // SUBSAMPLING))
            count = max(1, round(frames / (outputs * SUBSAMPLING)))
            windows = [(group[0], int(s)) for s in np.linspace(0, max(0, frames - outputs * SUBSAMPLING), count).round()]
            batch = make_batch(dev, windows, outputs=outputs, subsampling=SUBSAMPLING, left=model.encoder.left,
                               input_frames=model.encoder.input_frames(outputs))  # fmt: skip
            tensors, items = self._numerators(dev, windows, np.full(count, outputs))
            all_outputs += count * outputs
            if not items:
                continue
            main = model.main(model.encoder(torch.from_numpy(batch.feats).to(self.compute.device))[-1])
            total += float(self._mmi(main, {n: t.to(self.compute.device) for n, t in tensors.items()}))
            used += items
        model.train(was_training)
        if not used:
            raise KdError(f"none of {len(dev.groups)} dev utterances has a chunk whose phones the denominator knows; make it from more "
                          "utterances, or with fewer orders kept (steps/make_denominator.sh --keep 2)")  # fmt: skip
        mmi, share = total / used, used / all_outputs
        return Score({"mmi": mmi}, f"LF-MMI {mmi:.4f}" + ("" if used == all_outputs else f" on {share:.1%} of it"), {"outputs": used})

    def save(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        assert isinstance(model, Student)
        model.save(folder)
        save_tensors(folder / HEADS_FILE, model.state_dict())
        kept = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("aux."))
        return {"parameters": kept, "auxiliary_parameters": sum(p.numel() for p in model.aux.parameters()),
                "denominator": {name: self.den.meta[name] for name in ("lm_states", "states", "arcs")}}  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Student:
        return Student.load(folder)


def _place(data: TrainingSet, copy: int) -> np.ndarray:
    place = data.copies[copy].place
    if place is None:
        raise KdError(f"utterance {data.copies[copy].id}: no phones are known; LF-MMI needs an alignment with phones")
    return place
