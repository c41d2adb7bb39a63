"""Digests of content: files, folders, a step's output, source code.  In: paths.  Out: hex strings.

A folder made by a step counts by its completion record (a Merkle tree over the recipe); any other folder by the
content of all its files. A file whose size and modification time match the record is not read again.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json
from kdtool.core.tensors import file_digest
from kdtool.core.walk import Fault, files_below

RECORD = ".done.json"
# Logs, versions and options differ between runs with the same result.
NOT_CONTENT = frozenset({"log", "env.json", "config.yaml"})
Stats = dict[str, list[Any]]


def combine(parts: Iterable[str]) -> str:
    """One digest of several strings, in their order."""
    return hashlib.blake2b("\n".join(parts).encode(errors="surrogatepass"), digest_size=16).hexdigest()


def output_files(folder: Path, leave_out: frozenset[str] = NOT_CONTENT) -> list[Path]:
    """A step's output files, sorted: no hidden files, no logs, no nested steps' folders."""
    found: list[Path] = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith(".") or entry.name in leave_out:
            continue
        path = Path(entry.path)
        if entry.is_dir():
            if not (path / RECORD).exists():
                found += output_files(path, frozenset())
        else:
            found.append(path)
    return found


def stat_digest(path: Path, known: Stats, key: str) -> list[Any]:
    """[size, mtime_ns, digest] of a file; the digest is taken from `known` when size and time are unchanged."""
    stat = path.stat()
    old = known.get(key)
    if old and old[0] == stat.st_size and old[1] == stat.st_mtime_ns:
        return old
    return [stat.st_size, stat.st_mtime_ns, file_digest(path)]


def folder_stats(folder: Path, known: Stats) -> Stats:
    """Relative name -> [size, mtime_ns, digest] of a step's output files."""
    names = {str(p.relative_to(folder)): p for p in output_files(folder)}
    return {name: stat_digest(p, known, name) for name, p in names.items()}


def stats_digest(stats: Stats) -> str:
    """Digest of an output folder, from its file digests."""
    return combine(f"{name} {stats[name][2]}" for name in sorted(stats))


def input_digest(path: Path, known: Stats, fresh: Stats) -> str:
    """Digest of an input by its content; `fresh` collects the statistics for the next time.

    Unreadable files below a plain folder are part of the digest: the step reports them, or does without them.
    Raises KdError for a missing path, a pipe, or a step's folder that was altered after it was made; OSError for an unreadable file.
    """
    if not path.exists():
        raise KdError(f"{path}: missing; check the path, or run the stage that makes it first (--list-stages shows them)")
    if path.is_dir() and (path / RECORD).exists():
        record = read_record(path)
        if record is None:
            raise KdError(f"{path / RECORD}: broken, so nothing says that the folder is whole; run its stage again to restore it")
        if changed := altered_files(path, record["outputs"]):
            raise KdError(f"{path}: changed since it was made ({changed}); run its stage again to restore it")
        return str(record["digest"])
    if path.is_dir():
        faults: list[Fault] = []
        parts = []
        for file in files_below(path, faults=faults):
            try:
                fresh[str(file)] = stat_digest(file, known, str(file))
                parts.append(f"{file.relative_to(path)} {fresh[str(file)][2]}")
            except OSError as e:
                faults.append((file, str(e.strerror)))
        return combine([*parts, *(f"{place.relative_to(path)}: {fault}" for place, fault in sorted(faults))])
    if not path.is_file() and str(path).startswith(("/dev/", "/proc/")):  # e.g. <(command) of a shell
        raise KdError(f"{path}: a pipe or device, which can be read once only; write its content to a file, and name that")
    step = read_record(path.parent) or {"outputs": {}}
    if changed := altered_files(path.parent, {n: row for n, row in step["outputs"].items() if n == path.name}):
        raise KdError(f"{path.parent}: changed since it was made ({changed}); run its stage again to restore it")
    fresh[str(path)] = stat_digest(path, known, str(path))
    return combine([f". {fresh[str(path)][2]}"])


def read_record(folder: Path) -> dict[str, Any] | None:
    """A folder's completion record; None if it is missing, damaged, or lacks a field because it was edited."""
    try:
        record: dict[str, Any] = read_json(folder / RECORD)
        rows = [*record["outputs"].values(), *record.get("sources", {}).values()]
        sound = is_key(record["key"]) and isinstance(record["digest"], str) and all(isinstance(row, list) and len(row) == 3 for row in rows)
    except (KdError, IsADirectoryError, KeyError, TypeError, AttributeError):
        return None
    return record if sound else None


def is_key(key: Any) -> bool:
    """Whether a value read from disk is a step's key: inputs, options and code."""
    return isinstance(key, dict) and "code" in key and all(isinstance(key.get(name), dict) for name in ("inputs", "options"))


def altered_files(folder: Path, outputs: Stats) -> str:
    """Describe the first output file that is missing or differs from its record; '' if all match."""
    for name, (size, mtime, digest) in outputs.items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        stat = path.stat()
        if stat.st_size != size:
            return f"{name} has {stat.st_size} bytes, was made with {size}"
        if stat.st_mtime_ns != mtime and file_digest(path) != digest:
            return f"{name} has other content"
    return ""


def canonical(value: Any) -> str:
    """JSON text, equal for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
