"""Trunks and the full-rate output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from student_data import DIM, PDFS

from kdtool.core.errors import KdError, UsageError
from kdtool.student.encoders import ENCODERS, make_encoder
from kdtool.student.encoders.tdnnf import FactorisedLayer
from kdtool.student.model import AuxShape, Shape, Student

OPTIONS: dict[str, dict] = {
    "tdnn": {"dim": 16, "contexts": [1, 0, 2], "front": {"channels": 8}},
    "tdnnf": {"dim": 16, "bottleneck": 6, "contexts": [1, 0, 2], "front": {"kind": "conv2d", "channels": [2, 3]}},
    "blstm": {"dim": 8, "layers": 2, "front": {"channels": 8, "stride_kernel": 3}},
}


def student(name: str, aux: list[AuxShape] | None = None) -> Student:
    torch.manual_seed(0)
    model = Student(Shape(name, OPTIONS[name], DIM, PDFS, 12), aux)
    for module in model.modules():  # statistics as after training, so that evaluation is not the identity
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


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
    """The frame-shift test: output t is what the trunk says with frame t in its centre, edges repeated."""
    model = student(name)
    feats = np.random.default_rng(1).normal(size=(frames, DIM)).astype(np.float32)
    got = model.log_posteriors(feats)
    assert got.shape == (frames, PDFS) and got.dtype == np.float32
    for t in range(frames):
        index = np.arange(t - model.encoder.left, t + model.encoder.right + 1).clip(0, frames - 1)
        one = model(torch.from_numpy(feats[index].T.copy())[None])["main"][0, :, 0]
        np.testing.assert_allclose(got[t], torch.log_softmax(one, 0).detach().numpy(), atol=1e-5)


def test_recurrent_full_rate_interleaves_the_shifted_runs() -> None:
    model = student("blstm")
    feats = np.random.default_rng(1).normal(size=(30, DIM)).astype(np.float32)
    got = model.log_posteriors(feats)
    left, right = model.encoder.left, model.encoder.right
    for shift in range(3):
        index = np.arange(shift - left, shift + 27 + 1 + right).clip(0, 29)
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
