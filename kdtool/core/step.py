"""The one completion mechanism.  In: a step's inputs, options and code.  Out: its folder, whole or not at all.

A step writes into a hidden folder beside its output, which is renamed at the end; the record `.done.json` inside says what
it was made from. Run again: nothing changed, 'up to date'; something changed, it says what and runs again.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtool.core.cli import Common
from kdtool.core.digest import RECORD, Stats, altered_files, canonical, folder_stats, input_digest, read_record, stats_digest
from kdtool.core.errors import KdError, name_file
from kdtool.core.progress import clock
from kdtool.core.source import code_digest
from kdtool.core.tables import read_json, write_json

KEY = ".key.json"
PACKAGES = ("torch", "k2", "lhotse", "numpy", "kenlm", "sentencepiece", "kaldifst", "kaldilm", "phonetisaurus", "safetensors")


def run_step(
    name: str,
    *,
    out: Path,
    inputs: Mapping[str, Path],
    options: Any,
    code: Sequence[str],
    body: Callable[[Path], None],
    common: Common,
    resumable: bool = False,
) -> bool:
    """Make `out` by calling `body(work)`, unless it is up to date.

    Args:
        name: the step's name for messages.
        out: the folder to make.
        inputs: what it is made from, by name: files, folders, other steps' folders. Counted by content.
        options: the step's config dataclass. Fields of type Path, and those with metadata {"key": False}, do not count.
        code: modules or packages whose source, with all that they import, counts as the code version: ("kdtool.decode.decode",).
        body: writes the output into the folder that it is given.
        resumable: hand an interrupted run's folder back to `body` when nothing changed, instead of an empty one.

    Returns:
        True when it ran, False when it was up to date.

    Raises:
        KdError: an input is missing or was altered, or `body` failed.
    """
    out = Path(os.path.abspath(out))
    work, old = out.with_name(f".{out.name}.work"), out.with_name(f".{out.name}.old")
    known = _known_sources(out)
    sources: Stats = {}
    key = {
        "inputs": {n: input_digest(Path(p), known, sources) for n, p in sorted(inputs.items())},
        "options": _plain_options(options),
        "code": code_digest([*code]),
    }
    _finish_interrupted_rename(out, work, old, key)
    reason = "forced" if common.force else _why(out, key)
    if not reason:
        print(f"{name}: up to date", flush=True)
        return False
    print(f"{name}: {'would run' if common.dry_run else 'runs'} ({reason})", flush=True)
    if common.dry_run:
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    _prepare_work(work, key, resumable)
    start = time.time()
    try:
        body(work)
        _write_record(work, name, key, sources, time.time() - start, options)
    except OSError as e:
        name_file(e, work)
        raise
    _swap(out, work, old)
    print(f"{name}: done in {clock(time.time() - start)}", flush=True)
    return True


def _known_sources(out: Path) -> Stats:
    return (read_record(out) or {}).get("sources", {})


def _plain_options(options: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(options):
        return dict(options)
    counted = [f.name for f in dataclasses.fields(options) if f.metadata.get("key", True)]
    values = {name: getattr(options, name) for name in counted}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items() if not isinstance(v, Path)}


def _why(out: Path, key: dict[str, Any]) -> str:
    """Why the step has to run, '' when its output is up to date."""
    if not (out / RECORD).exists():
        return "no output yet"
    record = read_record(out)
    if record is None:
        return f"its record {RECORD} is broken"
    old = record["key"]
    changes = [f"input {n}" for n in sorted({*key["inputs"], *old["inputs"]}) if key["inputs"].get(n) != old["inputs"].get(n)]
    for n in sorted({*key["options"], *old["options"]}):
        before, now = old["options"].get(n), key["options"].get(n)
        if canonical(before) != canonical(now):
            changes.append(f"option {n} {before} -> {now}")
    # A developer's switch: source changes that are known not to matter do not redo hours of work.
    if key["code"] != old["code"] and not os.environ.get("KD_IGNORE_CODE"):
        changes.append("code")
    if changes:
        return "changed: " + ", ".join(changes)
    altered = altered_files(out, record)
    return f"its output was altered: {altered}" if altered else ""


def _finish_interrupted_rename(out: Path, work: Path, old: Path, key: dict[str, Any]) -> None:
    """A run killed between its two renames left a whole result beside `out`: put it in place."""
    if old.exists() and not out.exists() and (read_record(work) or {}).get("key") == key:
        os.rename(work, out)
    elif old.exists() and not out.exists():
        os.rename(old, out)
    if old.exists():
        shutil.rmtree(old)


def _prepare_work(work: Path, key: dict[str, Any], resumable: bool) -> None:
    if work.exists():
        same = resumable and _read_key(work) == key
        if same:
            print(f"an interrupted run with the same inputs and options is resumed in {work}", file=sys.stderr)
            return
        shutil.rmtree(work)
    work.mkdir(parents=True)
    write_json(work / KEY, key)


def _read_key(work: Path) -> Any:
    """What an interrupted run was making; None when that cannot be read."""
    try:
        return read_json(work / KEY)
    except KdError:
        return None


def _write_record(work: Path, name: str, key: dict[str, Any], sources: Stats, seconds: float, options: Any) -> None:
    import yaml

    resolved = dataclasses.asdict(options) if dataclasses.is_dataclass(options) else dict(options)  # type: ignore[call-overload,arg-type]
    resolved = {n: str(v) if isinstance(v, Path) else v for n, v in resolved.items()}
    (work / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), encoding="utf-8")
    write_json(work / "env.json", environment())
    outputs = folder_stats(work, {})
    if not outputs:
        raise KdError(f"{name}: finished without making any file in {work}; this is a bug in the step, please report it")
    (work / KEY).unlink(missing_ok=True)
    finished = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    record = {"name": name, "key": key, "outputs": outputs, "digest": stats_digest(outputs), "sources": sources}
    write_json(work / RECORD, {**record, "seconds": round(seconds, 1), "finished": finished})


def environment() -> dict[str, Any]:
    """Versions and git state, for the record of a run."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "packages": versions, "git": git_state()}


def git_state() -> str:
    """Commit of the toolkit's checkout, '-dirty' when it has uncommitted changes; 'unknown' outside git."""
    root = Path(__file__).resolve().parents[2]
    try:
        commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "-C", str(root), "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("-dirty" if status.stdout.strip() else "")


def _swap(out: Path, work: Path, old: Path) -> None:
    """Put the new folder in place; nested steps' folders move along only when what they were made from is the same."""
    if out.exists():
        os.rename(out, old)
        os.rename(work, out)
        if (read_record(old) or {}).get("digest") == read_json(out / RECORD)["digest"]:
            for child in sorted(old.iterdir()):
                if child.is_dir() and (child / RECORD).exists():
                    os.rename(child, out / child.name)
        shutil.rmtree(old)
    else:
        os.rename(work, out)
