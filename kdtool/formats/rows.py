"""Rows of a data folder's manifests.  In: a file of JSON lines.  Out: its rows, checked field by field.

Other programs write manifests, too, so nothing is assumed: a field that is missing, of another type, NaN or
infinite is a fault. Transcripts are read here, so this module counts as code of the steps that use them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import read_jsonl

Fields = Mapping[str, tuple[type, ...]]
NUMBER = (int, float)
LARGEST = 1 << 53  # integers up to here are exact as floats
RECORDING: Fields = {"id": (str,), "sources": (list,), "sampling_rate": (int,), "num_samples": (int,), "duration": NUMBER}
TRANSCRIPT: Fields = {"id": (str,), "text": (str, type(None))}
SUPERVISION: Fields = {
    **TRANSCRIPT, "recording_id": (str,), "start": NUMBER, "duration": NUMBER, "speaker": (str, type(None)),
}  # fmt: skip


def read_utterances(data: Path) -> Iterator[dict[str, Any]]:
    """Ids and transcripts of a data folder, for steps that need only these; KdError as in `read_rows`."""
    return read_rows(data / "supervisions.jsonl.gz", TRANSCRIPT)


def read_rows(path: Path, fields: Fields) -> Iterator[dict[str, Any]]:
    """The rows of a data folder's manifest.

    Raises:
        KdError: the file is missing, or a line lacks one of the `fields`.
    """
    if not path.is_file():
        raise KdError(f"{path}: no such file; prepare the corpus first (local/*/prepare_data.sh)")
    for number, row in enumerate(read_jsonl(path), 1):
        if fault := "; ".join(row_faults(row, fields)):
            raise KdError(f"{path}, line {number}: {fault}; prepare the corpus again (utils/validate_data.sh {path.parent} lists all such)")
        yield row


def row_faults(row: Any, fields: Fields) -> Iterator[str]:
    """Describe the faults in the fields of one row."""
    if not isinstance(row, dict):
        yield f"{type(row).__name__} instead of an object"
        return
    for name, types in fields.items():
        value = row.get(name)
        if name not in row and type(None) not in types:
            yield f"no {name}"
        elif not isinstance(value, types) or isinstance(value, bool):
            yield f"{name} is {type(value).__name__} {str(value)[:40]!r}"
        elif isinstance(value, NUMBER) and not (math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST):
            yield f"{name} is {value}" if isinstance(value, float) else f"{name} has {value.bit_length()} bits"
