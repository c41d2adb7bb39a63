"""Outputs at places with files of others: refused before any work, naming the files and what to do.  Out: CASES."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bad_input_changes import Case, Change, put

OWN = "of my own"
STEPS = ("lm text", "lang", "ngram", "features", "align", "tri", "phone graph", "dump", "student", "decode", "decode with a GMM")


def linked(world: Path) -> None:
    put("real/notes.txt", OWN)(world)
    (world / "out").symlink_to("real")


def linked_to_itself(world: Path) -> None:
    (world / "out").symlink_to("out")


def above(world: Path) -> None:
    put("thesis.txt", OWN)(world)
    (world / "out").symlink_to("thesis.txt/out")


def of_another_step(world: Path) -> None:
    shutil.copytree(world / "feats", world / "out")
    shutil.copy(world / "lm_text/.done.json", world / "out/.done.json")


def no_record_left(world: Path) -> None:
    shutil.copytree(world / "lm_text", world / "out")
    (world / "out/.done.json").unlink()


def input_below(world: Path) -> None:
    """The output is the step's own, and the text that it reads was put into it."""
    (world / "lm_text").rename(world / "out")
    (world / "lm.txt").rename(world / "out/lm.txt")
    os.symlink("out/lm.txt", world / "lm.txt")


def empty_folders(world: Path) -> None:
    (world / "out/a/b").mkdir(parents=True)


PLACES: list[tuple[str, str, Change, list[str]]] = [
    ("a file in its place", "lm text", put("out", OWN), ["out: is not a folder", "choose another output folder"]),
    ("a file above it", "lm text", above, ["thesis.txt is a file, so no folder can be made below it", "choose another output folder"]),
    ("a link to the user's folder", "lm text", linked, ["real: holds 1 file (notes.txt)", "choose another output folder"]),
    ("a link to itself", "lm text", linked_to_itself, ["out: is not a folder"]),
    ("a folder in it", "lm text", put("out/wavs/a.wav", OWN), ["out: holds 1 file (wavs/a.wav)"]),
    ("a hidden file in it", "lm text", put("out/.git/config", OWN), ["out: holds 1 file (.git/config)"]),
    ("empty folders in it", "lm text", empty_folders, ["out: holds folders (a)"]),
    ("another program's record", "lm text", put("out/.done.json", '{"done": 1}'), ["out: holds 1 file (.done.json)"]),
    ("an output that has lost its record", "lm text", no_record_left, ["out: holds 4 files (", "no step of this toolkit made"]),
    ("another step's output", "features", of_another_step, ["out: was made by another step ('LM text', not", "choose another"]),
    ("an input in it", "lm text", input_below, ["out contains", "lm.txt, the input text: what is read would be replaced"]),
    ("the user's .out.work beside it", "lm text", put(".out.work/plan", OWN), [".out.work: holds 1 file (plan)", "or move it away"]),
    ("the user's .out.old beside it", "lm text", put(".out.old/plan", OWN), [".out.old: holds 1 file (plan)", "or move away what"]),
    ("the user's .out.lock beside it", "lm text", put(".out.lock", OWN), [".out.lock: is no lock of this toolkit", "or move it away"]),
    ("the user's files, one set of two", "corpus", put("out/dev_clean_2/wav.scp", OWN), ["dev_clean_2: holds 1 file (wav.scp)"]),
]
CASES = [
    *(
        Case("place of an output", f"the user's files in it ({step})", step, put("out/thesis.txt", OWN),
             ["out: holds 1 file (thesis.txt)", "choose another output folder, or move away what is there"], status=2)
        for step in STEPS
    ),
    *(Case("place of an output", name, step, change, words, status=2) for name, step, change, words in PLACES),
]  # fmt: skip
