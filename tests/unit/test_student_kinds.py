"""Shared by all kinds of students: parts of a batch, hooks of encoders, one device, no k2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from student_data import make_training_set, write_dump, write_set
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdtool.core.device import Compute
from kdtool.core.errors import UsageError
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.student.batches import Batch
from kdtool.student.config import Posts, StudentConfig
from kdtool.student.data import TrainingSet, load_training_set
from kdtool.student.encoders import ENCODERS, make_encoder
from kdtool.student.encoders.tdnn import Tdnn
from kdtool.student.kind import Inputs, Score, StudentKind, Term
from kdtool.student.loop import Trainer
from kdtool.student.optim import Average
from kdtool.student.registry import KINDS

FRONT = {"front": {"channels": 12}, "dropout": 0.1}
OPTIONS = {
    "tdnnf": {"dim": 24, "bottleneck": 8, "contexts": [1, 1], **FRONT},
    "tdnn": {"dim": 16, "contexts": [1, 1], **FRONT},
    "conformer": {"dim": 16, "layers": 2, "heads": 2, "kernel": 5, "reach": 8, **FRONT},
    "blstm": {"dim": 12, "layers": 2, **FRONT},
}
WHOLE = ("conformer", "blstm")


def config(encoder: str = "tdnnf", **changes: Any) -> StudentConfig:
    chunk = {"chunk": 0, "batch": 3} if encoder in WHOLE else {"chunk": 30, "batch": 6}
    return StudentConfig(**{"encoder": encoder, "encoder_options": OPTIONS.get(encoder, OPTIONS["tdnn"]), "hidden": 16, "freq_width": 2,
                            "lr": 0.01, **chunk, **changes})  # fmt: skip


def with_dumps(root: Path) -> tuple[TrainingSet, TrainingSet]:
    """A training set with a senone and a phone dump, and a dev set."""
    feats, ali = write_set(root, speeds=(0.9, 1.0))
    dev_feats, dev_ali = write_set(root / "dev", utterances=2, seed=7)
    posts = [write_dump(root / "p1", ali, "senone"), write_dump(root / "p2", ali, "phone", units=4, seed=1)]
    alignment = AlignmentSet.open(ali)
    train_set = load_training_set(FeatureSet.open(feats), alignment, [Posts.of(str(p)) for p in posts], num_pdfs=6)
    return train_set, load_training_set(FeatureSet.open(dev_feats), AlignmentSet.open(dev_ali), num_pdfs=6)


def heads(kinds: tuple[str, str] = ("soft", "hard"), **options: Any) -> list[dict[str, Any]]:
    return [{"unit": unit, "layer": layer, "weight": 0.3, "kind": kind, "hidden": 8, **options}
            for unit, layer, kind in zip(("senone", "phone"), (2, 1), kinds, strict=True)]  # fmt: skip


def double(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float64, with normalisation and dropout as in decoding: nothing is left that looks at the other chunks of a part."""
    trainer.model.double().eval()
    plain = trainer.kind.inputs

    def inputs(batch: Batch) -> Inputs:
        found = plain(batch)
        tensors = {n: t.double() if t.is_floating_point() else t for n, t in found.tensors.items()}
        return Inputs(tensors, found.counts, found.ids)

    monkeypatch.setattr(trainer.kind, "inputs", inputs)


@pytest.mark.parametrize("encoder", ["tdnnf", "conformer"])
@pytest.mark.parametrize("parts", [2, 4, 50])
def test_a_batch_in_parts_gives_the_weights_that_the_whole_batch_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, parts: int
) -> None:
    train_set, dev = with_dumps(tmp_path)
    options = {"heads": heads(), "average": 0.0, "optimizer": "sgd", "main": "interpolate", "warp": 0.1}
    both = [Trainer(config(encoder, accumulate=n, **options), train_set, dev, tmp_path) for n in (1, parts)]
    for trainer in both:
        double(trainer, monkeypatch)
    frames = [[p.counts["senone_soft_2"] / p.counts["frames"] for p in map(t.kind.inputs, t.next_batch().split(2))] for t in both]
    assert frames[0][0] != frames[0][1]  # the parts do not have the same share of frames with a target: their means are not the mean
    for _ in range(3):
        for trainer in both:
            trainer.step()
            trainer.update += 1
    whole, part = (t.model.state_dict() for t in both)
    assert all(torch.allclose(whole[n], part[n], rtol=0, atol=1e-13) for n in whole if whole[n].is_floating_point())
    for name, values in both[0]._sums.items():
        np.testing.assert_allclose(values, both[1]._sums[name], rtol=1e-6)


