"""The device is chosen once, and a missing one is a usage error."""

from __future__ import annotations

import pytest
import torch

from kdtool.core import device
from kdtool.core.device import Compute, check_device, choose_device, resolve_precision
from kdtool.core.errors import UsageError
from kdtool.student.config import StudentConfig


@pytest.mark.parametrize(("count", "name", "chosen"), [(0, "auto", "cpu"), (2, "cpu", "cpu"), (2, "auto", "cuda:0"), (2, "cuda", "cuda:0"),
                                                       (2, "cuda:1", "cuda:1")])  # fmt: skip
def test_auto_is_the_first_cuda_device_or_the_cpu(monkeypatch: pytest.MonkeyPatch, count: int, name: str, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert str(choose_device(name)) == chosen


def test_a_device_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"device cuda:1: torch .* sees 1 CUDA devices; give --device cpu"):
        choose_device("cuda:1")
    for name in ("gpu", "cuda:", "cuda:x", "CPU", ""):
        with pytest.raises(UsageError, match="auto, cpu, cuda or cuda:N"):
            check_device(name)
    with pytest.raises(UsageError, match="auto, cpu, cuda or cuda:N"):
        StudentConfig(device="tpu")


def test_precision_auto_asks_the_device_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "FLAGS", ())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert [resolve_precision("auto", kind) for kind in ("cpu", "cuda")] == ["float32", "bfloat16"]
    assert [resolve_precision(p, "cuda") for p in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_float32_on_cuda_is_not_rounded_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "choose_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert Compute.choose("cuda", "auto").precision == "bfloat16" and torch.backends.cudnn.allow_tf32
    assert Compute.choose("cuda").precision == "float32" and not torch.backends.cudnn.allow_tf32


def test_autocast_computes_in_the_precision() -> None:
    x = torch.ones(4, 4)
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with Compute(torch.device("cpu"), precision).autocast():
            assert (x @ x).dtype == dtype
