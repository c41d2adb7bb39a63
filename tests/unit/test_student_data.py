"""TrainingSet, chunks and masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from student_data import PDFS, make_training_set, write_dump, write_set

from kdtool.core.errors import KdError, UsageError
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.student.augment import mask_features, warp_features
from kdtool.student.batches import Sampler, make_batch, speaker_weights
from kdtool.student.config import HeadSpec, Posts, StudentConfig
from kdtool.student.data import load_training_set, open_dumps
from kdtool.student.kind import Inputs
from kdtool.student.losses import HeadLosses
from kdtool.student.table import PosteriorTable


def load(root: Path, posts: list[Path] | None = None, **kwargs):  # type: ignore[no-untyped-def]
    feats, ali = write_set(root, **kwargs)
    alignment = AlignmentSet.open(ali)
    return load_training_set(FeatureSet.open(feats), alignment, [Posts.of(str(p)) for p in posts or []], num_pdfs=PDFS)


def test_labels_of_a_speed_copy_are_those_of_the_frames_it_shows(tmp_path: Path) -> None:
    data = load(tmp_path, speeds=(0.9, 1.0, 1.1))
    assert len(data.copies) == 12 and [len(g) for g in data.groups] == [3] * 4
    for copy in data.copies:
        # in the synthetic set the label can be read off the features, also of a copy
        np.testing.assert_array_equal(copy.feats[:, :PDFS].argmax(1), copy.labels)
    frames = sum(len(data.copies[g[0]].labels) for g in data.groups)
    assert data.counts(np.ones(4)).sum() == frames


def test_unit_rows_follow_the_speed_too(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path, speeds=(0.9, 1.0, 1.1))
    write_dump(tmp_path / "post", ali, "senone")
    alignment = AlignmentSet.open(ali)
    data = load_training_set(FeatureSet.open(feats), alignment, [Posts("post", tmp_path / "post")], num_pdfs=PDFS)
    table = data.tables[0]
    for copy in data.copies:
        taught = copy.rows[0] >= 0
        np.testing.assert_array_equal(taught, copy.labels != 0)  # silence has no unit
        np.testing.assert_array_equal(table.unit_ids[copy.rows[0][taught]], copy.labels[taught])


def test_dropped_utterances_have_a_reason(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    write_dump(tmp_path / "post", ali, "phone", drop="s0-u2")
    alignment = AlignmentSet.open(ali)
    features = FeatureSet.open(feats)
    data = load_training_set(features, alignment, [Posts("post", tmp_path / "post")], num_pdfs=PDFS)
    assert data.dropped == [("s0-u2", "no phone posteriors")] and data.total == len(data.copies) + 1
    other, _ = write_set(tmp_path / "b", seed=5)
    nothing = load_training_set(FeatureSet.open(other), alignment, num_pdfs=PDFS)
    assert not nothing.copies and {r for _, r in nothing.dropped} == {"no alignment"}


def test_foreign_dumps_and_senones_are_refused(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    _, other = write_set(tmp_path / "b", seed=3)
    dump = write_dump(tmp_path / "post", other, "senone")
    with pytest.raises(KdError, match="was dumped for alignment"):
        open_dumps([Posts("post", dump)], AlignmentSet.open(ali))
    with pytest.raises(KdError, match="the tree has 3"):
        load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), num_pdfs=3)


def test_senones_of_another_tree_are_refused_phones_are_not(tmp_path: Path) -> None:
    _, ali = write_set(tmp_path)
    for unit in ("senone", "phone"):
        meta = write_dump(tmp_path / unit, ali, unit) / "meta.json"
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "tree_digest": "other"}))
    with pytest.raises(KdError, match=r"senones of tree other, .* made with tree t;"):
        open_dumps([Posts("lm", tmp_path / "senone")], AlignmentSet.open(ali))
    open_dumps([Posts("lm", tmp_path / "phone")], AlignmentSet.open(ali))


def test_lengths_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    feats, _ = write_set(tmp_path, frames=60)
    _, ali = write_set(tmp_path / "b", frames=61)
    with pytest.raises(KdError, match="s0-u0 has 60 frames"):
        load_training_set(FeatureSet.open(feats), AlignmentSet.open(ali), num_pdfs=PDFS)


def test_top_k_moves_mass_to_the_rest() -> None:
    table = PosteriorTable("phone", 5, 1.0)
    table.unit_ids, table.offsets = np.zeros(2, np.int32), np.array([0, 3, 4])
    table.ids, table.logp = np.array([4, 1, 2, 3], np.int32), np.log(np.array([0.5, 0.25, 0.15, 1.0], np.float32))
    table.rest = np.log(np.array([0.1, 1e-30], np.float32))
    ids, logp, rest = table.padded(np.array([0, 1]), top_k=2)
    assert ids.tolist() == [[4, 1], [3, 0]]
    np.testing.assert_allclose(np.exp(logp), [[0.5, 0.25], [1.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(rest), [0.25, 0.0], atol=1e-6)
    ids, logp, rest = table.padded(np.array([1]))
    assert ids.tolist() == [[3]]


def test_the_mean_table_is_the_mean_of_the_dense_rows_of_a_unit() -> None:
    table = PosteriorTable("phone", 4, 1.0)
    table.unit_ids, table.offsets = np.array([2, 0, 2], np.int32), np.array([0, 2, 3, 5])
    table.ids = np.array([1, 2, 3, 0, 1], np.int32)
    table.logp = np.log(np.array([0.6, 0.2, 1.0, 0.5, 0.25], np.float32))
    table.rest = np.array([np.log(0.2), -np.inf, np.log(0.25)], np.float32)
    dense = np.array([[0.1, 0.6, 0.2, 0.1], [0, 0, 0, 1.0], [0.5, 0.25, 0.125, 0.125]])
    wanted = np.stack([dense[1], [0, 1, 0, 0], dense[[0, 2]].mean(0), [0, 0, 0, 1]])  # units 1 and 3 are never spoken
    mean = table.averaged()
    ids, logp, rest = mean.padded(np.arange(4))
    found = np.zeros((4, 4))
    np.add.at(found, (np.arange(4)[:, None], ids), np.exp(logp))
    np.testing.assert_allclose(found, wanted, atol=1e-7)
    assert np.all(rest == -np.inf) and mean.unit_ids.tolist() == [0, 1, 2, 3]


def test_an_averaged_head_is_taught_its_units_mean(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path, frames=40)
    write_dump(tmp_path / "post", ali, "senone")
    alignment = AlignmentSet.open(ali)
    data = load_training_set(FeatureSet.open(feats), alignment, [Posts("post", tmp_path / "post")], num_pdfs=PDFS)
    spec = {"unit": "senone", "layer": 1, "weight": 0.3}
    batch = make_batch(data, [(c, -2) for c in range(4)], outputs=12, subsampling=3, left=2, input_frames=38)
    labels = torch.from_numpy(batch.labels)
    plain, averaged = (HeadLosses(StudentConfig(heads=[{**spec, "average": a}]), data) for a in (False, True))
    own, mean = (losses._targets(losses.tasks[1], batch, labels) for losses in (plain, averaged))
    assert torch.equal(own.labels, mean.labels)
    row, posteriors = mean.teacher()
    assert torch.equal(row >= 0, mean.labels >= 0)
    expected = data.tables[0].averaged()
    for r, unit in zip(row[row >= 0], mean.labels[row >= 0], strict=True):
        ids, logp, _ = expected.padded(np.array([int(unit)]))
        kept = posteriors.logp[r] > -torch.inf
        assert posteriors.ids[r][kept].tolist() == ids[0].tolist() and np.allclose(posteriors.logp[r][kept].numpy(), logp[0])
    with pytest.raises(UsageError, match="neither true nor false"):
        HeadSpec.make({**spec, "average": 1})


def test_every_frame_is_visited_about_once_an_epoch_and_the_order_is_repeatable() -> None:
    data = make_training_set(8, 300, copies=3)
    sampler = Sampler(data, seed=3, chunk=60, batch=4, subsampling=3)
    again = Sampler(data, seed=3, chunk=60, batch=4, subsampling=3)
    seen = {c.source_id: np.zeros(len(c.labels)) for c in data.copies}
    epochs = []
    for update in range(6 * sampler.batches_per_epoch):
        windows = sampler.windows(update)
        assert windows == again.windows(update)
        epochs.append({c for c, _ in windows})
        for copy, start in windows:
            assert -3 <= start <= len(data.copies[copy].labels) - 60 + 3
            seen[data.copies[copy].source_id][max(0, start) : max(0, start + 60)] += 1
    assert all((v > 0).mean() > 0.97 and 4.5 < v.mean() < 7.0 for v in seen.values())
    n = sampler.batches_per_epoch
    first, second = set().union(*epochs[:n]), set().union(*epochs[n : 2 * n])
    assert len(first) == len(second) == 8 and not first & second  # one copy of each a pass, another in the next
    assert Sampler(data, seed=4, chunk=60, batch=4, subsampling=3).windows(0) != sampler.windows(0)


def test_no_update_goes_without_chunks_at_batch_one() -> None:
    data = make_training_set(2, 43)
    for copy in data.copies:  # 86 frames in all are three updates of 30, but 43 frames are one chunk
        copy.feats, copy.labels = copy.feats[:43], copy.labels[:43]
    sampler = Sampler(data, seed=0, chunk=30, batch=1, subsampling=3)
    epoch = [sampler.windows(u) for u in range(sampler.batches_per_epoch)]
    assert len(epoch) == 3 and all(epoch) and {c for part in epoch for c, _ in part} == {0, 1}


def test_chunks_carry_their_context_and_the_centre_frames_labels() -> None:
    data = make_training_set(2, 40)
    copy = data.copies[0]
    batch = make_batch(data, [(0, -2), (0, 30)], outputs=5, subsampling=3, left=4, input_frames=4 + 12 + 1 + 4)
    assert batch.feats.shape == (2, 8, 21) and batch.labels.shape == (10,)
    assert batch.labels[:5].tolist() == [-1, *copy.labels[[1, 4, 7, 10]]]
    assert batch.labels[5:].tolist() == [*copy.labels[[30, 33, 36, 39]], -1]
    np.testing.assert_array_equal(batch.feats[0, :, 4 + 3], copy.feats[1].astype(np.float32))  # centre of output 1
    np.testing.assert_array_equal(batch.feats[0, :, :6], np.repeat(copy.feats[:1].T, 6, 1).astype(np.float32))
    assert batch.ids == [copy.id, copy.id]


def test_masks_are_bands_of_zeros_and_repeatable() -> None:
    feats = np.ones((3, 8, 20), np.float32)
    mask_features(feats, np.random.default_rng(1), freq_masks=1, freq_width=4, time_masks=0, time_width=0)
    assert ((feats == 0).all(2) | (feats == 1).all(2)).all() and 0 < (feats == 0).sum() < feats.size
    other = np.ones((3, 8, 20), np.float32)
    mask_features(other, np.random.default_rng(1), freq_masks=1, freq_width=4, time_masks=0, time_width=0)
    np.testing.assert_array_equal(feats, other)


def test_losses_need_the_dumps_they_name(tmp_path: Path) -> None:
    data = load(tmp_path)
    with pytest.raises(KdError, match="--posts"):
        HeadLosses(StudentConfig(heads=[{"unit": "phone", "layer": 1, "weight": 0.3}]), data)


def test_a_strided_head_gets_the_targets_of_its_frames(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path)
    write_dump(tmp_path / "post", ali, "senone")
    alignment = AlignmentSet.open(ali)
    data = load_training_set(FeatureSet.open(feats), alignment, [Posts("post", tmp_path / "post")], num_pdfs=PDFS)
    batch = make_batch(data, [(0, 1), (2, 4)], outputs=5, subsampling=3, left=2, input_frames=20)
    head = {"unit": "senone", "layer": 1, "weight": 0.3, "kind": "hard"}
    logits = {n: torch.randn(2, PDFS, k) for n, k in (("main", 5), ("senone_hard_1", 3))}
    losses = HeadLosses(StudentConfig(heads=[{**head, "stride": 2}]), data)
    term = losses(logits, Inputs(*losses.targets(batch)), 0.0)["senone_hard_1"]
    labels = torch.from_numpy(batch.labels).view(2, 5)[:, ::2].reshape(-1)
    labels = labels.masked_fill(labels == 0, -1)  # silence has no unit
    want = F.cross_entropy(logits["senone_hard_1"].permute(0, 2, 1).reshape(-1, PDFS), labels, ignore_index=-1)
    assert float(term.total / term.items) == pytest.approx(float(want), rel=1e-5)


def test_warping_moves_a_formant_and_not_time() -> None:
    feats = np.zeros((40, 80, 5), np.float32)
    feats[:, 40, 2] = 1.0
    warped = warp_features(feats, np.random.default_rng(0), 0.1)
    assert warped.shape == feats.shape and warped.dtype == np.float32
    assert not warped[:, :, [0, 1, 3, 4]].any()
    peaks = warped[:, :, 2].argmax(1)
    assert peaks.min() < 40 < peaks.max() and np.abs(peaks - 40).max() <= 5
    np.testing.assert_allclose(warp_features(feats, np.random.default_rng(0), 1e-9), feats, atol=1e-5)


def test_balance_gives_rare_speakers_more_and_keeps_the_epoch_as_long() -> None:
    data = make_training_set(6, 300)
    for copy in data.copies[:5]:
        copy.speaker = "talkative"
    frames = np.array([len(c.labels) for c in data.copies], dtype=float)
    np.testing.assert_allclose(speaker_weights(data, 0.0), 1.0)
    weights = speaker_weights(data, 1.0)
    assert (weights * frames).sum() == pytest.approx(frames.sum())
    assert (weights * frames)[5] == pytest.approx((weights * frames)[:5].sum())  # both speakers alike
    # Priors count what is drawn: the rare speaker's frames weigh as often as he comes.
    alone = np.bincount(data.copies[5].labels, minlength=PDFS)
    np.testing.assert_allclose(data.counts(weights) - data.counts(np.append(weights[:5], 0.0)), weights[5] * alone)
    sampler = Sampler(data, seed=0, chunk=60, batch=2, subsampling=3, balance=1.0)
    drawn = [c for u in range(sampler.batches_per_epoch) for c, _ in sampler.windows(u)]
    assert 0.3 < drawn.count(5) / len(drawn) < 0.7


def units_by_hand(labels: np.ndarray, offset: int) -> np.ndarray:
    """Unit ``offset`` places after each frame's own, from the labels of an utterance alone; -1 for none. Label 0 is silence."""
    runs = [k for k in range(len(labels)) if k == 0 or labels[k] != labels[k - 1]]
    units = [int(labels[k]) for k in runs if labels[k] != 0]
    answer, own = [], -1
    for t, label in enumerate(labels):
        if t in runs and label != 0:
            own += 1
        place = own + offset
        answer.append(units[place] if label != 0 and 0 <= place < len(units) else -1)
    return np.array(answer)


