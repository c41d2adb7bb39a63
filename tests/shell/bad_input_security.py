"""Input that tries to run code or to escape its folder: nothing runs, nothing is written elsewhere, the message names the cause.

What would run writes a file 'pwned' into the current folder.
"""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
from bad_input_changes import Case, Change, json_of, put, rows
from bad_input_data import spoil
from bad_input_validate import REC, SUP, field, source

TOUCH = "touch pwned"


class Attack:
    """Unpickling this would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (TOUCH,)


ATTACK = pickle.dumps(Attack())
YAML = f"kind: !!python/object/apply:os.system ['{TOUCH}']\n"


def pickled_array(world: Path) -> None:
    np.save(world / "feats/storage/s1-001.npy", np.array([Attack()] * 500, dtype=object), allow_pickle=True)
    (world / "feats/.done.json").unlink(missing_ok=True)


def shell_audio(world: Path) -> None:
    """Audio in a format that some readers hand to a shell, under a name that such a shell would run."""
    place = world / f"a;{TOUCH};.sph"
    shutil.copy(world / "corpus/train-clean-5/11/7/11-7-0001.flac", place)
    spoil(place, "cut")
    source(source=str(place))(world)


def away(world: Path) -> None:
    """A feature table that names a file of another folder."""
    json_of("feats/index.json", lambda content: content["utterances"][1].update(file="../fbank/storage/s0-u0.npy"))(world)
    (world / "feats/.done.json").unlink(missing_ok=True)


def without_record(name: str, content: bytes) -> Change:
    def change(world: Path) -> None:
        put(name, content)(world)
        (world / name).with_name(".done.json").unlink(missing_ok=True)

    return change


def deep(world: Path) -> None:
    from kdtool.core.tables import open_text

    with open_text(world / SUP, "w") as f:
        f.write("[" * 100_000 + "]" * 100_000 + "\n")


CASES = [
    Case(
        "security",
        "recording that is a command",
        "features",
        source(type="command", source=TOUCH),
        ["audio-source: 1 x", "commands are not run"],
    ),
    Case(
        "security",
        "recording that is an address",
        "features",
        source(type="url", source="http://localhost:9/x"),
        ["audio-source: 1 x", "nothing is fetched"],
    ),
    Case("security", "audio named like a shell line", "features", shell_audio, ["11-7-0001: ", ".sph is truncated", "dropped"]),
    Case(
        "security",
        "utterance id that leads out of the folder",
        "features",
        field(SUP, "id", "../../../pwned"),
        ["bad-id: 1 x", "holds a slash"],
    ),
    Case("security", "utterance id '..'", "features", field(SUP, "id", ".."), ["bad-id: 1 x", "begins with '.'"]),
    Case("security", "utterance id with a line end", "features", field(SUP, "id", "a\nb"), ["bad-id: 1 x", "control character"]),
    Case("security", "manifest nested thousands deep", "features", deep, ["broken-manifest: 1 x", "broken JSON"]),
    Case(
        "security",
        "number of thousands of digits",
        "features",
        rows(REC, lambda r: r[1].update(num_samples=int("9" * 4000))),
        ["broken-manifest: 1 x", "num_samples has 13288 bits"],
    ),
    Case("security", "pickle in place of a GMM", "align", without_record("gmm/gmm.safetensors", ATTACK), ["gmm", "corrupt tensor file"]),
    Case(
        "security",
        "pickle in place of a student",
        "decode",
        without_record("student/model.safetensors", ATTACK),
        ["student", "corrupt tensor file"],
    ),
    Case(
        "security",
        "pickle in place of a teacher",
        "dump",
        without_record("teacher/model.safetensors", ATTACK),
        ["teacher", "corrupt tensor file"],
    ),
    Case(
        "security",
        "pickle in place of a graph",
        "decode with a GMM",
        without_record("gmm/graph/graph.safetensors", ATTACK),
        ["gmm/graph", "corrupt"],
    ),
    Case("security", "pickle in place of features", "align", pickled_array, ["missing-file: 1 x", "s1-001"]),
    Case("security", "feature table that names another folder's file", "align", away, ["outside-folder: 1 x", "../fbank"]),
    Case(
        "security",
        "teacher of a kind that names a module",
        "dump",
        json_of("teacher/teacher.json", lambda m: m.update(kind="os:system")),
        ["teacher", "known are"],
    ),
    Case(
        "security",
        "YAML that makes objects",
        "features",
        put("conf.yaml", YAML),
        ["conf.yaml: not plain YAML"],
        ("--config", "WORLD/conf.yaml"),
        2,
    ),
    Case(
        "security",
        "YAML with an unknown key",
        "features",
        put("conf.yaml", "__class__: x\n"),
        ["unknown __class__"],
        ("--config", "WORLD/conf.yaml"),
        2,
    ),
    Case(
        "security", "option with a shell line", "features", lambda w: None, [f"--kind $({TOUCH}): known are"], ("--kind", f"$({TOUCH})"), 2
    ),
    Case(
        "security",
        "option value that is Python",
        "features",
        lambda w: None,
        ["not a valid float"],
        ("--max-dropped", "__import__('os').system('touch pwned')"),
        2,
    ),
]
