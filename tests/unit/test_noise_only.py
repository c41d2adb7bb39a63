"""Utterances without any speech (only noise, only silence, flat features) and of one word, through every step that meets them.

One speaker has nothing else: no frame of theirs counts for a transform, for a unit or for a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gmm_data
import numpy as np
import pytest
from test_decode_steps import write_lm

from kdtool.ali import align, aligner, lang_probs
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_lines
from kdtool.core.tensors import load_tensors
from kdtool.decode import decode
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.gmm import fmllr, shard, train_lda_mllt, train_mono, train_sat, train_tri
from kdtool.gmm.folder import open_gmm, used_words
from kdtool.graph import make_graph, phone_graph
from kdtool.graph.engine import Native, StatePath
from kdtool.graph.training import GraphBuilder, TrainingGraph
from kdtool.lang.lang import Lang
from kdtool.units.segments import unit_segments

NOISE, SILENCE, ONE, FLAT = "x-noise", "x-silence", "s0-one", "x-flat"
ODD = [(NOISE, "[LAUGHTER]"), (SILENCE, ""), (ONE, "KA"), (FLAT, "42 42")]
SMALL = ["--nj", "1", "--iterations", "4", "--realign", "[2]", "--gaussians", "40", "--grow-until", "3"]
TREE = [*SMALL, "--leaves", "30", "--min-count", "20"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mono, tri, lda, sat and their alignments; every step keeps every utterance."""
    root = tmp_path_factory.mktemp("noise")
    gmm_data.write_lang(root / "lang")
    gmm_data.write_features(root / "set" / "feats", 24, more=ODD)
    flat = root / "set" / "feats" / "storage" / f"{FLAT}.npy"
    np.save(flat, np.zeros_like(np.load(flat)))
    feats, lang = str(root / "set" / "feats"), str(root / "lang")

    def aligned(name: str) -> str:
        out = str(root / f"ali_{name}")
        align.main([feats, lang, str(root / name), out, "--nj", "1", "--max-dropped", "0"])
        return out

    train_mono.main([feats, lang, str(root / "mono"), "--max-dropped", "0", *SMALL])
    first = aligned("mono")
    train_tri.main([feats, lang, first, str(root / "tri"), "--max-dropped", "0", *TREE])
    wide = ["--context", "1", "--dim", "8", "--mllt", "[2]"]
    train_lda_mllt.main([feats, lang, first, str(root / "lda"), "--max-dropped", "0", *wide, *TREE])
    train_sat.main([feats, lang, aligned("lda"), str(root / "lda"), str(root / "sat"), "--max-dropped", "0", "--fmllr", "[2, 3]", *TREE])
    aligned("tri")
    aligned("sat")
    return root


@pytest.mark.parametrize("name", ["mono", "tri", "lda", "sat"])
def test_what_is_no_speech_is_aligned_as_noise_or_silence(root: Path, name: str) -> None:
    alignments, lang = AlignmentSet.open(root / f"ali_{name}"), Lang.load(root / "lang")
    assert {u for u, _ in ODD} <= set(alignments.ids) and read_lines(root / f"ali_{name}" / "dropped.tsv") == []
    for utterance, text in ODD:
        ali = alignments.get(utterance)
        assert [w for w, _, _ in ali.words] == text.split()
        heard = set(ali.phone.tolist()) - lang.silence_ids
        assert bool(heard) == (utterance == ONE), utterance
        for unit in ("senone", "phone"):
            assert (len(unit_segments(ali, unit, lang)) > 0) == (utterance == ONE)


def test_a_speaker_without_speech_keeps_the_features_as_they_are(root: Path) -> None:
    transforms = load_tensors(root / "ali_sat" / "transforms.safetensors")
    np.testing.assert_array_equal(transforms["x"], fmllr.identity(8))
    assert np.abs(transforms["s0"] - fmllr.identity(8)).max() > 1e-3
    told = (root / "ali_sat" / "log" / "align.1.log").read_text()
    assert told.count("note: speaker x: no frame is speech, so the features stay as they are (identity transform)") == 1


