"""Per-frame teachers: from given posteriors to the dump, its tools, and the targets of a student's heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from student_data import PDFS, write_dump, write_set

from kdtool.core.errors import KdError, UsageError
from kdtool.core.findings import Level
from kdtool.core.inputs import validate
from kdtool.features.store import FeatureSet, source_frames
from kdtool.formats.alignment import AlignmentSet
from kdtool.posteriors.dump import PosteriorDump
from kdtool.posteriors.frames import write_frame_dump
from kdtool.posteriors.make import Config
from kdtool.posteriors.source import FrameRows, frame_segments
from kdtool.posteriors.tool import describe, describe_utterance
from kdtool.posteriors.tool import main as tool
from kdtool.student.batches import make_batch
from kdtool.student.config import HeadSpec, Posts, StudentConfig, parse_posts
from kdtool.student.data import TrainingSet, load_training_set
from kdtool.student.kind import Inputs
from kdtool.student.losses import HeadLosses
from kdtool.student.train import main as train

ALL = Config(mass=1.0, step=0.002)


def posteriors(name: str, rows: int, units: int = PDFS) -> np.ndarray:
    """float32 (rows, units) log-probabilities, another distribution in every row."""
    z = np.random.default_rng([ord(c) for c in name]).normal(0, 2, (rows, units))
    return (z - np.log(np.exp(z).sum(1, keepdims=True))).astype(np.float32)


def frame_dump(
    folder: Path, ali: Path, *, every: int = 1, cfg: Config = ALL, unit: str = "senone", of: Callable[[str, int], np.ndarray] = posteriors,
    **facts: Any,
) -> Path:  # fmt: skip
    """A dump of given posteriors over the frames of an alignment's utterances."""
    frames = {u: AlignmentSet.open(ali).get(u).num_frames for u in AlignmentSet.open(ali).ids}
    source = FrameRows(unit, PDFS, frames, lambda u: of(u, -(-frames[u] // every)), frames_per_row=every)
    write_frame_dump(folder, source, {"tree_digest": "t", "units_digest": "u", **facts}, cfg)
    return folder


def nearest(frame: int, rows: int, every: int) -> int:
    """The row about the frame that is nearest to this one; rows are about frames 0, every, 2 * every, .."""
    distance = [abs(frame - row * every) for row in range(rows)]
    return min(range(rows), key=lambda row: (distance[row], -row))


@pytest.mark.parametrize("every", [1, 2, 3, 4])
def test_each_frame_has_the_row_that_is_nearest(every: int) -> None:
    for frames in range(1, 15):
        start, length = frame_segments(frames, every)
        rows = -(-frames // every)
        assert len(start) == rows and (length > 0).all() and start[0] == 0
        assert np.repeat(np.arange(rows), length).tolist() == [nearest(t, rows, every) for t in range(frames)]


@pytest.mark.parametrize("every", [1, 3])
def test_what_was_given_is_read_again(tmp_path: Path, every: int) -> None:
    _, ali = write_set(tmp_path)
    dump = PosteriorDump.open(frame_dump(tmp_path / "post", ali, every=every, alignment_digest=AlignmentSet.open(ali).digest))
    assert dump.per_frame and dump.meta["rows"] == "frame" and dump.meta["frame_shift"] == 0.01 * every
    for name in dump.ids:
        post, frames = dump.get(name), AlignmentSet.open(ali).get(name).num_frames
        given = posteriors(name, -(-frames // every))
        np.testing.assert_allclose(np.exp(post.dense(PDFS)), np.exp(given), atol=2e-3)
        assert post.unit_ids.tolist() == given.argmax(1).tolist()
        rows = post.frame_rows(frames, name)  # silence too
        assert rows.tolist() == [nearest(t, len(given), every) for t in range(frames)]


def test_the_number_of_jobs_worth_of_shards_and_labels_do_not_change_rows(tmp_path: Path) -> None:
    _, ali = write_set(tmp_path)
    alignment = AlignmentSet.open(ali)
    frames = {u: alignment.get(u).num_frames for u in alignment.ids}
    for size in (1, 128):
        source = FrameRows("senone", PDFS, frames, lambda u: posteriors(u, frames[u]), labels=lambda u: alignment.get(u).pdf)
        write_frame_dump(tmp_path / f"p{size}", source, {"tree_digest": "t"}, Config(mass=1.0, shard_size=size))
    one, all_ = (PosteriorDump.open(tmp_path / f"p{size}") for size in (1, 128))
    assert len(one.meta["shards"]) == 4 and len(all_.meta["shards"]) == 1
    for name in one.ids:
        a, b = one.get(name), all_.get(name)
        assert a.unit_ids.tolist() == b.unit_ids.tolist() == alignment.get(name).pdf.tolist()
        assert np.array_equal(a.ids, b.ids) and np.array_equal(a.logp, b.logp)


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def given(rows: int, units: int, labels: Any = None) -> FrameRows:
        return FrameRows("senone", PDFS, {"a": 7}, lambda u: posteriors(u, rows, units), labels=labels)

    with pytest.raises(KdError, match=r"a: posteriors of shape \(6, 6\) for 7 frames .* expected \(7, 6\)"):
        given(6, PDFS).read("a")
    with pytest.raises(KdError, match=r"expected \(7, 6\)"):
        given(7, PDFS + 1).read("a")
    with pytest.raises(KdError, match="a label outside of the 6 senones"):
        given(7, PDFS, lambda u: np.full(7, PDFS)).read("a")
    with pytest.raises(ValueError, match="tree_digest is missing"):
        write_frame_dump(tmp_path / "post", given(7, PDFS), {"units_digest": "u"})
    with pytest.raises(KdError, match="none of the 1 utterances"):
        write_frame_dump(tmp_path / "post", given(6, PDFS), {"tree_digest": "t"})


def targets_by_hand(
    data: TrainingSet, windows: list[tuple[int, int]], outputs: int, subsampling: int, every: int
) -> list[np.ndarray | None]:
    """The float64 distribution that each output frame of each window is to learn, None beyond the utterance's ends; frame by frame."""
    wanted: list[np.ndarray | None] = []
    for c, start in windows:
        copy = data.copies[c]
        original = next(o for o in data.copies if o.source_id == copy.source_id and "_sp" not in o.id)
        frames = len(original.labels)
        given = np.exp(posteriors(copy.source_id, -(-frames // every)).astype(np.float64))
        speed = float(copy.id.partition("_sp")[2] or 1.0)
        shown = source_frames(len(copy.labels), speed, frames)
        for t in range(start, start + outputs * subsampling, subsampling):
            inside = 0 <= t < len(copy.labels)
            wanted.append(given[nearest(int(shown[t]), len(given), every)] if inside else None)
    return wanted


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_head_learns_each_frames_own_distribution(tmp_path: Path, every: int, stride: int) -> None:
    """Against dense float64 distributions taken frame by frame: speed copies, chunks over both ends, subsampling, strides. All rows differ,
    so one frame off would be seen."""
    feats, ali = write_set(tmp_path, frames=40, speeds=(0.9, 1.0, 1.1))
    folder = frame_dump(tmp_path / "ens", ali, every=every)
    data = load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), [Posts.of(f"ens={folder}")], num_pdfs=PDFS)
    windows = [(c, s) for c in range(len(data.copies)) for s in (-2, 0, 7, len(data.copies[c].labels) - 9)]
    batch = make_batch(data, windows, outputs=6, subsampling=3, left=2, input_frames=20)
    head = {"unit": "senone", "layer": 1, "weight": 0.3, "posts": "ens", "stride": stride}
    losses = HeadLosses(StudentConfig(heads=[head]), data)
    inputs = Inputs(*losses.targets(batch))
    name = losses.tasks[1].name
    logits = torch.randn(len(windows), PDFS, -(-6 // stride), generator=torch.Generator().manual_seed(0))
    term = losses({"main": torch.zeros(len(windows), PDFS, 6), name: logits}, inputs, 0.0)[name]
    wanted = [w for n, w in enumerate(targets_by_hand(data, windows, 6, 3, every)) if n % 6 % stride == 0]
    log_q = torch.log_softmax(logits.double(), 1).permute(0, 2, 1).reshape(-1, PDFS).numpy()
    each = [float((p * (np.log(p) - log_q[n])).sum()) for n, p in enumerate(wanted) if p is not None]
    assert term.items == len(each)
    assert float(term.total) == pytest.approx(sum(each), rel=2e-3)
    labels = inputs.tensors[f"{name}.labels"].numpy()
    assert labels.tolist() == [-1 if p is None else int(p.argmax()) for p in wanted]
    row, ids, logp = (inputs.tensors[f"{name}.{part}"].numpy() for part in ("row", "ids", "logp"))
    for n, p in enumerate(wanted):
        if p is not None:
            found = np.zeros(PDFS)
            found[ids[row[n]]] += np.exp(logp[row[n]])
            np.testing.assert_allclose(found, p, atol=3e-3)


def test_label_interpolation_takes_frames_of_silence_too(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path, frames=40)
    lm = write_dump(tmp_path / "lm", ali, "senone")
    ens = frame_dump(tmp_path / "ens", ali)
    posts = [Posts.of(str(lm)), Posts.of(f"ens={ens}")]
    data = load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), posts, num_pdfs=PDFS)
    batch = make_batch(data, [(0, 0), (1, 3)], outputs=10, subsampling=3, left=2, input_frames=40)
    for name, rows in (("", int((batch.labels > 0).sum())), ("ens", 20)):
        losses = HeadLosses(StudentConfig(main="interpolate", main_posts=name), data)
        tensors, counts = losses.targets(batch)
        assert int((tensors["main.row"] >= 0).sum()) == rows and counts["main"] == 20


def test_two_dumps_of_one_unit_are_told_by_their_names(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    names = ("teacher_phone", "other")
    folders = [write_dump(tmp_path / teacher / "post_train", ali, "phone", seed=n) for n, teacher in enumerate(names)]

    def losses(dumps: str, **head: Any) -> HeadLosses:
        data = load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), parse_posts(dumps), num_pdfs=PDFS)
        return HeadLosses(StudentConfig(heads=[{"unit": "phone", "layer": 1, "weight": 0.3, **head}]), data)

    both = ",".join(map(str, folders))
    assert losses(str(folders[1])).tasks[1].table == 0  # the only one over phones, whatever its name
    assert losses(both, posts="teacher_phone").tasks[1].table == 0 and losses(both, posts="other").tasks[1].table == 1
    assert losses(f"{folders[0]},ens={folders[1]}").tasks[1].table == 0  # the one without a name of the user's
    assert losses(f"{folders[0]},ens={folders[1]}", posts="ens").tasks[1].name == "phone_soft_1_ens"
    with pytest.raises(KdError, match=r"2 dumps are over phones; dumps given: teacher_phone \(phones\), other \(phones\); say which"):
        losses(both)
    with pytest.raises(KdError, match=r"the dump 'ens' that a head learns from was not given; .*give it with --posts ens=DIR"):
        losses(both, posts="ens")
    with pytest.raises(KdError, match="is over phones, not over subwords"):
        losses(both, posts="other", unit="subword")
    with pytest.raises(UsageError, match="are all called a; give them different names"):
        parse_posts("a=x,a=y")
    with pytest.raises(UsageError, match="the name of a dump"):
        HeadSpec.make({"unit": "phone", "layer": 1, "weight": 0.3, "posts": "a/b"})
    assert [p.name for p in parse_posts("exp/teacher_phone/post_train,dumps/x,post,a/b=c/post")] == ["teacher_phone", "x", "post", "b=c"]
    assert StudentConfig(heads=[{"unit": "phone", "layer": 1, "weight": 0.3, "posts": n} for n in ("a", "b")]).needs_posts() == {"a", "b"}


def test_the_next_unit_of_a_frame_dump_is_a_mistake(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    posts = [Posts("ens", frame_dump(tmp_path / "ens", ali))]
    data = load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), posts, num_pdfs=PDFS)
    with pytest.raises(KdError, match="its next row is the next frame, not the next unit"):
        HeadLosses(StudentConfig(heads=[{"unit": "senone", "layer": 1, "weight": 0.3, "target": "next"}]), data)


def test_a_frame_dump_of_other_audio_or_another_tree_is_refused(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    _, shorter = write_set(tmp_path / "b", frames=59)
    dump = frame_dump(tmp_path / "ens", shorter)
    with pytest.raises(KdError, match=r"s0-u0 has rows for 59 of 60 frames: the dump is of other audio"):
        load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), [Posts("ens", dump)], num_pdfs=PDFS)
    other = frame_dump(tmp_path / "other", ali, tree_digest="another")
    with pytest.raises(KdError, match="senones of tree another"):
        load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), [Posts("ens", other)], num_pdfs=PDFS)
    aligned = frame_dump(tmp_path / "aligned", ali, alignment_digest="0" * 32)
    with pytest.raises(KdError, match="was dumped for alignment"):
        load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), [Posts("ens", aligned)], num_pdfs=PDFS)


