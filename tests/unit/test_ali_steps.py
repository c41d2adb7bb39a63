"""The align, monophone and triphone steps on a synthetic corpus whose correct alignment is known frame by frame."""

from __future__ import annotations

import json
from pathlib import Path

import gmm_data
import numpy as np
import pytest

from kdtool.ali import align
from kdtool.ali.aligner import Aligner
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_jsonl
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import Alignment, AlignmentSet, save_alignments
from kdtool.formats.system import GMM, System, read_system
from kdtool.formats.tree import Tree
from kdtool.gmm import train_mono, train_tri, triphone
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import open_gmm, save_gmm, silence_pdfs
from kdtool.gmm.model import DiagGmm
from kdtool.graph.training import GraphBuilder, Words
from kdtool.lang.lang import Lang


def perfect_gmm(folder: Path, lang: Lang, features: FeatureSet) -> None:
    """A model that knows where each state lies."""
    tree = Tree.monophone(lang.num_states)
    means = np.stack([gmm_data.state_mean(int(p), int(s)) for p, s in zip(tree.pdf_phone, tree.pdf_state, strict=True)])
    model = DiagGmm(means, np.full(means.shape, 0.16), np.ones(len(means)), np.arange(len(means) + 1), tree.digest)
    folder.mkdir()
    save_gmm(folder, model, tree, lang, FrontEnd(features.kind, features.dim), [])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, gmm_data.Truth]]:
    root = tmp_path_factory.mktemp("gmm")
    gmm_data.write_lang(root / "lang")
    truth = gmm_data.write_features(root / "feats", 20, too_short=1)
    perfect_gmm(root / "gmm", Lang.load(root / "lang"), FeatureSet.open(root / "feats"))
    align.main([str(root / p) for p in ("feats", "lang", "gmm", "ali")] + ["--max-dropped", "0.1", "--nj", "2"])
    return root, truth


