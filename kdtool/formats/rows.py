"""Rows of a data folder's manifests.  In: a file of JSON lines.  Out: its rows, checked field by field.

Other programs write manifests, too, so nothing is assumed: a field that is missing, of another type, NaN or
infinite is a fault. Transcripts are read here, so this module counts as code of the steps that use them.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import read_jsonl

Fields = Mapping[str, tuple[type, ...]]
NUMBER = (int, float)
LARGEST = 1 << 53  # integers up to here are exact as floats
MAX_BYTES = 200  # of an id: file systems allow 255 bytes for a name; suffixes such as '_sp0.9.npy' need room
MANIFESTS = ("recordings.jsonl.gz", "supervisions.jsonl.gz")
RECORDING: Fields = {"id": (str,), "sources": (list,), "sampling_rate": (int,), "num_samples": (int,), "duration": NUMBER}
TRANSCRIPT: Fields = {"id": (str,), "text": (str, type(None))}
SUPERVISION: Fields = {
    **TRANSCRIPT, "recording_id": (str,), "start": NUMBER, "duration": NUMBER, "speaker": (str, type(None)),
}  # fmt: skip


def read_utterances(data: Path) -> Iterator[dict[str, Any]]:
    """Ids and transcripts of a data folder, for steps that need only these; KdError as in `read_rows`."""
    return read_rows(data / "supervisions.jsonl.gz", TRANSCRIPT)


def read_rows(path: Path, fields: Fields) -> Iterator[dict[str, Any]]:
    """The rows of a data folder's manifest. KdError if the file is missing, or a line lacks one of the `fields`."""
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


def id_fault(name: object) -> str:
    """'' for a good id of an utterance, recording or speaker, else what is wrong with it.

    Ids become file names (features), fields of tables (CTM, TSV, Kaldi's text files) and keys of tensors. An id that breaks one of
    these is refused when the data is imported: nothing needs escaping later, and no id can lead out of a folder.
    """
    if not isinstance(name, str) or not name:
        return f"{name!r} is no text"
    if "/" in name or "\\" in name:
        return f"{name!r} holds a slash, which no file name can"
    if any(c.isspace() or not c.isprintable() for c in name):
        return f"{name!r} holds a blank or a control character, which ends a field in tables"
    if name[0] in ".-":
        return f"{name!r} begins with '{name[0]}': as a file name it would be hidden, another folder, or an option"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"{name[:40]!r}.. has more than {MAX_BYTES} bytes, too many for a file name"
    return ""


def source_fault(source: Any) -> str:
    """'' for a source of a Lhotse recording that is a plain file, else what is wrong.

    Lhotse also runs commands (type 'command' goes to a shell), fetches URLs, and reads some formats through a shell line that holds
    the file's name. Manifests are foreign input, so only plain files are allowed.
    """
    if not isinstance(source, dict) or not isinstance(source.get("source"), str) or not source.get("source"):
        return "no audio file is named"
    if source.get("type") != "file":
        return f"type {source.get('type')!r} ({source['source'][:60]!r}), only 'file' is read; commands are not run, nothing is fetched"
    return f"{source['source']!r} is no file name" if "\0" in source["source"] else ""
