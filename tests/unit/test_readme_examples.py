"""The worked examples of kdtool/README.md work unchanged.  In: its code blocks.  Out: each is used as a reader would use it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from kaldi_data import put, write_audio
from student_data import DIM, PDFS, write_set

from kdtool.decode.acoustic import MODELS, load_acoustic
from kdtool.decode.recogniser import RECOGNISERS, recogniser_of
from kdtool.features.store import FeatureSet
from kdtool.objectives import AUX_OBJECTIVES, make_objective
from kdtool.objectives.targets import FrameTargets
from kdtool.posteriors.dump import PosteriorDump
from kdtool.student.config import StudentConfig
from kdtool.student.encoders import ENCODERS, make_encoder
from kdtool.student.model import Shape, Student
from kdtool.student.registry import KINDS as STUDENT_KINDS
from kdtool.student.train import main as train_student
from kdtool.teacher.base import TrainingText
from kdtool.teacher.registry import KINDS, load_teacher
from kdtool.units.text import Sequences

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "kdtool/README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```\w+\n(?:#!.*\n)?# (\S+?\.(?:py|yaml|sh))\b.*?\n(.*?)```", TEXT, re.DOTALL))


def install(path: str, registry: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the block a module and enter the registry's line as the README gives it; returns the entry's name."""
    module = types.ModuleType(path.removesuffix(".py").replace("/", "."))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(BLOCKS[path], path, "exec"), module.__dict__)
    line = re.search(rf'`"(\w+)": "({re.escape(module.__name__)}:\w+)",`', TEXT)
    assert line, f"no registry line for {module.__name__}"
    monkeypatch.setitem(registry.entries, line[1], line[2])
    return line[1]


def test_the_table_of_extensions() -> None:
    rows = re.findall(r"^\| .+? \| `(\S+)` \| (\d+) \|", TEXT, re.MULTILINE)
    assert {path: int(lines) for path, lines in rows} == {path: len(block.splitlines()) for path, block in BLOCKS.items()}


def test_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its declared context is exact: of n + 1 outputs of a longer input, n are those of the shorter one."""
    name = install("kdtool/student/encoders/stack.py", ENCODERS, monkeypatch)
    encoder = make_encoder(name, 7, {"dim": 5}).eval()
    feats = torch.randn(2, 7, encoder.input_frames(6))
    layers, shorter = encoder(feats), encoder(feats[:, :, : encoder.input_frames(5)])
    assert [tuple(layer.shape) for layer in layers] == [(2, d, 6) for d in encoder.dims]
    for long, short in zip(layers, shorter, strict=True):
        torch.testing.assert_close(long[:, :, :5], short)


def test_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    name = install("kdtool/objectives/focal.py", AUX_OBJECTIVES, monkeypatch)
    logits, labels = torch.randn(5, 3), torch.tensor([0, -1, 2, 1, 0])
    losses = make_objective(name, {"gamma": 1}, auxiliary=True)(logits, FrameTargets(labels))
    logq = logits.log_softmax(1)[labels >= 0].gather(1, labels[labels >= 0, None])[:, 0]
    torch.testing.assert_close(losses, (1 - logq.exp()) * -logq)


def test_the_system_of_other_heads() -> None:
    options = yaml.safe_load(BLOCKS["egs/mini_librispeech/conf/student_two.yaml"])
    assert [(s.unit, s.layer, s.kind) for s in StudentConfig(**options).head_specs()] == [("phone", 2, "hard"), ("senone", -1, "soft")]


def test_the_teacher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = install("kdtool/teacher/unigram.py", KINDS, monkeypatch)
    sentences = Sequences.of([np.array([0, 1, 1]), np.array([2, 1])])
    text = TrainingText("phone", 4, lambda: iter([sentences]), sentences)
    teacher = KINDS[name].train(text, {"add": 1.0}, seed=0, work=tmp_path)
    teacher.save(tmp_path, {})
    rows = load_teacher(tmp_path).log_probs(np.array([3, 0]))
    np.testing.assert_allclose(np.exp(rows), np.tile([2 / 9, 4 / 9, 2 / 9, 1 / 9], (2, 1)), rtol=1e-6)


def test_the_teacher_of_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = types.ModuleType("as_teacher")
    exec(compile(BLOCKS["kdtool/student/as_teacher.py"], "as_teacher.py", "exec"), module.__dict__)
    feats, _ = write_set(tmp_path, utterances=2, speeds=(0.9, 1.0))
    (tmp_path / "student").mkdir()
    model = Student(Shape("tdnn", {"dim": 8, "contexts": [1]}, DIM, PDFS, 8, tree_digest="t"))
    model.save(tmp_path / "student")
    module.dump_student(tmp_path / "student", feats, tmp_path / "post")
    dump, features = PosteriorDump.open(tmp_path / "post"), FeatureSet.open(feats)
    assert dump.per_frame and dump.ids == ["s0-u0", "s0-u1"]
    expected = np.exp(model.log_posteriors(features.get("s0-u1")))
    np.testing.assert_allclose(np.exp(dump.get("s0-u1").dense(PDFS)), expected, atol=0.05)


def test_the_student_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It trains by the step, and decoding opens it."""
    name = install("kdtool/student/kinds/penalised.py", STUDENT_KINDS, monkeypatch)
    for registry in (RECOGNISERS, MODELS):
        assert f'`"{name}": "{registry.entries["hybrid"]}",`' in TEXT
        monkeypatch.setitem(registry.entries, name, registry.entries["hybrid"])
    feats, ali = write_set(tmp_path, utterances=2)
    small = ["--encoder", "tdnn", "--encoder-options", "{dim: 8, contexts: [1]}", "--epochs", "2", "--batch", "2", "--device", "cpu"]
    train_student([*map(str, (feats, ali, feats, ali, tmp_path / "student")), "--kind", name, *small])
    assert recogniser_of(tmp_path / "student") is RECOGNISERS["hybrid"]
    assert load_acoustic(tmp_path / "student").num_pdfs == PDFS
    penalties = [json.loads(line)["train_penalty"] for line in (tmp_path / "student/curve.jsonl").read_text().splitlines()]
    assert all(-np.log(PDFS) - 1e-5 <= p <= 0 for p in penalties), penalties


def test_the_corpus(tmp_path: Path) -> None:
    """The recipe can be asked what it would run, and its first stage runs."""
    corpus, recipe = tmp_path / "corpus", tmp_path / "egs/mine/run.sh"
    for part, speakers in (("train", "abcdefghij"), ("test", "yz")):
        ids = [f"{s}-1" for s in speakers]
        for utterance in ids:
            write_audio(corpus / f"{utterance}.wav")
        put(corpus / part, wav_scp="".join(f"{u} {corpus}/{u}.wav\n" for u in ids), text="".join(f"{u} HELLO\n" for u in ids),
            utt2spk="".join(f"{u} {u[0]}\n" for u in ids))  # fmt: skip
    (corpus / "lexicon.txt").write_text("HELLO HH AH L OW\n")
    recipe.parent.mkdir(parents=True)
    (tmp_path / "egs/kaldi_dir").symlink_to(ROOT / "egs/kaldi_dir")
    recipe.write_text("#!/bin/bash -p\n" + BLOCKS["egs/mine/run.sh"])
    recipe.chmod(0o755)

    def run(*options: str) -> str:
        command = [recipe, "--corpus", corpus, "--work", tmp_path / "work", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("--dry-run").count("would run") > 20
    assert "train_all" in run("--stop-stage", "corpus") and (tmp_path / "work/data/train/supervisions.jsonl.gz").exists()
