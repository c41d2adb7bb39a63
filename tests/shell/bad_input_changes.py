"""Changes that spoil inputs.  In: a folder below the sound world.  Out: Case, and changes that introduce one fault each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes:
        kind: its class, as tests/BAD_INPUT.md names it.
        name: what is wrong with the input.
        step: key of STEPS: the step that runs on it.
        change: spoils a copy of the sound world.
        words: expected parts of the message.
        options: further command-line options.
        status: the exit status.
    """

    kind: str
    name: str
    step: str
    change: Change
    words: Sequence[str]
    options: Sequence[str] = ()
    status: int = 1

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def put(name: str, content: str | bytes) -> Change:
    """A change: this file has this content."""

    def change(world: Path) -> None:
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        (world / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def remove(name: str) -> Change:
    """A change: this file or folder is gone."""
    return lambda world: shutil.rmtree(world / name) if (world / name).is_dir() else (world / name).unlink()


def rows(name: str, edit: Callable[[list[dict[str, Any]]], object]) -> Change:
    """A change: the rows of this file of JSON lines are edited in place; the folder's record goes, as if it came from elsewhere."""

    def change(world: Path) -> None:
        from kdtool.core.tables import read_jsonl, write_jsonl

        content = list(read_jsonl(world / name))
        edit(content)
        write_jsonl(world / name, content)
        (world / name).with_name(".done.json").unlink(missing_ok=True)

    return change


def json_of(name: str, edit: Callable[[dict[str, Any]], object]) -> Change:
    """A change: this JSON file is edited in place."""

    def change(world: Path) -> None:
        from kdtool.core.tables import read_json, write_json

        content = read_json(world / name)
        edit(content)
        write_json(world / name, content)
        (world / name).with_name(".done.json").unlink(missing_ok=True)

    return change


def tensors(name: str, edit: Callable[[dict[str, np.ndarray]], object]) -> Change:
    """A change: arrays are edited; the file's own digest is right again, so that only the numbers are wrong."""

    def change(world: Path) -> None:
        from kdtool.core.tensors import load_metadata, load_tensors, save_tensors

        content, meta = {k: v.copy() for k, v in load_tensors(world / name).items()}, load_metadata(world / name)
        edit(content)
        save_tensors(world / name, content, meta)
        (world / name).with_name(".done.json").unlink(missing_ok=True)

    return change


def lines(name: str, edit: Callable[[list[str]], object]) -> Change:
    """A change: the lines of this text file are edited in place."""

    def change(world: Path) -> None:
        content = (world / name).read_text(encoding="utf-8").splitlines()
        edit(content)
        (world / name).write_text("".join(line + "\n" for line in content), encoding="utf-8")

    return change