@pytest.mark.parametrize(("target", "offset"), [("current", 0), ("next", 1), ("previous", -1), (2, 2), (-3, -3), (1000, 1000)])
def test_a_head_learns_the_unit_that_its_target_names(tmp_path: Path, target: object, offset: int) -> None:
    """Frame by frame: at silences, the utterances' first and last units (the next utterance's are in the next rows), chunk edges."""
    feats, ali = write_set(tmp_path, frames=40)
    write_dump(tmp_path / "post", ali, "senone")
    alignment = AlignmentSet.open(ali)
    data = load_training_set(FeatureSet.open(feats), alignment, [Posts("post", tmp_path / "post")], num_pdfs=PDFS)
    head = {"unit": "senone", "layer": 1, "weight": 0.3, "target": target}
    windows = [(c, start) for c in range(4) for start in (-2, 0, 7, len(data.copies[c].labels) - 9)]
    batch = make_batch(data, windows, outputs=6, subsampling=3, left=2, input_frames=20)
    for kind in ("hard", "soft"):
        losses = HeadLosses(StudentConfig(heads=[{**head, "kind": kind}]), data)
        found = losses._targets(losses.tasks[1], batch, torch.from_numpy(batch.labels))
        labels = found.labels.reshape(len(windows), 6).numpy()
        for (c, start), got in zip(windows, labels, strict=True):
            by_hand = units_by_hand(data.copies[c].labels, offset)
            inside = [t for t in range(start, start + 18, 3)]
            assert got.tolist() == [int(by_hand[t]) if 0 <= t < len(by_hand) else -1 for t in inside]
        if kind == "soft":  # the posterior row is that of the unit that the label names
            row, posteriors = found.teacher()
            assert torch.equal(row >= 0, found.labels >= 0)
            rows = data.tables[0].neighbours(batch.rows[0], offset)
            for r, frame in zip(row[row >= 0], np.flatnonzero(rows >= 0), strict=True):
                ids, logp, _ = data.tables[0].padded(rows[frame : frame + 1])
                kept = posteriors.logp[r] > -torch.inf
                assert posteriors.ids[r][kept].tolist() == ids[0].tolist() and np.allclose(posteriors.logp[r][kept].numpy(), logp[0])


