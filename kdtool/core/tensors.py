"""Arrays on disk as safetensors.  In: arrays by name.  Out: one file that cannot run code and is verified when read."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import whole_file

CONTENT = "content_digest"


def save_tensors(path: Path | str, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays (numpy or torch, any mix) atomically; names in sorted order, so equal input gives equal bytes."""
    import numpy as np
    from safetensors.numpy import save

    arrays = {}
    for name in sorted(tensors):
        value = tensors[name]
        value = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
        arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
    with whole_file(Path(path)) as f:
        f.write(_with_metadata(save(arrays), metadata or {}))


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """Add the metadata, with a digest of the header and the arrays to detect flipped bits.

    The library itself writes metadata in hash order, which differs from run to run; here it is sorted.
    """
    header, arrays = _parts(data)
    digest = _content_digest({**header, "__metadata__": dict(metadata)}, arrays)
    header = {"__metadata__": dict(sorted({**metadata, CONTENT: digest}.items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + arrays


def _content_digest(header: dict[str, Any], arrays: memoryview) -> str:
    metadata = {k: v for k, v in header.get("__metadata__", {}).items() if k != CONTENT}
    digest = hashlib.blake2b(json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode(), digest_size=16)
    digest.update(arrays)
    return digest.hexdigest()


def _parts(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header and the arrays' bytes of a file."""
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]


def load_tensors(path: Path | str) -> dict[str, Any]:
    """Read all arrays of a file as numpy arrays.

    Raises KdError for a file that is missing, cut short, altered (files of `save_tensors` hold a digest) or not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = Path(path).read_bytes()
        arrays = dict(load(data))
        header, content = _parts(data)
        expected = header.get("__metadata__", {}).get(CONTENT)
        if expected and expected != (found := _content_digest(header, content)):
            raise ValueError(f"digest of its content is {found}, was written as {expected}")
        return arrays
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
    return {k: v for k, v in header.get("__metadata__", {}).items() if k != CONTENT}


def file_digest(path: Path | str) -> str:
    """BLAKE2b-128 of a file's content, as 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
