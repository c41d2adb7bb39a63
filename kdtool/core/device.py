"""Device and arithmetic of a network, chosen once.  In: --device and --precision.  Out: ``Compute``.

A batch is moved to ``Compute.device`` once; nothing else in training names a device.  `auto` is the first CUDA device, or the CPU
if there is none.
"""

import ctypes
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.core.children import system_text
from kdtool.core.errors import UsageError

if TYPE_CHECKING:
    import torch

DEVICE_HELP = "device to compute on: auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N"
PRECISIONS = ("float32", "bfloat16", "auto")
CPUINFO = Path("/proc/cpuinfo")
FLAGS = ("avx512_bf16", "amx_bf16")
DRIVERS = tuple(Path(p) for p in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))  # NVIDIA, Windows' Linux, AMD


@dataclass
class Compute:
    """A device and an arithmetic. ``precision``: "float32" or "bfloat16"; a resumed run keeps that of its checkpoint."""

    device: "torch.device"
    precision: str = "float32"

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "float32") -> "Compute":
        """The device of that name and its resolved ``precision``; UsageError for a missing device."""
        chosen = choose_device(device)
        compute = cls(chosen, resolve_precision(precision, chosen.type))
        if chosen.type == "cuda" and compute.precision == "float32":
            import torch

            torch.backends.cudnn.allow_tf32 = False  # keep float32: torch would use 10 of 23 bits in convolutions
        if chosen.type == "cpu":
            keep_memory()
        return compute

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a network's forward pass; losses are computed outside of it, in float32."""
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def describe(self) -> str:
        """For records: 'cpu', or 'cuda:0 (NVIDIA H100)'."""
        import torch

        return f"{self.device} ({torch.cuda.get_device_name(self.device)})" if self.device.type == "cuda" else str(self.device)


def check_device(name: str) -> str:
    """``name`` if it can name a device, else UsageError; does not load torch or check whether the device exists."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"device {name}: auto, cpu, cuda or cuda:N")
    return name


def choose_device(name: str) -> "torch.device":
    """The torch device of a name; 'auto' is cuda:0 if torch sees a CUDA device, else the CPU. UsageError for other devices."""
    import torch

    check_device(name)
    count = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        raise UsageError(f"device {name}: torch {torch.__version__} sees {count} CUDA devices; give --device cpu, or install a torch "
                         "built for this machine's GPU")  # fmt: skip
    return torch.device("cuda", number)


def device_type(name: str) -> str:
    """"cpu" or "cuda" for the name of a device; loads torch only if the machine has an accelerator's driver."""
    check_device(name)
    if name == "cpu" or (name == "auto" and not any(path.exists() for path in DRIVERS)):
        return "cpu"
    return choose_device(name).type


def resolve_precision(precision: str, device: str) -> str:
    """"float32" or "bfloat16"; 'auto' is bfloat16 if the type of device ("cpu" or "cuda") supports it."""
    if precision != "auto":
        return precision
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Twice as fast on a processor with bfloat16 arithmetic (AVX512_BF16 or AMX), far slower elsewhere.
    flags = system_text(CPUINFO)
    return "bfloat16" if any(flag in flags for flag in FLAGS) else "float32"


def keep_memory() -> None:
    """Let glibc's malloc keep the memory of freed tensors: else the system takes it back and clears it, page by page, at each update."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: its largest value; larger blocks still go back
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
