"""LF-MMI students: the loss against plain float64 sums, other heads beside it, what is dropped and why, resuming to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain_data import PHONES, aligned, chain_tree, plain_total, sequences

from kdtool.chain.denominator import Denominator
from kdtool.chain.labels import to_chain
from kdtool.chain.phone_lm import estimate
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tensors import load_tensors
from kdtool.student.config import StudentConfig
from kdtool.student.data import SpeedCopy, TrainingSet
from kdtool.student.heads import load_with_heads
from kdtool.student.kinds.lfmmi import Lfmmi
from kdtool.student.loop import Trainer, total_counts
from kdtool.student.system import system_of
from kdtool.student.table import PosteriorTable

DIM = 8


def make_set(lines: list[list[int]], seed: int = 0, phones: bool = False) -> TrainingSet:
    """Features that tell the phone; phones: with a table over phones for an auxiliary head."""
    rng, tree = np.random.default_rng(seed), chain_tree()
    copies, known = [], {}
    table = PosteriorTable("phone", PHONES + 1, 1.0, name="phones")
    for n, line in enumerate(lines):
        ali = to_chain(aligned(f"s{seed}-u{n}", line, tree, rng), tree)
        assert not isinstance(ali, str)
        feats = rng.normal(0, 0.3, (ali.num_frames, DIM))
        feats[np.arange(ali.num_frames), ali.phone] += 2.0
        place = np.repeat(np.arange(len(line), dtype=np.int32), ali.phone_segments().length)
        rows = [ali.phone.astype(np.int32)] if phones else []
        copies.append(SpeedCopy(ali.id, ali.id, "s", feats.astype(np.float16), ali.pdf, rows, place))
        known[ali.id] = np.array(line, np.int32)
    if phones:
        table.unit_ids = np.arange(PHONES + 1)
    groups = [[i] for i in range(len(copies))]
    return TrainingSet(copies, groups, [table] if phones else [], DIM, "fbank", tree.num_pdfs, [], len(copies), tree.digest, 0.1, known)


@pytest.fixture
def den(tmp_path: Path) -> Path:
    (tmp_path / "den").mkdir()
    Denominator.make(estimate(sequences(30), PHONES, states=3), chain_tree()).save(tmp_path / "den")
    return tmp_path / "den"


def config(den: Path | None, **changes: Any) -> StudentConfig:
    options = {"dim": 24, "bottleneck": 8, "contexts": [1, 1], "front": {"channels": 12}, "dropout": 0.1}
    return StudentConfig(**{"kind": "lfmmi", "denominator": den, "encoder_options": options, "hidden": 16, "freq_width": 2, "lr": 0.01,
                            "chunk": 30, "batch": 6, **changes})  # fmt: skip


@pytest.mark.parametrize("chunk", [30, 0])
def test_the_terms_are_plain_sums_over_the_chunks(tmp_path: Path, den: Path, chunk: int) -> None:
    train_set = make_set(sequences(30)[:8])
    trainer = Trainer(config(den, chunk=chunk, batch=3), train_set, train_set, tmp_path)
    kind, graph = trainer.kind, Denominator.load(den)
    assert isinstance(kind, Lfmmi)
    kind.model.eval()
    batch = trainer.next_batch()
    inputs = kind.inputs(batch)
    logits = kind.model(inputs.tensors["feats"], inputs.tensors.get("pad"))
    terms = kind.loss(inputs, 0.0)
    outputs = logits["main"].shape[2]
    lengths = [outputs - (0 if batch.pad is None else int(p)) for p in (batch.pad if batch.pad is not None else range(len(batch.ids)))]
    rows = inputs.tensors["num.rows"].tolist()
    assert sorted(rows) == list(range(len(batch.ids))) and terms["mmi"].items == sum(lengths) == terms["l2"].items
    assert (chunk == 0) == (len(set(lengths)) > 1)
    arcs = inputs.tensors["num.arcs"].split(inputs.tensors["num.sizes"].tolist())
    mmi = l2 = 0.0
    for row, one in zip(rows, arcs, strict=True):
        own = logits["main"][row].double().T[: lengths[row]].detach()
        num = plain_total(one.numpy()[:, :3], np.ascontiguousarray(one.numpy()[:, 3]).view(np.float32), own)
        all_paths = plain_total(graph.arcs, graph.scores, own)
        assert num <= all_paths
        mmi, l2 = mmi + float(all_paths - num), l2 + 0.5 * float(own.square().sum())
    assert float(terms["mmi"].total) == pytest.approx(mmi, rel=1e-5) and float(terms["l2"].total) == pytest.approx(l2, rel=1e-5)
    labels, ce = torch.from_numpy(batch.labels), logits["ce"].permute(0, 2, 1).flatten(0, 1)
    plain = torch.nn.functional.cross_entropy(ce[labels >= 0], labels[labels >= 0], reduction="sum")
    assert float(terms["ce"].total) == pytest.approx(float(plain), rel=1e-5) and (terms["ce"].weight, terms["l2"].weight) == (0.1, 5e-5)


@pytest.mark.parametrize(("engine", "leak"), [("k2", 0.0), ("dense", 0.1)])
def test_a_student_learns_is_saved_and_goes_on_to_the_bit(tmp_path: Path, den: Path, engine: str, leak: float) -> None:
    heads = [{"unit": "phone", "layer": 1, "weight": 0.3, "kind": "hard", "hidden": 8}]
    train_set, dev = make_set(sequences(30)[:16], phones=True), make_set(sequences(30)[16:20], seed=3)
    cfg = config(den, epochs=6, checkpoint_every=3, eval_epochs=2, accumulate=2, heads=heads, kind_options={"engine": engine, "leak": leak})
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = Trainer(cfg, train_set, dev, tmp_path / "a")
    whole.run()
    assert whole.curve[-1]["dev_mmi"] < 0.75 * whole.curve[0]["train_mmi"]
    assert whole.curve[-1]["train_phone_hard_1"] < whole.curve[0]["train_phone_hard_1"]
    Trainer(cfg, train_set, dev, tmp_path / "b").run(stop_after=4)
    resumed = Trainer(cfg, train_set, dev, tmp_path / "b")
    resumed.run()
    a, b = (load_tensors(tmp_path / name / "checkpoint.safetensors") for name in "ab")
    assert a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a) and resumed.curve == whole.curve
    facts = whole.kind.save(whole.chosen(), tmp_path / "a")
    assert facts["denominator"]["arcs"] == Denominator.load(den).meta["arcs"]
    system = system_of(cfg, [], "float32")
    system.write(tmp_path / "a")
    assert system.kind == "lfmmi" and system.objective == "lfmmi+multitask" and system.learns_from == "labels"
    model = Lfmmi.load(tmp_path / "a")
    assert not any(n.startswith("aux") for n in model.state_dict())
    again = load_with_heads(tmp_path / "a")
    assert [*again.aux] == ["ce", "phone_hard_1"] and torch.equal(again.main.output.weight, model.main.output.weight)


def test_utterances_without_a_path_have_a_reason_and_the_rest_trains(tmp_path: Path, den: Path) -> None:
    lines = sequences(30)[:6]
    train_set = make_set(lines)
    strange, crowded = train_set.copies[1], train_set.copies[4]
    train_set.phones[strange.source_id] = np.array([1, 1, *lines[1][2:]], np.int32)
    assert crowded.place is not None
    train_set.copies[4] = dataclasses.replace(crowded, feats=crowded.feats[::8], labels=crowded.labels[::8], place=crowded.place[::8])
    left = Lfmmi.usable(config(den), train_set, dev=False)
    frames, count = len(train_set.copies[4].labels), len(lines[4])
    assert left.dropped == [
        (strange.id, "no path: the denominator does not know phone 1 after 1 (place 2)"),
        (crowded.id, f"no path: {count} phones in {frames} frames, 5 frames of tolerance"),
    ]
    assert [c.id for c in left.copies] == [c.id for i, c in enumerate(train_set.copies) if i not in (1, 4)]
    assert left.groups == [[0], [1], [2], [3]] and left.total == 6
    trainer = Trainer(config(den, epochs=1), left, left, tmp_path)
    trainer.run()
    assert np.isfinite(trainer.curve[-1]["train_mmi"])


def test_a_chunk_without_a_path_has_no_mmi_but_its_other_losses(tmp_path: Path, den: Path) -> None:
    train_set = make_set(sequences(30)[:4])
    trainer = Trainer(config(den, chunk=0, batch=4), train_set, train_set, tmp_path)
    windows = [(i, 0) for i in range(4)]
    lengths = np.array([-(-len(c.labels) // 3) for c in train_set.copies])
    kind = trainer.kind
    assert isinstance(kind, Lfmmi)
    train_set.phones[train_set.copies[2].source_id][:] = 1
    tensors, outputs = kind._numerators(train_set, windows, lengths)
    assert sorted(tensors["num.rows"].tolist()) == [0, 1, 3] and outputs == lengths[[0, 1, 3]].sum()
    for copy in train_set.copies:
        train_set.phones[copy.source_id] = np.ones_like(train_set.phones[copy.source_id])
    kind._spoken = {}
    inputs = kind.inputs(trainer.next_batch())
    terms = kind.loss(inputs, 0.0)
    assert "mmi" not in terms and inputs.counts["mmi"] == 0 and terms["ce"].items > 0
    trainer._backward(inputs, total_counts([inputs]), {})
    with pytest.raises(KdError, match="none of 4 dev utterances has a chunk whose phones the denominator knows"):
        kind.score(trainer.model, train_set)


def test_wrong_options_are_usage_errors(tmp_path: Path, den: Path) -> None:
    data = make_set(sequences(30)[:2])
    for cfg, message in (
        (config(None), "kind lfmmi needs a denominator graph: give --denominator DIR"),
        (config(den, kind_options={"leaks": 1}), "unknown leaks; kind lfmmi has tolerance, ce, l2, leak, engine"),
        (config(den, kind_options={"leak": 0.1, "engine": "k2"}), "leak 0.1 with engine k2, which has none; take engine dense or auto"),
        (config(den, kind_options={"l2": -1}), "none may be negative"),
        (config(den, kind_options={"engine": "fast"}), "engine fast; known are auto, k2, dense"),
    ):
        with pytest.raises(UsageError, match=message):
            Lfmmi.usable(cfg, data, dev=False)
    with pytest.raises(UsageError, match="subsampling 2; kind lfmmi has one output per 3 frames"):
        Trainer(config(den, encoder_options={"dim": 24, "bottleneck": 8, "contexts": [1], "subsampling": 2}), data, data, tmp_path)
    with pytest.raises(KdError, match="the alignment with none; convert the alignment"):
        Lfmmi.usable(config(den), dataclasses.replace(data, tree_digest=""), dev=False)
