"""Training: it learns, it resumes bit-exactly, it reports faults."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from student_data import PDFS, make_training_set, write_dump, write_set

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tensors import load_tensors
from kdtool.student.config import StudentConfig
from kdtool.student.loop import Trainer
from kdtool.student.model import Student
from kdtool.student.optim import clip_gradient, learning_rate
from kdtool.student.train import main, train

SMALL = {"encoder": "tdnnf", "encoder_options": {"dim": 24, "bottleneck": 8, "contexts": [1, 1], "front": {"channels": 12}, "dropout": 0.1},
         "hidden": 16, "chunk": 30, "batch": 6, "freq_masks": 0, "lr": 0.01}  # fmt: skip


def config(**changes: object) -> StudentConfig:
    return StudentConfig(**{**SMALL, **changes})  # type: ignore[arg-type]


FRONT = {"front": {"channels": 12}, "dropout": 0.1}
WHOLE = {  # encoders that see whole utterances, and one that does not
    "conformer": {"dim": 16, "layers": 2, "heads": 2, "kernel": 5, "reach": 8, **FRONT},
    "blstm": {"dim": 12, "layers": 1, **FRONT},
    "tdnnf": SMALL["encoder_options"],
}


def whole(encoder: str) -> dict[str, object]:
    return {"encoder": encoder, "encoder_options": WHOLE[encoder], "chunk": 0, "batch": 2}


@pytest.mark.parametrize("encoder", ["", "conformer"])
def test_a_label_of_the_current_frame_is_learnt_at_every_frame(tmp_path: Path, encoder: str) -> None:
    """Off-by-one test: labels of neighbours are independent, so any shift would leave accuracy at chance."""
    train, dev = make_training_set(12, 200, seed=0), make_training_set(3, 100, seed=9)
    trainer = Trainer(config(epochs=25, eval_epochs=5, average=0.9, **(whole(encoder) if encoder else {})), train, dev, tmp_path)
    trainer.run()
    model = trainer.chosen()
    assert trainer.kind.score(model, dev).figures["accuracy"] > 0.98
    for copy in dev.copies:  # all frames, not only those of one phase of the subsampling
        hits = model.log_posteriors(copy.feats.astype(np.float32)).argmax(1) == copy.labels
        assert all(hits[s::3].mean() > 0.95 for s in range(3))


@pytest.mark.parametrize("changes", [
    {}, {"optimizer": "sgd"}, {"precision": "auto"}, {"band_limit": 0.7, "band_lowest": 500.0},
    *({**whole(encoder), "precision": precision} for encoder, precision in zip(WHOLE, ("bfloat16", "bfloat16", "float32"), strict=True)),
], ids=lambda c: "-".join(str(v) for k, v in c.items() if k in ("encoder", "optimizer", "precision", "band_limit")) or "plain")  # fmt: skip
def test_resumed_training_is_bit_identical(tmp_path: Path, changes: dict) -> None:
    train, dev = make_training_set(6, 120, copies=3), make_training_set(2, 50, seed=9)
    cfg = config(**{"epochs": 4, "checkpoint_every": 3, "freq_masks": 1, "freq_width": 2, "balance": 0.5, "warp": 0.1, **changes})
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    undisturbed = Trainer(cfg, train, dev, tmp_path / "a")
    undisturbed.run()
    for stop in (5, 2, 7, None):  # killed three times, also between checkpoints
        Trainer(cfg, train, dev, tmp_path / "b").run(stop_after=stop)
        torch.manual_seed(99)
    resumed = Trainer(cfg, train, dev, tmp_path / "b")
    resumed.run()
    a, b = load_tensors(tmp_path / "a" / "checkpoint.safetensors"), load_tensors(tmp_path / "b" / "checkpoint.safetensors")
    assert a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)
    assert undisturbed.curve == resumed.curve and undisturbed.best == resumed.best
    for n, t in undisturbed.chosen().state_dict().items():
        assert torch.equal(t, resumed.chosen().state_dict()[n])


def heads(kind: str) -> list[dict]:
    return [{"unit": "senone", "layer": 2, "weight": 0.3, "kind": kind, "hidden": 8},
            {"unit": "phone", "layer": 1, "weight": 0.3, "kind": kind, "hidden": 8}]  # fmt: skip


@pytest.mark.parametrize(("changes", "files"), [
    ({}, {"main"}),
    ({"main": "interpolate", "main_options": {"weight": 0.2}}, {"main"}),
    ({"heads": heads("soft")}, {"main", "senone_soft_2", "phone_soft_1"}),
    ({"heads": heads("hard")}, {"main", "senone_hard_2", "phone_hard_1"}),
    ({**whole("conformer"), "heads": [{**h, "stride": 2} for h in heads("soft")]}, {"main", "senone_soft_2", "phone_soft_1"}),
])  # fmt: skip
def test_from_folders_to_a_student_without_its_heads(tmp_path: Path, changes: dict, files: set[str]) -> None:
    feats, ali = write_set(tmp_path, speeds=(0.9, 1.0))
    dev_feats, dev_ali = write_set(tmp_path / "dev", utterances=2, seed=7)
    posts = [write_dump(tmp_path / "p1", ali, "senone"), write_dump(tmp_path / "p2", ali, "phone", units=4, seed=1)]
    argv = [str(p) for p in (feats, ali, dev_feats, dev_ali, tmp_path / "out")] + ["--epochs", "2", "--eval-epochs", "1"]
    for name, value in {**SMALL, **changes}.items():
        argv += [f"--{name.replace('_', '-')}", json.dumps(value) if isinstance(value, (dict, list)) else str(value)]
    main([*argv, "--posts", ",".join(map(str, posts))])
    curve = [json.loads(line) for line in (tmp_path / "out" / "curve.jsonl").read_text().splitlines()]
    assert files == {k.removeprefix("train_") for k in curve[-1] if k.startswith("train_")} - {"accuracy"}
    model = Student.load(tmp_path / "out")
    assert model.shape.tree_digest == "t"  # that of the alignment
    assert not model.aux and torch.isfinite(model.log_priors).all()
    np.testing.assert_allclose(np.exp(model.log_priors.numpy()).sum(), 1.0, rtol=1e-5)
    assert (tmp_path / "out" / "heads.safetensors").exists() == (len(files) > 1)
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()
    about = json.loads((tmp_path / "out" / "student.json").read_text())
    assert (about["auxiliary_parameters"] > 0) == (len(files) > 1) and 0 <= about["dev_accuracy"] <= 1


def test_killed_after_the_export_it_does_not_train_again(tmp_path: Path) -> None:
    for name in ("student.json", "best.safetensors"):
        (tmp_path / name).write_text("{}")
    train(config(), {}, [], tmp_path)  # with nothing to train on
    assert [p.name for p in tmp_path.iterdir()] == ["student.json"]


def test_missing_posts_and_bad_configs_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --posts"):
        main([*["x"] * 4, str(tmp_path / "o"), "--main", "interpolate"])
    with pytest.raises(UsageError, match="unit 'word'"):
        config(heads=[{"unit": "word", "layer": 1, "weight": 0.1}])
    with pytest.raises(UsageError, match="unit, layer and weight"):
        config(heads=[{"unit": "phone"}])
    with pytest.raises(UsageError, match="two heads"):
        config(heads=[{"unit": "phone", "layer": 1, "weight": 0.1}] * 2)
    with pytest.raises(UsageError, match="epochs"):
        config(epochs=0)
    with pytest.raises(UsageError, match="0 for whole utterances"):
        config(chunk=-1)


def test_a_loss_that_is_not_a_number_names_the_utterances(tmp_path: Path) -> None:
    train = make_training_set(1, 60)
    train.copies[0].feats[10] = np.nan
    with pytest.raises(KdError, match="u0_0"):
        Trainer(config(epochs=2), train, make_training_set(1, 60, seed=2), tmp_path).run()


def test_an_alignment_of_another_tree_is_refused(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    dev_feats, dev_ali = write_set(tmp_path / "dev", seed=7)
    (dev_ali / "meta.json").write_text(json.dumps({"tree_digest": "other", "num_pdfs": PDFS}))
    with pytest.raises(KdError, match="align both with one model"):
        main([str(p) for p in (feats, ali, dev_feats, dev_ali, tmp_path / "out")])


@pytest.mark.parametrize("decay", ["cosine", "exponential", "linear"])
def test_learning_rate_rises_then_falls_to_its_end(decay: str) -> None:
    cfg = StudentConfig(decay=decay, lr=0.01, final_lr=0.1, warmup=0.1)
    rates = [learning_rate(u, 200, cfg) for u in range(200)]
    assert rates.index(max(rates)) in (19, 20) and max(rates) == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[20:])) and rates[-1] == pytest.approx(0.001, rel=0.05)


@pytest.mark.parametrize("largest", [1e-3, 0.5, 100.0])
def test_clipping_is_torchs_to_the_bit(largest: float) -> None:
    one, two = (torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3)) for _ in range(2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    clip_gradient(one, largest)
    torch.nn.utils.clip_grad_norm_(two.parameters(), largest)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(one.parameters(), two.parameters(), strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["hard", "soft", "interpolate", "decoupled"])
def test_updates_of_utterances_without_a_unit_are_no_error(tmp_path: Path, kind: str) -> None:
    """Only silence or noise: the main head learns from it, the others have no target in that update."""
    write_set(tmp_path, utterances=4, silent=(0, 2))
    dumps = [str(write_dump(tmp_path / f"post_{unit}", tmp_path / "ali", unit)) for unit in ("senone", "phone")]
    main_kind = "interpolate" if kind == "interpolate" else "ce"
    options = ["--encoder-options", "{dim: 16, bottleneck: 8, contexts: [1]}", "--hidden", "8", "--epochs", "2", "--batch", "1",
               "--chunk", "30", "--freq-masks", "0", "--heads", json.dumps(heads(kind)[1:]), "--main", main_kind]  # fmt: skip
    places = [str(tmp_path / p) for p in ("fbank", "ali", "fbank", "ali", "out")]
    main([*options, "--posts", ",".join(dumps), *places])
    curve = [json.loads(line) for line in (tmp_path / "out" / "curve.jsonl").read_text().splitlines()]
    assert np.isfinite([value for row in curve for value in row.values() if isinstance(value, float)]).all()
    assert (tmp_path / "out" / "dropped.tsv").read_text() == ""
