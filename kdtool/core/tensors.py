"""Arrays on disk as safetensors.  In: arrays by name.  Out: one file that cannot run code and is checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError


def save_tensors(path: Path | str, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays (numpy or torch, any mix) whole or not at all; names in sorted order, so equal input gives equal bytes."""
    import numpy as np
    from safetensors.numpy import save

    arrays = {}
    for name in sorted(tensors):
        value = tensors[name]
        value = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
        arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as f:
            # The library writes metadata in hash order, which differs from run to run: ours is put in sorted.
            f.write(_with_metadata(save(arrays), metadata))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _with_metadata(data: bytes, metadata: Mapping[str, str] | None) -> bytes:
    if not metadata:
        return data
    (size,) = struct.unpack("<Q", data[:8])
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def load_tensors(path: Path | str) -> dict[str, Any]:
    """Read all arrays of a file as numpy arrays.

    Raises:
        KdError: the file is missing, cut short or otherwise not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(str(path)))
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; run the step that makes {Path(path).parent}") from e
    except (SafetensorError, ValueError, KeyError, struct.error) as e:
        size = Path(path).stat().st_size
        raise KdError(f"{path} ({size} bytes): corrupt tensor file ({e}); delete its folder and run the step again") from e


def load_metadata(path: Path | str) -> dict[str, str]:
    """The text pairs stored beside the arrays (empty when there are none)."""
    try:
        with open(path, "rb") as f:
            (size,) = struct.unpack("<Q", f.read(8))
            if size > 100_000_000:
                raise ValueError(f"header of {size} bytes")
            header = json.loads(f.read(size))
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; run the step that makes {Path(path).parent}") from e
    except (struct.error, ValueError) as e:
        raise KdError(f"{path}: corrupt tensor file ({e}); delete its folder and run the step again") from e
    return dict(header.get("__metadata__", {}))


def file_digest(path: Path | str) -> str:
    """BLAKE2b-128 of a file's content, as 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