def test_every_frame_is_where_it_was_spoken(corpus: tuple[Path, dict[str, gmm_data.Truth]]) -> None:
    root, truth = corpus
    alignments = AlignmentSet.open(root / "ali")
    assert alignments.ids == list(truth)[:20]
    for utterance in alignments.ids:
        ali, true = alignments.get(utterance), truth[utterance]
        np.testing.assert_array_equal(ali.pdf, true.pdf)
        np.testing.assert_array_equal(ali.phone, true.pdf // 3 + 1)
        np.testing.assert_array_equal(ali.state, true.pdf % 3)
        np.testing.assert_array_equal(ali.phone_start, true.phone_start)
        assert ali.words == true.words


def test_account_and_meta(corpus: tuple[Path, dict[str, gmm_data.Truth]]) -> None:
    root, _ = corpus
    dropped = (root / "ali" / "dropped.tsv").read_text()
    assert dropped.startswith("s2-020\ttoo short for its transcript: ") and dropped.endswith("frames needed, 4 there\n")
    meta = read_json(root / "ali" / "meta.json")
    tree, lang = Tree.load(root / "gmm"), Lang.load(root / "lang")
    assert (meta["tree_digest"], meta["lang_digest"], meta["num_pdfs"]) == (tree.digest, lang.digest, 18)
    assert meta["unknown_words"] == 1
    # 6 dimensions of variance 0.16, known exactly: the expected log-likelihood is -3 log(2 pi 0.16) - 3
    assert meta["loglike_per_frame"] == pytest.approx(-3 * np.log(2 * np.pi * 0.16) - 3, abs=0.1)
    with pytest.raises(KdError, match=r"no alignment of s2-020; see dropped.tsv"):
        AlignmentSet.open(root / "ali").get("s2-020")
    assert not list((root / "ali").glob("part.*"))


def test_ctm_and_lhotse_items_show_the_same_times(corpus: tuple[Path, dict[str, gmm_data.Truth]]) -> None:
    from lhotse import load_manifest

    root, truth = corpus
    words = [line.split() for line in (root / "ali" / "words.ctm").read_text().splitlines()]
    phones = [line.split() for line in (root / "ali" / "phones.ctm").read_text().splitlines()]
    cuts = load_manifest(root / "ali" / "cuts.jsonl.gz")
    assert [c.id for c in cuts] == list(truth)[:20]
    for cut in cuts:
        true = truth[cut.id]
        items = cut.supervisions[0].alignment
        spans = [(i.symbol, round(i.start * 100), round(i.duration * 100)) for i in items["word"]]
        assert [s[:2] for s in spans] == [w[:2] for w in true.words]
        assert [(w[4], round(float(w[2]) * 100)) for w in words if w[0] == cut.id] == [s[:2] for s in spans]
        assert all(abs(s[2] - w[2]) <= (s is spans[-1]) for s, w in zip(spans, true.words, strict=True))
        assert [round(i.start * 100) for i in items["phone"]] == true.phone_start.tolist()
        assert [i.symbol for i in items["phone"]] == [p[4] for p in phones if p[0] == cut.id]
        assert items["phone"][-1].end <= cut.duration
        assert not cut.has_features


def test_second_run_is_up_to_date_and_foreign_parts_are_refused(
    corpus: tuple[Path, dict[str, gmm_data.Truth]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = corpus
    align.main([str(root / p) for p in ("feats", "lang", "gmm", "ali")] + ["--max-dropped", "0.1", "--nj", "2"])
    assert "align: up to date" in capsys.readouterr().out
    gmm_data.write_lang(tmp_path / "lang", extra_phone=True)
    with pytest.raises(KdError, match=r"other phones .* differing: ZZ"):
        align.main([str(root / "feats"), str(tmp_path / "lang"), str(root / "gmm"), str(tmp_path / "ali")])
    with pytest.raises(KdError, match="other phones"):
        train_tri.main([str(root / "feats"), str(tmp_path / "lang"), str(root / "ali"), str(tmp_path / "tri")])
    mixed = tmp_path / "gmm"
    mixed.mkdir()
    with pytest.raises(KdError, match="no GMM here"):
        open_gmm(mixed)
    Tree.monophone({1: 3, 2: 3}).save(mixed)
    DiagGmm.load(root / "gmm").save(mixed)
    with pytest.raises(KdError, match=r"18 pdfs of tree .* 6 of tree"):
        open_gmm(mixed)


def test_too_many_dropped_is_an_error_and_leaves_nothing(corpus: tuple[Path, dict[str, gmm_data.Truth]], tmp_path: Path) -> None:
    root, _ = corpus
    with pytest.raises(KdError, match="s2-020: too short"):
        align.main([*(str(root / p) for p in ("feats", "lang", "gmm")), str(tmp_path / "ali"), "--max-dropped", "0.01"])
    assert not (tmp_path / "ali").exists()


def test_training_finds_the_truth_whatever_the_number_of_processes(tmp_path: Path) -> None:
    gmm_data.write_lang(tmp_path / "lang")
    truth = gmm_data.write_features(tmp_path / "feats", 60, seed=1)
    feats, lang = str(tmp_path / "feats"), str(tmp_path / "lang")
    small = ["--iterations", "8", "--realign", "[2,3,4,5,6,7]", "--gaussians", "24", "--grow-until", "5"]
    for nj in ("1", "2"):
        train_mono.main([feats, lang, str(tmp_path / f"mono{nj}"), *small, "--nj", nj])
    one, two = ((tmp_path / f"mono{nj}" / "gmm.safetensors").read_bytes() for nj in (1, 2))
    assert one == two
    history = list(read_jsonl(tmp_path / "mono1" / "history.jsonl"))
    assert history[-1]["loglike"] > history[0]["loglike"] + 2
    assert [h["iteration"] for h in history if "changed" in h] == [2, 3, 4, 5, 6, 7]
    align.main([feats, lang, str(tmp_path / "mono1"), str(tmp_path / "ali_mono")])
    train_tri.main([feats, lang, str(tmp_path / "ali_mono"), str(tmp_path / "tri"), "--leaves", "30", "--min-count", "20",
                    "--iterations", "4", "--realign", "[3]", "--gaussians", "40", "--grow-until", "2", "--nj", "2"])  # fmt: skip
    align.main([feats, lang, str(tmp_path / "tri"), str(tmp_path / "ali_tri")])
    for name in ("ali_mono", "ali_tri"):
        alignments = AlignmentSet.open(tmp_path / name)
        assert alignments.ids == list(truth)
        right = [alignments.get(u).phone == truth[u].pdf // 3 + 1 for u in truth]
        assert np.concatenate(right).mean() > 0.95
    tree = Tree.load(tmp_path / "tri")
    assert 18 <= tree.num_pdfs <= 30
    assert [read_system(tmp_path / n) for n in ("mono1", "tri")] == [System(GMM, 0, "train_mono"), System(GMM, 0, "train_tri")]
    assert "AA" in (tmp_path / "tri" / "questions.txt").read_text().split()


def test_an_utterance_that_training_loses_without_a_reason_is_missed(
    corpus: tuple[Path, dict[str, gmm_data.Truth]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = corpus
    take = triphone.take_alignments
    monkeypatch.setattr(triphone, "take_alignments", lambda *sources: take(*sources)[1:])
    few = ["--leaves", "20", "--min-count", "20", "--iterations", "1", "--realign", "[]", "--gaussians", "20", "--nj", "1"]
    with pytest.raises(KdError, match="1 unaccounted for"):
        train_tri.main([*(str(root / p) for p in ("feats", "lang", "ali")), str(tmp_path / "tri"), *few])


def simple(utterance: str = "u") -> Alignment:
    pdf = np.array([0, 1, 2, 2, 6, 7, 8], np.int32)
    return Alignment(utterance, pdf, (pdf % 3).astype(np.int16), (pdf // 3 + 1).astype(np.int16), np.array([0, 4], np.int32), [("X", 4, 3)])


def test_store_round_trip_in_order(tmp_path: Path) -> None:
    assert save_alignments(tmp_path, [simple("b"), simple("a")], {"tree_digest": "t"}) == 2
    alignments = AlignmentSet.open(tmp_path)
    assert alignments.ids == ["b", "a"] and alignments.meta == {"tree_digest": "t"} and len(alignments) == 2
    got = alignments.get("a")
    np.testing.assert_array_equal(got.pdf, simple().pdf)
    assert (got.pdf.dtype, got.state.dtype, got.phone.dtype, got.phone_start.dtype) == (np.int32, np.int16, np.int16, np.int32)
    assert got.words == [("X", 4, 3)] and got.num_frames == 7
    digest = alignments.digest
    save_alignments(tmp_path, [simple("a"), simple("b")])
    assert AlignmentSet.open(tmp_path).digest != digest


def test_store_refuses_what_does_not_fit(tmp_path: Path) -> None:
    for field, value, message in (
        ("phone_start", np.array([1, 4]), "rise from 0"),
        ("phone_start", np.array([0, 3]), "phone differs"),
        ("words", [("X", 4, 4)], "passes 7 frames"),
        ("state", np.zeros(6, np.int16), "7 pdfs, 6 states"),
    ):
        bad = simple()
        setattr(bad, field, value)
        with pytest.raises(KdError, match=message):
            save_alignments(tmp_path, [bad])
    with pytest.raises(KdError, match="occurs twice"):
        save_alignments(tmp_path, [simple(), simple()])
    save_alignments(tmp_path, [simple("a"), simple("b")])
    rows = (tmp_path / "index.jsonl").read_text().splitlines()
    row = json.loads(rows[1]) | {"num_frames": 6}
    (tmp_path / "index.jsonl").write_text(rows[0] + "\n" + json.dumps(row) + "\n")
    with pytest.raises(KdError, match="counts 13 frames"):
        AlignmentSet.open(tmp_path)


def test_only_the_silence_between_words_is_boosted(corpus: tuple[Path, dict[str, gmm_data.Truth]]) -> None:
    """Spoken noise represents unknown words: a factor on it would shorten their neighbours."""
    root, _ = corpus
    lang, features, gmm = Lang.load(root / "lang"), FeatureSet.open(root / "feats"), open_gmm(root / "gmm")
    model = Aligner(features, GraphBuilder(Words(lang.prons, lang.sil, lang.oov), gmm.tree), gmm, boost_silence=2.0).model
    factor = model.weights / gmm.model.weights
    assert {int(p) for p in gmm.tree.pdf_phone[factor == 2.0]} == {lang.sil} and set(factor) == {1.0, 2.0}
    silence = silence_pdfs(gmm.tree, lang)
    assert {int(p) for p in gmm.tree.pdf_phone[silence.all]} == lang.silence_ids
    np.testing.assert_array_equal(silence.pause, factor == 2.0)
    np.testing.assert_array_equal(silence.all, gmm.silence)