def test_from_a_frame_dump_to_a_student(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path, speeds=(0.9, 1.0))
    lm, ens = write_dump(tmp_path / "lm", ali, "senone"), frame_dump(tmp_path / "ens", ali, every=3)
    heads = [{"unit": "senone", "layer": 1, "weight": 0.3, "hidden": 8, "posts": posts, "kind": kind}
             for posts, kind in (("lm", "soft"), ("ens", "soft"), ("ens", "hard"))]  # fmt: skip
    options = ["--epochs", "1", "--chunk", "30", "--batch", "6", "--encoder-options", "{dim: 24, bottleneck: 8, contexts: [1]}"]
    places = [str(p) for p in (feats, ali, feats, ali, tmp_path / "out")]
    train([*places, *options, "--posts", f"{lm},{ens}", "--heads", json.dumps(heads)])
    curve = [json.loads(line) for line in (tmp_path / "out" / "curve.jsonl").read_text().splitlines()]
    assert {"train_senone_soft_1_lm", "train_senone_soft_1_ens", "train_senone_hard_1_ens"} <= set(curve[-1])
    system = json.loads((tmp_path / "out" / "system.json").read_text())
    assert [(t["name"], t["rows"]) for t in system["teachers"]] == [("lm", "unit"), ("ens", "frame")]
    assert [h["posts"] for h in system["heads"]] == ["lm", "ens", "ens"]


