"""A synthetic ablation: ablation.json with the curves and decodes that it names.  Out: its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.tables import write_json, write_jsonl

UTTERANCES = ("a<b&\"c'", "u-1", "u-2", "u-3")
TEXT = {"phone": "AA B AA K S T IY", "3gram": "ABBA <UNK> KEY TEA ABBA"}
HEAD = {"unit": "phone", "layer": 1, "weight": 0.3, "stride": 2}
SOFT = {"heads": [{**HEAD, "kind": "soft"}]}
CHANGED: dict[str, dict[str, Any]] = {
    "ce": {}, "mtl": {"heads": [{**HEAD, "kind": "hard"}]}, "li": {"main": "interpolate"}, "hmt": SOFT, "w3": SOFT,
}  # fmt: skip


def write_decode(folder: Path, text: str, worse: int) -> tuple[float, dict[str, int]]:
    """per_utt.tsv with ``worse`` tokens of each utterance replaced by QQ and one XX put in; returns the rate and the counts."""
    folder.mkdir(parents=True)
    ref = text.split()
    hyp = ["QQ"] * worse + ref[worse:] + ["XX"]
    rows = [f"{u}\ts\t{len(ref)}\t{worse}\t1\t0\t{' '.join(hyp)}\t{text}\n" for u in UTTERANCES]
    (folder / "per_utt.tsv").write_text("id\tspeaker\twords\tsub\tins\tdel\thyp\tref\n" + "".join(rows))
    return 100 * (worse + 1) / len(ref), {"sub": worse * len(rows), "ins": len(rows), "del": 0}


def write_ablation(
    root: Path, systems: tuple[str, ...] = tuple(CHANGED), seeds: int = 2, lms: tuple[str, ...] = ("phone", "3gram")
) -> Path:
    """The folder of an ablation in which hmt makes one error fewer than the others."""
    made = [_system(root, name, seeds, lms) for name in systems]
    base = {(r["lm"]): r for s in made if s["name"] == "ce" for r in s["results"]}
    for s in made:
        for r in s["results"]:
            if s["name"] != "ce" and r["lm"] in base:
                delta = round(r["mean"] - base[r["lm"]]["mean"], 3)
                r["versus"]["ce"] = {"delta": delta, "low": delta - 1, "high": delta + 1, "relative": delta, "p": 0.2, "seeds": seeds}
    ppl = {"unit": "phone", "kind": "ngram", "dev": {"ppl": 6.5, "tokens": 9}}
    write_json(root / "ablation.json", {
        "references": ["ce", "mtl"], "graphs": ["phone", "3gram"], "base": "student<ce>.yaml", "options": {"epochs": 7},
        "resamples": 100, "missing": ["hmt_7"], "stale": ["old<1>_0"],
        "sweeps": {"weight": [[0, "ce"], [1, "hmt"], [3, "w3"]], "depth": [[2, "none"], ["all", "hmt"]]},
        "teachers": {"teacher_phone": {"folder": "../teacher_phone", "ppl": ppl}},
        "systems": made,
    })  # fmt: skip
    return root


def _system(root: Path, name: str, seeds: int, lms: tuple[str, ...]) -> dict[str, Any]:
    students, results = [], []
    for seed in range(seeds):
        folder = root / f"{name}_{seed}"
        folder.mkdir(parents=True)
        head = {"train_phone_soft_1": 1.0} if CHANGED[name] == SOFT else {}
        looks = [{"update": u, "dev_ce": 1 + 1 / u + 0.1 * seed, "dev_accuracy": 0.5, "train_main": 2 / u, **head} for u in (10, 20, 30)]
        write_jsonl(folder / "curve.jsonl", looks)
        about = {"updates": 30, "dev_ce": 1.03, "dev_accuracy": 0.5}
        students.append({"seed": seed, "folder": folder.name, "seconds": 60.0, "about": about})
    for lm in lms:
        runs = []
        for seed in range(seeds):
            decode = f"{name}_{seed}/decode_dev_{lm}"
            value, counts = write_decode(root / decode, TEXT[lm], 1 if name == "hmt" else 2)
            runs.append({"seed": seed, "decode": decode, "value": value, "failed": 0, "empty": 0, "scales": [], **counts})
        results.append({
            "set": "dev", "lm": lm, "first_pass_lm": lm, "rate": "per" if lm == "phone" else "wer", "mean": value,
            "ci95": [value - 2, value + 2], "deviation": 0.0, "words": 28, "utterances": 4, "failed": 0, **counts, "runs": runs,
            "versus": {},
        })  # fmt: skip
    return {
        "name": name, "system": name, "setting": "", "about": f"about {name} & <others>", "changed": json.loads(json.dumps(CHANGED[name])),
        "teachers": {"phone": "teacher_phone"}, "references": ["ce", "mtl"], "students": students, "results": results,
    }  # fmt: skip


def tone(rate: int, seconds: float) -> np.ndarray:
    """float32 samples."""
    return np.sin(np.arange(round(rate * seconds)) * 0.2).astype(np.float32) * 0.3