def test_parts_of_a_batch_are_all_of_it_in_order() -> None:
    rng = np.random.default_rng(0)
    batch = Batch(rng.normal(size=(5, 2, 9)), np.arange(20), [np.arange(20) + 100], list("abcde"), np.array([0, 1, 0, 2, 3]))
    for parts, sizes in ((1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (9, [1] * 5)):
        split = batch.split(parts)
        assert [len(p.ids) for p in split] == sizes and sum(p.frames for p in split) == batch.frames == 14
        for name in ("feats", "labels", "ids", "pad"):
            np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in split]), getattr(batch, name))
        np.testing.assert_array_equal(np.concatenate([p.rows[0] for p in split]), batch.rows[0])


class NoDevice(TorchFunctionMode):
    """Fails where a tensor is made without saying on which device, or from an array in the middle of training."""

    FACTORIES = ("zeros", "ones", "empty", "full", "arange", "linspace", "eye", "rand", "randn", "randint", "randperm", "normal")
    ON_CPU = ("tensor", "as_tensor")

    def __enter__(self) -> Any:
        self._from_numpy, torch.from_numpy = torch.from_numpy, self._refused  # torch does not tell a mode of this one
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.from_numpy = self._from_numpy
        super().__exit__(*error)

    @staticmethod
    def _refused(*args: Any) -> Any:
        raise AssertionError("torch.from_numpy without a device")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        of_array = name in self.ON_CPU and not isinstance(args[0], Tensor)
        if getattr(torch, name, None) is func and (of_array or (name in self.FACTORIES and "device" not in (kwargs or {}))):
            raise AssertionError(f"torch.{name} without a device")
        return func(*args, **(kwargs or {}))


def test_the_watch_for_tensors_without_a_device_sees_them() -> None:
    for make in (lambda: torch.zeros(2), lambda: torch.arange(3), lambda: torch.from_numpy(np.zeros(1)), lambda: torch.rand(1)):
        with pytest.raises(AssertionError, match="without a device"), NoDevice():
            make()
    with NoDevice():
        torch.zeros(2, device="cpu"), torch.zeros_like(torch.ones(2, device="cpu"))


@pytest.mark.parametrize(("encoder", "kinds", "precision"), [
    ("tdnnf", ("soft", "hard"), "bfloat16"), ("tdnn", ("decoupled", "interpolate"), "float32"), ("conformer", ("soft", "hard"), "float32"),
    ("blstm", ("hard", "soft"), "float32"),
])  # fmt: skip
def test_training_makes_no_tensor_without_a_device_and_moves_a_batch_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, kinds: tuple[str, str], precision: str
) -> None:
    train_set, dev = with_dumps(tmp_path)
    cfg = config(encoder, heads=heads(kinds), main="interpolate", precision=precision, accumulate=2)
    trainer = Trainer(cfg, train_set, dev, tmp_path)
    trainer.model.train()
    moved = []
    monkeypatch.setattr(Inputs, "to", lambda self, device: moved.append(device) or self)
    plain = trainer._backward

    def watched(*args: Any) -> None:
        with NoDevice():
            plain(*args)

    monkeypatch.setattr(trainer, "_backward", watched)
    for _ in range(6):
        trainer.step()
        with NoDevice():
            trainer.encoder.constrain(trainer.update, 0.0)
            trainer.average.update(trainer.model, trainer.update)  # type: ignore[union-attr]
        trainer.update += 1
    assert moved == [torch.device("cpu")] * 12


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoders_run_where_their_weights_are(name: str) -> None:
    encoder = make_encoder(name, 8, OPTIONS[name]).to("meta")
    layers = encoder(torch.zeros(2, 8, encoder.input_frames(5), device="meta"))
    assert [layer.device.type for layer in layers] == ["meta"] * len(layers) and layers[-1].shape == (2, encoder.dims[-1], 5)


