"""What a step's output was made from, and whether that still holds.  In: inputs, options, code, the folder.  Out: a key; reasons.

Nothing here writes. Running a step and planning (kdtool.core.stages) use the same functions.

A key, as in a record (``.done.json``):

    inputs    name -> digest of the content
    options   name -> value of every option that counts
    defaults  name -> value of the option for records without it
    code      part -> digest (kdtool.core.source)

So that a new option makes nothing stale, a key without an option is treated as if it had the other key's default. If both
have it, its value counts: a changed default is a change. Code before the option existed did what its first default does;
whoever changes a default keeps the first one, ``metadata={"before": FIRST}``, for records without the option
(tests/unit/test_option_defaults.py checks this). Records of older versions have one digest of all code; they give 'changed: code'.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtool.core.digest import RECORD, Stats, altered_files, canonical, input_digest, is_key, read_record
from kdtool.core.errors import KdError
from kdtool.core.source import changed_parts, code_parts
from kdtool.core.tables import read_json

KEY = ".key.json"
Key = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
    """A step as it was called; see kdtool.core.step.run_step for the fields."""

    name: str
    out: Path
    inputs: Mapping[str, Path]
    options: Any
    code: Sequence[str]
    body: Callable[[Path], None]
    resumable: bool

    @property
    def kind(self) -> str:
        """Steps of one kind may replace each other's output."""
        return SAME_NAME.get(next(iter(self.code), ""), kind_of(self.name))

    @property
    def work(self) -> Path:
        """Where the output is written until it is complete."""
        return hidden(self.out, "work")

    @property
    def old(self) -> Path:
        """Where the old output is kept while the new one takes its place."""
        return hidden(self.out, "old")

    @property
    def lock(self) -> Path:
        """The lock file of the output."""
        return hidden(self.out, "lock")

    def key(self, sources: Stats) -> Key:
        """What the output is made from; `sources` caches digests of plain input files, and is updated."""
        known = {**(read_record(self.out) or {}).get("sources", {}), **sources}
        sources.clear()
        return {
            "inputs": {n: input_digest(Path(p), known, sources) for n, p in sorted(self.inputs.items())},
            "options": plain_options(self.options),
            "defaults": defaults_of(self.options),
            "code": code_parts(self.code, self.options),
        }


def hidden(out: Path, kind: str) -> Path:
    """The hidden helper of an output: its work folder, for example."""
    return out.with_name(f".{out.name}.{kind}")


# Steps that share their name's first word with another step, by their first module.
SAME_NAME = {"kdtool.aligner.align": "kdtool align", "kdtool.posteriors.export": "posteriors export"}
BEHIND_OPTION = ("features", "teacher")


def kind_of(name: str) -> str:
    """A step's kind: the first word of its name, unless that is an option, as in 'mfcc features of train', '3-gram LM'."""
    words = name.split()
    if len(words) > 2 and words[1] in BEHIND_OPTION:
        return words[1]
    return "n-gram" if words[0].endswith("-gram") else words[0]


def plain_options(options: Any) -> dict[str, Any]:
    """The options that count: no paths, no fields with metadata {"key": False}."""
    if not dataclasses.is_dataclass(options):
        return dict(options)
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.metadata.get("key", True)}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items() if not isinstance(v, Path)}


def defaults_of(options: Any) -> dict[str, Any]:
    """Value of each option for a record without it: ``metadata["before"]``, else its default."""
    if not dataclasses.is_dataclass(options):
        return {}
    counted = [f for f in dataclasses.fields(options) if f.name in plain_options(options)]
    defaults = {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory() for f in counted}
    first = {f.name: f.metadata.get("before", defaults[f.name]) for f in counted}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in first.items() if v is not dataclasses.MISSING}


def why(step: Step, key: Key, force: bool = False) -> str:
    """Why the step has to run, '' if its output is up to date."""
    reason = "forced" if force else why_not_current(step.out, key)
    if not reason or not (step.work / KEY).exists():
        return reason
    begun = key_of(step.work)
    if step.resumable and not force and same(begun, key):
        how = "goes on where it stopped"
    else:
        changes = ", ".join(differences(begun, key)) if begun else ""
        how = f"begins again{f' (changed: {changes})' if changes else ''}"
    return f"interrupted, {how}" + (f"; {reason}" if reason != NOTHING else "")


NOTHING = "no output yet"


def why_not_current(out: Path, key: Key) -> str:
    """What is missing or has changed, '' if the output matches the key."""
    if not (out / RECORD).exists():
        return NOTHING
    record = read_record(out)
    if record is None:
        return f"its record {RECORD} is broken"
    if changes := differences(record["key"], key):
        return "changed: " + ", ".join(changes)
    altered = altered_files(out, record["outputs"])
    return f"changed: its output was altered, {altered}" if altered else ""


def differences(old: Key, new: Key) -> list[str]:
    """Describe differing inputs, options and code."""
    changes = [f"input {n}" for n in sorted({*new["inputs"], *old["inputs"]}) if new["inputs"].get(n) != old["inputs"].get(n)]
    for n in sorted({*new["options"], *old["options"]}):
        before, now = (one["options"].get(n, other.get("defaults", {}).get(n)) for one, other in ((old, new), (new, old)))
        if canonical(before) != canonical(now):
            changes.append(f"option {n} {before} -> {now}")
    if not isinstance(old["code"], dict):
        changes.append("code")
    elif parts := changed_parts(old["code"], new["code"]):
        changes.append(f"code of {parts[0]}" + (f" and {len(parts) - 1} more" if len(parts) > 1 else ""))
    return changes


def same(old: Key | None, new: Key) -> bool:
    """Whether two runs make the same output; None is an unknown run."""
    return old is not None and not differences(old, new)


def is_whole(folder: Path, key: Key) -> bool:
    """Whether a folder holds a complete, unaltered output of this key."""
    record = read_record(folder)
    return record is not None and same(record["key"], key) and not altered_files(folder, record["outputs"])


def interrupted(out: Path) -> dict[str, Any]:
    """The options of an interrupted run that was making ``out``; empty if there is none."""
    return dict((key_of(hidden(Path(os.path.realpath(out)), "work")) or {}).get("options", {}))


def key_of(work: Path) -> Key | None:
    """The key of an interrupted run; None if there is none, or it is unreadable."""
    try:
        key = read_json(work / KEY)
    except KdError:
        return None
    return key if is_key(key) else None