def test_targets_are_named_and_checked() -> None:
    base = {"unit": "phone", "layer": -1, "weight": 0.3}
    names = [HeadSpec.make({**base, "target": t}).name for t in ("current", "next", "previous", 1, -1, 0, 2, -2)]
    assert names == ["phone_soft_m1" + s for s in ("", "_next", "_previous", "_next", "_previous", "", "_p2", "_m2")]
    for wrong in ("after", 1.5, True, None):
        with pytest.raises(UsageError, match="whole number of units"):
            HeadSpec.make({**base, "target": wrong})
    with pytest.raises(UsageError, match="two heads"):
        StudentConfig(heads=[{**base, "target": "next"}, {**base, "target": 1}])
    assert len(StudentConfig(heads=[base, {**base, "target": "next"}, {**base, "target": "previous"}]).head_specs()) == 3


def test_units_without_a_frame_are_neighbours_too() -> None:
    """A word of fewer frames than pieces: its teacher reads all the pieces, so the next of piece 0 is piece 1, seen or not."""
    table = PosteriorTable("subword", 9, 1.0)
    table.utterance = np.array([0, 0, 0, 1, 1], np.int32)
    rows = np.array([0, 0, 2, -1, 3, 4], np.int32)  # row 1 has no frame
    assert table.neighbours(rows, 1).tolist() == [1, 1, -1, -1, 4, -1]
    assert table.neighbours(rows, -1).tolist() == [-1, -1, 1, -1, -1, 3]
    assert table.neighbours(rows, -2).tolist() == [-1, -1, 0, -1, -1, -1]
    assert PosteriorTable("phone", 9, 1.0).neighbours(np.array([-1, -1]), 1).tolist() == [-1, -1]