def test_the_tools_know_rows_by_frame(tmp_path: Path) -> None:
    _, ali = write_set(tmp_path, utterances=2)
    folder = frame_dump(tmp_path / "ens", ali, every=3)
    dump = PosteriorDump.open(folder)
    text = "\n".join(describe(dump))
    assert "one every 30 ms, silence too" in text and "alignment   none" in text and "perplexity" not in text
    lines = describe_utterance(dump, "s0-u1", [str(i) for i in range(PDFS)], 2)
    assert lines[0].startswith("s0-u1: 22 rows over senones") and len(lines) == 2 + 22
    tool(["export", str(folder), str(tmp_path / "dense"), "--format", "npy", "--frames", "true", "--ali", str(ali), "--dtype", "float32"])
    dense = np.load(tmp_path / "dense" / "s0-u1.npy")
    given = posteriors("s0-u1", 22)
    assert dense.shape == (65, PDFS)
    np.testing.assert_allclose(np.exp(dense), np.exp(given[[nearest(t, 22, 3) for t in range(65)]]), atol=2e-3)


def test_the_validator_sees_missing_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ali = write_set(tmp_path, utterances=2)
    _, longer = write_set(tmp_path / "b", utterances=2, frames=61)
    sound = frame_dump(tmp_path / "ens", ali)
    report = validate("dump", sound, Level.DEEP, {"ali": ali})
    assert not report.problems and "125 rows by frame over 6 senones" in report.summary
    report = validate("dump", sound, Level.DEEP, {"ali": longer})
    assert [row[:2] + row[3:] for row in report.rows()] == [("segment", u, f"its rows end at frame {n}", str(n + 1))
                                                             for u, n in (("s0-u0", 60), ("s0-u1", 65))]  # fmt: skip
    monkeypatch.setattr("kdtool.posteriors.source.frame_segments", lambda frames, every: (
        np.arange(1, frames + 1, dtype=np.int32), np.ones(frames, np.int32)))  # fmt: skip
    report = validate("dump", frame_dump(tmp_path / "late", ali), Level.DEEP, {})
    assert [row[0] for row in report.rows()] == ["segment", "segment"] and "row 0" in next(iter(report.rows()))[1]
    meta = json.loads((sound / "meta.json").read_text())
    (sound / "meta.json").write_text(json.dumps({**meta, "rows": "word"}))
    with pytest.raises(KdError, match="rows 'word', known are unit and frame"):
        PosteriorDump.open(sound)