class Hooked(Tdnn):
    """An encoder that uses every hook: a penalty, a constraint with phases, a running total that must not be averaged."""

    not_averaged = ("total",)
    total: Tensor

    def __init__(self, input_dim: int, **options: Any) -> None:
        super().__init__(input_dim, **options)
        self.register_buffer("total", torch.zeros(3))
        self.shares: list[tuple[int, float]] = []
        self._penalty: Tensor | None = None

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> list[Tensor]:
        hidden = super().forward(feats, pad)
        if self.training:
            self._penalty = 0.1 * hidden[-1].float().square().mean(1).sum()
            self.total += hidden[-1].detach().abs().sum()
        return hidden

    def penalties(self) -> dict[str, Tensor]:
        return {"size": self._penalty} if self._penalty is not None else {}

    def constrain(self, update: int, share: float) -> None:
        self.shares.append((update, share))


def test_an_encoders_penalties_constraints_and_totals_are_trained_with_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS.entries, "hooked", f"{__name__}:Hooked")
    train_set, dev = make_training_set(4, 90), make_training_set(2, 60, seed=3)
    cfg = config("hooked", epochs=2, checkpoint_every=2, eval_epochs=1)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    trainer = Trainer(cfg, train_set, dev, tmp_path / "a")
    trainer.run()
    assert trainer.encoder.shares == [(u, u / trainer.total) for u in range(trainer.total)]  # type: ignore[attr-defined]
    assert [0 < entry["train_size"] < 10 for entry in trainer.curve] == [True, True]
    state, average = load_tensors(tmp_path / "a" / "checkpoint.safetensors"), trainer.average
    assert average is not None and torch.equal(average.state["encoder.total"], trainer.encoder.total)  # type: ignore[arg-type]
    assert not torch.equal(average.state["main.output.weight"], trainer.model.state_dict()["main.output.weight"])
    Trainer(cfg, train_set, dev, tmp_path / "b").run(stop_after=3)
    resumed = Trainer(cfg, train_set, dev, tmp_path / "b")
    resumed.run()
    again = load_tensors(tmp_path / "b" / "checkpoint.safetensors")
    assert state.keys() == again.keys() and all(np.array_equal(state[n], again[n]) for n in state) and resumed.curve == trainer.curve