def test_whole_utterances_come_once_an_epoch_in_batches_alike_in_length_and_frames() -> None:
    data = make_training_set(40, 60, copies=2)  # 60, 67, .. 333 frames
    sampler, again = (Sampler(data, seed=3, chunk=0, batch=4, subsampling=3) for _ in range(2))
    assert sampler.batches_per_epoch == 10
    starts = set()
    for epoch in range(2):
        updates = [sampler.windows(u) for u in range(10 * epoch, 10 * epoch + 10)]
        assert updates == [again.windows(u) for u in range(10 * epoch, 10 * epoch + 10)]
        seen = [data.copies[c].source_id for part in updates for c, _ in part]
        assert sorted(seen) == sorted(f"u{u}" for u in range(40))
        outputs = [sampler.outputs(part) for part in updates]
        real = sum(o.sum() for o in outputs)
        assert sum(o.max() * len(o) for o in outputs) < 1.25 * real  # little padding, but for the shortest ones' part
        assert max(o.sum() for o in outputs) < 2 * min(o.sum() for o in outputs)
        assert [o.max() for o in outputs] != sorted(o.max() for o in outputs)  # not from short to long
        starts |= {start for part in updates for _, start in part}
    assert starts == {0, 1, 2}


def test_a_batch_of_whole_utterances_holds_all_their_frames_and_says_what_is_padding() -> None:
    data = make_training_set(3, 40)
    windows = [(0, 1), (2, 0), (1, 2)]
    sampler = Sampler(data, seed=0, chunk=0, batch=3, subsampling=3)
    outputs = sampler.outputs(windows)
    assert outputs.tolist() == [13, 18, 15]  # of 39, 54 and 45 frames
    batch = make_batch(data, windows, outputs=outputs, subsampling=3, left=4, input_frames=4 + 51 + 1 + 4)
    assert batch.pad is not None and batch.pad.tolist() == [5, 0, 3] and batch.feats.shape == (3, 8, 60)
    for row, pad, (c, start) in zip(batch.labels.reshape(3, 18), batch.pad, windows, strict=True):
        assert row[: 18 - pad].tolist() == data.copies[c].labels[start::3].tolist() and (row[18 - pad :] == -1).all()
    alike = make_batch(data, windows[:1], outputs=outputs[:1], subsampling=3, left=4, input_frames=45)
    assert alike.pad is None


def test_an_utterance_longer_than_an_updates_share_leaves_no_update_empty() -> None:
    data = make_training_set(5, 30)
    data.copies[4].feats, data.copies[4].labels = np.zeros((900, 8), np.float16), np.zeros(900, np.int32)
    for seed in range(5):
        sampler = Sampler(data, seed=seed, chunk=0, batch=1, subsampling=3)
        parts = [sampler.windows(u) for u in range(sampler.batches_per_epoch)]
        assert len(parts) == 5 and all(parts) and {c for part in parts for c, _ in part} == set(range(5))
