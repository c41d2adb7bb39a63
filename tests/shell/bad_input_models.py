"""Bad input that the validators of models, graphs and dumps name: one case for each class of problem."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bad_input_changes import Case, Change, json_of, lines, put, remove, tensors
from bad_input_data import spoil


def other_tree(world: Path) -> None:
    from kdtool.formats.tree import Tree

    Tree.monophone({1: 3, 2: 3, 3: 3}).save(world / "gmm")


GMM, STUDENT = "gmm/gmm.safetensors", "student/model.safetensors"
MODEL_CASES = [
    ("model", "no model", remove(GMM), ["unreadable: 1 x", "none of gmm.safetensors"]),
    ("model", "mean that is NaN", tensors(GMM, lambda t: t["means"].__setitem__((0, 0), np.nan)), ["not-finite: 1 x", "means (1 of 108"]),
    ("model", "negative variance", tensors(GMM, lambda t: t["inv_vars"].__setitem__((4, 0), -1)), ["variance: 1 x", "Gaussian 4"]),
    (
        "model",
        "weights that do not sum to 1",
        tensors(GMM, lambda t: t["log_weights"].__setitem__(3, -1)),
        ["weights: 1 x", "senone 3 (0.3679, expected 1)"],
    ),
    ("model", "another tree", other_tree, ["unreadable: 1 x", "they come from different runs"]),
    (
        "model",
        "another language",
        lines("lang/topo.txt", lambda t: t.__setitem__(2, "AA 4")),
        ["lang: 1 x", "other phones or HMM topology"],
    ),
    ("student", "description that is damaged", put("student/system.json", "{"), ["unreadable: 1 x", "system.json: broken JSON"]),
    ("student", "description of another version", put("student/system.json", "[]"), ["unreadable: 1 x", "not a description of this"]),
    (
        "student",
        "weight that is infinite",
        tensors(STUDENT, lambda t: t["main.output.bias"].__setitem__(0, np.inf)),
        ["not-finite: 1 x", "main.output.bias"],
    ),
    (
        "student",
        "priors that do not sum to 1",
        tensors(STUDENT, lambda t: t["log_priors"].fill(0)),
        ["priors: 1 x", "log_priors (6.0000, expected 1)"],
    ),
    (
        "student",
        "array of another shape",
        tensors(STUDENT, lambda t: t.update({"main.output.bias": np.zeros(3, np.float32)})),
        ["shape: 1 x", "main.output.bias (3, expected 6"],
    ),
    (
        "student",
        "array that is missing",
        tensors(STUDENT, lambda t: t.pop("main.norm.bias")),
        ["unreadable: 1 x", "main.norm.bias has shape None"],
    ),
    (
        "student",
        "pickle in place of the weights",
        put(STUDENT, b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR."),
        ["unreadable: 1 x", "corrupt tensor file"],
    ),
    ("student", "other features", json_of("fbank/index.json", lambda m: m.update(dim=9)), ["features: 1 x", "expected"]),
    ("student", "features of another band", json_of("fbank/index.json", lambda m: m.update(high_freq=5500)),
     ["features: 1 x", "16 kHz fbank to 5500 Hz"]),
    (
        "teacher",
        "weights of another teacher",
        tensors("teacher/model.safetensors", lambda t: next(iter(t.values())).fill(1)),
        ["unreadable: 1 x", "train this teacher again"],
    ),
    (
        "teacher",
        "kind that does not exist",
        json_of("teacher/teacher.json", lambda m: m.update(kind="os:system")),
        ["unreadable: 1 x", "teacher kind 'os:system': known are"],
    ),
]


def arcs(name: str, value: float, where: int = 0) -> Change:
    """A change of one arc of the graph."""
    return tensors("gmm/graph/graph.safetensors", lambda t: t[name].__setitem__(where, value))


def cut_off(t: dict[str, np.ndarray]) -> None:
    """Take all arcs away that lead to one state, but its loop."""
    state = int(t["src"][len(t["src"]) // 2])
    keep = (t["dst"] != state) | (t["src"] == state)
    for name in ("src", "dst", "label", "aux", "score"):
        t[name] = t[name][keep]


GRAPH_CASES = [
    ("label that is no senone", arcs("label", 999), ["label: 1 x", "label 999"]),
    ("epsilon arc", arcs("label", 0), ["label: 1 x", "label 0"]),
    ("output that is no word", arcs("aux", 9999), ["output: 1 x", "output 9999"]),
    ("weight that is NaN", arcs("score", np.nan), ["weight: 1 x", "score nan"]),
    ("negative state", arcs("dst", -4), ["states: 1 x", "to -4"]),
    ("final arc without end", arcs("label", -1), ["final: 1 x", "label -1"]),
    ("state that nothing reaches", tensors("gmm/graph/graph.safetensors", cut_off), ["unreachable: "]),
    (
        "another tree",
        json_of("gmm/graph/meta.json", lambda m: m.update(tree="0" * 64)),
        ["tree: 1 x", "make a graph from this model's tree"],
    ),
    ("another language", json_of("gmm/graph/meta.json", lambda m: m.update(lang="0" * 64)), ["lang: 1 x", "make the graph again"]),
    ("cut file", lambda w: spoil(w / "gmm/graph/graph.safetensors", "cut"), ["unreadable: 1 x", "corrupt tensor file"]),
]


DUMP_CASES = [
    ("shard gone", remove("posts/shard-00000.safetensors"), ["shard: 1 x", "not there, expected"]),
    ("flipped bit in a shard", lambda w: spoil(w / "posts/shard-00000.safetensors", "flipped"), ["shard: 1 x", "sha256 is"]),
    (
        "shard outside of the folder",
        json_of("posts/meta.json", lambda m: m["shards"][0].update(file="../ali/ali.safetensors")),
        ["shard: 1 x", "not there"],
    ),
    (
        "another alignment",
        json_of("posts/meta.json", lambda m: m.update(alignment_digest="0" * 64)),
        ["alignment: 1 x", "for this alignment"],
    ),
    ("no dump", put("posts/meta.json", "{}"), ["unreadable: 1 x", "does not describe a dump"]),
    ("rows by something else", json_of("posts/meta.json", lambda m: m.update(rows="word")), ["unreadable: 1 x", "rows 'word', known are"]),
    ("rows by frame that leave frames out", json_of("posts/meta.json", lambda m: m.update(rows="frame")), ["segment: ", "starts at frame"]),
]

CASES = [
    *(Case(kind, name, f"validate {kind}", change, words) for kind, name, change, words in MODEL_CASES),
    *(Case("graph", name, "validate graph", change, words) for name, change, words in GRAPH_CASES),
    *(Case("posterior dump", name, "validate dump", change, words) for name, change, words in DUMP_CASES),
]