def test_a_penalty_moves_the_weights_by_its_mean_over_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS.entries, "hooked", f"{__name__}:Hooked")
    train_set = make_training_set(4, 90)
    trainer = Trainer(config("hooked"), train_set, train_set, tmp_path)
    part = trainer.kind.inputs(trainer.next_batch())
    gradients = []
    for penalise in (False, True):
        trainer.model.train()
        torch.manual_seed(1)
        trainer.optimizer.zero_grad()
        if not penalise:
            terms = trainer.kind.loss(part, 0.0)
            penalty = trainer.encoder.penalties()["size"] / (len(part.ids) * 10)  # chunks of ten output frames
            (terms["main"].total / terms["main"].items + penalty).backward()
        else:
            trainer._backward(part, part.counts, {})
        gradients.append([p.grad.clone() for p in trainer.model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_what_is_not_averaged_is_copied() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].not_averaged = ("running_mean",)  # type: ignore[assignment]
    average = Average(model, 0.9)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(4)
    average.update(model, 100)
    assert torch.equal(average.state["1.running_mean"], torch.full((2,), 4.0)) and int(average.state["1.num_batches_tracked"]) == 4
    assert torch.allclose(average.state["1.running_var"], torch.full((2,), 1.0 + 0.1 * 4))


class RunCounter(StudentKind):
    """A kind without frames' labels: how many runs of one label an utterance has, from the mean of the last layer."""

    choice, chosen_by = "error", "dev squared error"

    def __init__(self, cfg: StudentConfig, train_set: TrainingSet, compute: Compute) -> None:
        self.compute = compute
        self.encoder = make_encoder(cfg.encoder, train_set.input_dim, cfg.encoder_options)
        self.model = nn.ModuleDict({"encoder": self.encoder, "out": nn.Linear(self.encoder.dims[-1], 1)}).to(compute.device)
        self.runs = {c.id: float((c.labels[1:] != c.labels[:-1]).mean()) for c in train_set.copies}

    def inputs(self, batch: Batch) -> Inputs:
        tensors = {"feats": torch.from_numpy(batch.feats), "runs": torch.tensor([self.runs[i] for i in batch.ids])}
        if batch.pad is not None:
            tensors["pad"] = torch.from_numpy(batch.pad)
        return Inputs(tensors, {"error": len(batch.ids), "frames": batch.frames}, batch.ids)

    def loss(self, inputs: Inputs, share: float, figures: bool = False) -> dict[str, Term]:
        with self.compute.autocast():
            answer = self.model["out"](self.encoder(inputs.tensors["feats"], inputs.tensors.get("pad"))[-1].mean(2))[:, 0]
        return {"error": Term((answer.float() - inputs.tensors["runs"]).square().sum(), inputs.counts["error"])}

    def score(self, model: nn.Module, dev: TrainingSet) -> Score:
        size = float(sum(p.detach().square().sum() for p in model.parameters()))
        return Score({"error": size}, f"size {size:.2f}", {"utterances": len(dev.groups)})

    def save(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        save_tensors(folder / "model.safetensors", model.state_dict())
        return {"parameters": sum(p.numel() for p in model.parameters())}

    @classmethod
    def load(cls, folder: Path) -> nn.Module:
        raise NotImplementedError


@pytest.mark.parametrize("encoder", ["tdnnf", "conformer"])
def test_another_kind_is_one_class_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    monkeypatch.setitem(KINDS.entries, "runs", f"{__name__}:RunCounter")
    train_set, dev = make_training_set(6, 120, copies=2), make_training_set(2, 60, seed=3)
    cfg = config(encoder, kind="runs", epochs=6, checkpoint_every=3, accumulate=2)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = Trainer(cfg, train_set, dev, tmp_path / "a")
    whole.run()
    assert whole.curve[-1]["train_error"] < whole.curve[0]["train_error"] and "train_accuracy" not in whole.curve[0]
    assert whole.best == min(whole.curve, key=lambda e: e["dev_error"])
    Trainer(cfg, train_set, dev, tmp_path / "b").run(stop_after=4)
    resumed = Trainer(cfg, train_set, dev, tmp_path / "b")
    resumed.run()
    a, b = (load_tensors(tmp_path / name / "checkpoint.safetensors") for name in "ab")
    assert a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def test_an_unknown_kind_is_a_usage_error() -> None:
    for ask in (lambda: StudentConfig(kind="rnnt"), lambda: KINDS["rnnt"]):
        with pytest.raises(UsageError, match="no kind of student 'rnnt'; there are: hybrid"):
            ask()


WITHOUT_K2 = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "k2":
            raise ImportError("k2 is not installed here")
sys.meta_path.insert(0, Blocked())
from kdtool.student.train import main
main(sys.argv[1:])
assert "k2" not in sys.modules
"""


def test_students_train_without_k2(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    dev_feats, dev_ali = write_set(tmp_path / "dev", utterances=2, seed=7)
    post = write_dump(tmp_path / "p1", ali, "senone")
    argv = [feats, ali, dev_feats, dev_ali, tmp_path / "out", "--posts", post, "--epochs", 1, "--chunk", 30, "--batch", 6,
            "--device", "cpu", "--encoder-options", "{dim: 24, bottleneck: 8, contexts: [1, 1]}",
            "--heads", "[{unit: senone, layer: 1, weight: 0.3}]"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", WITHOUT_K2, *map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and (tmp_path / "out" / "model.safetensors").exists(), done.stderr
