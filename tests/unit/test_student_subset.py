"""Subsets of the training set: nested, spread over speakers, counted in originals, and counted by the priors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from student_data import PDFS, write_set

from kdtool.core.errors import KdError, UsageError
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.student.data import load_training_set
from kdtool.student.model import log_priors
from kdtool.student.subset import first_minutes, spread_order
from kdtool.student.train import main


def test_every_speaker_comes_once_before_any_comes_twice() -> None:
    speakers = {f"{s}-{n}": s for s, count in (("a", 7), ("b", 2), ("c", 1), ("d", 3)) for n in range(count)}
    order = spread_order(speakers)
    assert sorted(order) == sorted(speakers)
    turns = [order[:4], order[4:7], order[7:9], order[9:]]
    assert [sorted({speakers[u] for u in turn}) for turn in turns] == [["a", "b", "c", "d"], ["a", "b", "d"], ["a", "d"], ["a"]]
    assert spread_order(dict(reversed(speakers.items()))) == order


def test_subsets_are_nested_and_not_longer_than_asked(tmp_path: Path) -> None:
    feats, _ = write_set(tmp_path, utterances=6, speeds=(0.9, 1.0, 1.1))
    features = FeatureSet.open(feats)
    frames = {features.info(u).source_id: features.info(u).num_frames for u in features.ids if features.info(u).speed == 1.0}
    before: set[str] = set()
    for seconds in (0.1, 1.3, 2.0, 3.6, 4.35):
        subset = first_minutes(features, seconds / 60)
        assert subset >= before and (len(subset) == 1 or sum(frames[u] for u in subset) <= 100 * seconds + 1e-6)
        left = [frames[u] for u in frames if u not in subset]
        assert not left or sum(frames[u] for u in subset) + max(left) > 100 * seconds
        before = subset
    assert len(before) == 6 and sum(frames.values()) == 435
    with pytest.raises(KdError, match=r"0\.1 minutes of speech, minutes 10"):
        first_minutes(features, 10)


def test_training_set_and_priors_are_those_of_the_subset(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path, utterances=6, speeds=(0.9, 1.0, 1.1))
    alignment = AlignmentSet.open(ali)
    data = load_training_set(FeatureSet.open(feats), alignment, num_pdfs=PDFS, minutes=2 / 60)
    used = {c.source_id for c in data.copies}
    assert len(data.copies) == data.total == 3 * len(used) < 18 and not data.dropped
    labels = np.concatenate([alignment.get(u).pdf for u in used])
    assert data.minutes == pytest.approx(len(labels) / 6000)
    slow = np.bincount(np.concatenate([data.copies[g[0]].labels for g in data.groups]), minlength=PDFS)
    np.testing.assert_allclose(data.counts(np.ones(len(used))), slow)
    assert np.isfinite(log_priors(data.counts(np.ones(len(used)))).numpy()).all()


def test_a_student_of_a_cut_says_so(tmp_path: Path) -> None:
    feats, ali = write_set(tmp_path / "train", utterances=6)
    dev_feats, dev_ali = write_set(tmp_path / "dev", utterances=2, seed=5)
    options = ["--encoder-options", "{dim: 24, bottleneck: 8, contexts: [1, 1]}", "--hidden", "16", "--chunk", "30", "--batch", "4",
               "--epochs", "1"]  # fmt: skip
    paths = [str(p) for p in (feats, ali, dev_feats, dev_ali, tmp_path / "student")]
    main([*options, "--minutes", "0.03", *paths])
    about = json.loads((tmp_path / "student/student.json").read_text())
    assert about["train_utterances"] == 2 and 0.01 < about["train_minutes"] <= 0.03
    assert "minutes: 0.03" in (tmp_path / "student/config.yaml").read_text()
    with pytest.raises(UsageError, match="above 0"):
        main([*options, "--minutes", "0", *paths])