def test_too_few_frames_without_a_prior_give_the_identity(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    stats = fmllr.RowStats.zeros(4)
    stats.add_frames(rng.standard_normal((2, 4)).astype(np.float32), np.ones((2, 4)), np.zeros((2, 4)), np.ones(2))
    how = fmllr.Adaptation(fmllr.RowStats.zeros(4), 0.0, 0.0)
    for _ in range(2):
        transform, gain = how.estimate(stats, "few")
        np.testing.assert_array_equal(transform, fmllr.identity(4))
        assert gain == 0.0
    assert capsys.readouterr().err.count("speaker few: 2 frames of speech with a prior of 0 determine no transform") == 1


def test_pronunciation_and_silence_probabilities(root: Path) -> None:
    lang_probs.main([str(root / "lang"), str(root / "ali_sat"), str(root / "lang_probs")])
    probs = Lang.load(root / "lang_probs").probs
    assert probs is not None and 0 < probs.overall < 1


def test_decoding_with_adaptation_and_references_of_unknown_words(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lm(root / "lm_2gram", "KA")
    make_graph.main([str(root / p) for p in ("lang", "lm_2gram", "sat", "graph")])
    phone_graph.main([str(root / p) for p in ("lang", "ali_sat", "sat", "graph_phone")] + ["--min-count", "1"])
    places = [str(root / p) for p in ("sat", "set/feats")]
    decode.main(["--graph", str(root / "graph"), *places, str(root / "lang"), str(root / "words"), "--nj", "1"])
    more = ["--ref-ali", str(root / "ali_sat"), "--nj", "1"]
    decode.main(["--graph", str(root / "graph_phone"), *places, str(root / "lang"), str(root / "phones"), *more])
    for name in ("words", "phones"):
        score = read_json(root / name / "score.json")
        assert score["utterances"] == 28 and score["failed"] <= 1
        ids = [line.split("\t")[0] for line in read_lines(root / name / "per_utt.tsv")]
        assert {u for u, _ in ODD} <= set(ids)
    counts = {line.split("\t")[0]: line.split("\t")[2] for line in read_lines(root / "phones" / "per_utt.tsv")}
    assert (counts[NOISE], counts[SILENCE], counts[ONE]) == ("0", "0", "2")


@pytest.mark.parametrize("error", [MemoryError(), KdError("too little memory to align 99 frames")], ids=["numpy", "search"])
def test_an_utterance_that_memory_is_too_small_for_ends_no_other(root: Path, error: Exception) -> None:
    features, lang, gmm = FeatureSet.open(root / "set" / "feats"), Lang.load(root / "lang"), open_gmm(root / "sat")
    builder = GraphBuilder(used_words(lang, features, features.ids), gmm.tree)
    large = features.info("s0-000").num_frames

    class Small(Native):
        batch = 3

        def best_paths(self, graphs: Sequence[TrainingGraph], scores: Sequence[np.ndarray]) -> list[StatePath | None]:
            if any(len(one) == large for one in scores):
                raise error
            return super().best_paths(graphs, scores)

    ids = [u for u in features.ids if u.startswith("s0-")]
    made = aligner.Aligner(features, builder, gmm, engine=Small())
    assert {a.id for a in made.align(ids)} == {u for u in ids if features.info(u).num_frames != large}
    assert "s0-000" in dict(made.lost) and "too little memory" in dict(made.lost)["s0-000"] and "frames" in dict(made.lost)["s0-000"]
    training = shard.Shard(str(features.folder), ids, used_words(lang, features, ids), gmm.front)
    assert gmm.first is not None
    training.engine = Small()
    training.set_tree(gmm.tree)
    lost = training.realign(gmm.first)[3]
    assert [u for u, _ in lost] == [u for u in ids if features.info(u).num_frames == large] and training.count() == len(ids) - len(lost)
