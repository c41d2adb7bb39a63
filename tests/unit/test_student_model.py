"""Encoders and the full-rate output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from student_data import DIM, PDFS

from kdtool.core.errors import KdError, UsageError
from kdtool.student.encoders import ENCODERS, make_encoder
from kdtool.student.encoders.base import BatchNorm1d, BatchNorm2d
from kdtool.student.encoders.conformer import Attention
from kdtool.student.encoders.tdnnf import FactorisedLayer
from kdtool.student.model import AuxShape, Shape, Student

OPTIONS: dict[str, dict] = {
    "tdnn": {"dim": 16, "contexts": [1, 0, 2], "front": {"channels": 8}},
    "tdnnf": {"dim": 16, "bottleneck": 6, "contexts": [1, 0, 2], "front": {"kind": "conv2d", "channels": [2, 3]}},
    "blstm": {"dim": 8, "layers": 2, "front": {"channels": 8, "stride_kernel": 3}},
    "conformer": {"dim": 8, "layers": 2, "heads": 2, "kernel": 5, "reach": 3, "front": {"kind": "conv2d", "channels": [2, 3]}},
}


def student(name: str, aux: list[AuxShape] | None = None) -> Student:
    torch.manual_seed(0)
    model = Student(Shape(name, OPTIONS[name], DIM, PDFS, 12), aux)
    for module in model.modules():  # statistics as after training, so that evaluation is not the identity
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("frames", [1, 50, 97, 300])
def test_outputs_do_not_depend_on_the_length_that_they_are_computed_with(name: str, frames: int) -> None:
    model, feats = student(name), np.random.default_rng(frames).normal(size=(frames, DIM)).astype(np.float32)
    count, found = -(-frames // 3), model.outputs(feats)
    index = np.arange(-model.encoder.left, model.encoder.input_frames(count) - model.encoder.left).clip(0, frames - 1)
    with torch.no_grad():
        plain = model(torch.from_numpy(feats[index].T.copy())[None])["main"][0].T.numpy()
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_every_registered_encoder_is_tested() -> None:
    assert set(OPTIONS) == set(ENCODERS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_number_of_outputs_and_context_are_as_stated(name: str) -> None:
    encoder = student(name).encoder
    for outputs in (1, 2, 7):
        layers = encoder(torch.randn(2, DIM, encoder.input_frames(outputs)))
        assert [tuple(h.shape) for h in layers] == [(2, d, outputs) for d in encoder.dims]


@pytest.mark.parametrize("name", ["tdnn", "tdnnf"])
def test_output_depends_on_exactly_its_context(name: str) -> None:
    encoder = student(name).encoder
    feats = torch.randn(1, DIM, encoder.input_frames(5), requires_grad=True)
    encoder(feats)[-1][0, :, 2].pow(2).sum().backward()
    touched = feats.grad.abs().sum((0, 1)).nonzero().flatten()  # type: ignore[union-attr]
    centre = encoder.left + 2 * encoder.subsampling
    assert (int(touched.min()), int(touched.max())) == (centre - encoder.left, centre + encoder.right)


@pytest.mark.parametrize("name", ["tdnn", "tdnnf"])
@pytest.mark.parametrize("frames", [1, 2, 3, 20, 31])
def test_full_rate_equals_evaluating_each_frame_by_itself(name: str, frames: int) -> None:
    """The frame-shift test: output t is what the encoder says with frame t in its centre, edges repeated."""
    model = student(name)
    feats = np.random.default_rng(1).normal(size=(frames, DIM)).astype(np.float32)
    got = model.log_posteriors(feats)
    assert got.shape == (frames, PDFS) and got.dtype == np.float32
    for t in range(frames):
        index = np.arange(t - model.encoder.left, t + model.encoder.right + 1).clip(0, frames - 1)
        one = model(torch.from_numpy(feats[index].T.copy())[None])["main"][0, :, 0]
        np.testing.assert_allclose(got[t], torch.log_softmax(one, 0).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 30, 31, 32])
@pytest.mark.parametrize("name", ["blstm", "conformer"])
def test_full_rate_of_a_whole_sentence_is_what_training_sees(name: str, frames: int) -> None:
    """A whole utterance from each of its first three frames on, as training on whole utterances cuts it, nothing beyond its end."""
    model = student(name)
    feats = np.random.default_rng(1).normal(size=(frames, DIM)).astype(np.float32)
    got = model.log_posteriors(feats)
    left, right = model.encoder.left, model.encoder.right
    for shift in range(min(3, frames)):
        outputs = -(-(frames - shift) // 3)
        index = np.arange(shift - left, shift + 3 * outputs - 2 + right).clip(0, frames - 1)
        want = torch.log_softmax(model(torch.from_numpy(feats[index].T.copy())[None])["main"][0], 0)
        np.testing.assert_allclose(got[shift::3], want.detach().numpy().T, atol=1e-5)


def test_saved_model_has_no_auxiliary_heads_and_gives_the_same_output(tmp_path: Path) -> None:
    model = student("tdnnf", [AuxShape("phone", 1, 5, 9), AuxShape("last", -1, 5, 4, stride=2)])
    feats = torch.randn(2, DIM, model.encoder.input_frames(3))
    assert {n: tuple(z.shape) for n, z in model(feats).items()} == {"main": (2, PDFS, 3), "phone": (2, 9, 3), "last": (2, 4, 2)}
    model.log_priors.uniform_(-3, -1)
    model.save(tmp_path)
    loaded = Student.load(tmp_path)
    assert not any("aux" in n for n in loaded.state_dict()) and (loaded.num_pdfs, loaded.feature_kind) == (PDFS, "fbank")
    assert torch.equal(loaded.log_priors, model.log_priors)
    x = np.random.default_rng(0).normal(size=(25, DIM)).astype(np.float32)
    np.testing.assert_array_equal(loaded.log_posteriors(x), model.log_posteriors(x))


def test_bad_input_is_named(tmp_path: Path) -> None:
    model = student("tdnn")
    with pytest.raises(KdError, match=r"\(0, 8\)"):
        model.log_posteriors(np.zeros((0, DIM), np.float32))
    with pytest.raises(KdError, match="own feature settings"):
        model.log_posteriors(np.zeros((5, DIM + 1), np.float32))
    with pytest.raises(KdError, match="layer 9"):
        student("tdnn", [AuxShape("x", 9, 4, 4)])
    with pytest.raises(UsageError, match="no encoder"):
        make_encoder("tdn", DIM, {})
    with pytest.raises(UsageError, match="front end 'conv3d'"):
        make_encoder("tdnn", DIM, {"front": {"kind": "conv3d"}})
    with pytest.raises(UsageError, match="must be odd"):
        make_encoder("tdnn", DIM, {"front": {"kernel": 4}})
    with pytest.raises(UsageError, match="wide"):
        make_encoder("tdnn", DIM, {"wide": 3})
    model.save(tmp_path)
    blob = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(blob[: len(blob) // 2])
    with pytest.raises(KdError, match=r"model\.safetensors"):
        Student.load(tmp_path)


def test_constraint_makes_the_bottleneck_semi_orthogonal() -> None:
    torch.manual_seed(0)
    layer = FactorisedLayer(24, 6, 1, 0.0, 0.66)
    for _ in range(200):
        layer.orthogonalise()
    m = layer.linear.weight.detach().flatten(1)
    p = m @ m.t()
    torch.testing.assert_close(p / p.diagonal().mean(), torch.eye(6), atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_padded_batch_is_its_utterances_one_by_one(name: str) -> None:
    model = student(name, [AuxShape("low", 0, 5, 9), AuxShape("last", -1, 5, 4, stride=2)])
    lengths = [7, 1, 12, 4]
    wanted = model.encoder.input_frames
    feats = torch.full((4, DIM, wanted(12)), 1e3)  # any values in the padding
    for i, n in enumerate(lengths):
        feats[i, :, : wanted(n)] = torch.randn(DIM, wanted(n))
    together = model(feats, 12 - torch.tensor(lengths))
    for i, n in enumerate(lengths):
        for head, logits in model(feats[i : i + 1, :, : wanted(n)]).items():
            torch.testing.assert_close(together[head][i : i + 1, :, : logits.shape[2]], logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_padding_changes_neither_statistics_nor_gradients(name: str) -> None:
    """In training: two batches that differ in their padding alone, in length and in content."""
    lengths = torch.tensor([6, 3, 5])
    outcome = []
    for most, fill in ((6, 0.0), (9, 50.0)):
        model = student(name, [AuxShape("last", -1, 5, 4, stride=2)]).double().train()
        for module in model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
        g = torch.Generator().manual_seed(3)
        feats = torch.full((3, DIM, model.encoder.input_frames(most)), fill, dtype=torch.float64)
        for i, n in enumerate(lengths.tolist()):
            feats[i, :, : model.encoder.input_frames(n)] = torch.randn(DIM, model.encoder.input_frames(n), generator=g, dtype=torch.float64)
        logits = model(feats, most - lengths)
        loss = sum(logits["main"][i, :, :n].square().sum() + logits["last"][i, 0, : -(-n // 2)].sum() for i, n in enumerate(lengths))
        loss.backward()  # type: ignore[union-attr]
        outcome.append({**{n: p.grad for n, p in model.named_parameters()}, **dict(model.named_buffers()), "loss": loss})
    for n, value in outcome[0].items():
        torch.testing.assert_close(outcome[1][n], value, msg=lambda m, n=n: f"{n}: {m}")  # type: ignore[misc]


@pytest.mark.parametrize("dims", [1, 2])
def test_masked_statistics_are_those_of_the_frames_end_to_end(dims: int) -> None:
    masked, plain = ((BatchNorm1d, BatchNorm2d)[dims - 1](4), (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)[dims - 1](4))
    x, pad = torch.randn(3, 4, *[5] * (dims - 1), 8), torch.tensor([0, 3, 7])
    joined = torch.cat([x[i : i + 1, ..., : 8 - int(p)] for i, p in enumerate(pad)], dim=-1)
    want, got = plain(joined), masked(x, pad)
    torch.testing.assert_close(torch.cat([got[i : i + 1, ..., : 8 - int(p)] for i, p in enumerate(pad)], dim=-1), want)
    for n, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(masked.named_buffers())[n], buffer)
    assert torch.equal(masked.eval()(x, pad), masked(x))


def test_attention_knows_distances_up_to_its_reach() -> None:
    attention = Attention(8, 2, 3)
    with torch.no_grad():
        attention.bias.copy_(torch.arange(14.0))
    bias = attention.positions(6)
    for h in range(2):
        for i in range(6):
            for j in range(6):
                assert float(bias[h, i, j]) == 7 * h + min(3, max(-3, j - i)) + 3


def test_conformer_of_default_size_and_bad_options() -> None:
    count = sum(p.numel() for p in make_encoder("conformer", 80, {"front": {"kind": "conv2d"}}).parameters())
    assert 0.5e6 < count < 2e6
    for wrong in ({"dim": 10, "heads": 4}, {"reach": 0}, {"kernel": 4}, {"layers": 0}):
        with pytest.raises(UsageError, match="conformer"):
            make_encoder("conformer", DIM, wrong)
