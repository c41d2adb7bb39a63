"""The graph, decode and results steps, end to end on a synthetic corpus that a perfect model recognizes without error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import gmm_data
import numpy as np
import pytest

from kdtool.ali import align, lang_probs
from kdtool.core.cli import Common
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import read_json, read_lines
from kdtool.decode import decode, pool_scales
from kdtool.decode.acoustic import load_acoustic
from kdtool.decode.candidates import read_candidates
from kdtool.decode.graph_recogniser import check_graph
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import phones_digest, save_gmm
from kdtool.gmm.model import DiagGmm
from kdtool.graph import make_graph, phone_graph
from kdtool.graph.phone_graph import bigram_counts, bigram_fst, free_loop, witten_bell
from kdtool.lang.lang import Lang
from kdtool.results import collect

WORDS = ("ABBA", "BAS", "KA", "SSK")
# The synthetic model separates words by 80 to 110 nats of the LM: beams that keep a second-best sentence.
WIDE = ("--search-beam", "200", "--output-beam", "200")


def write_lm(folder: Path, favourite: str) -> None:
    """A bigram LM as lm.arpa; KenLM reads the same text as lm.bin."""
    folder.mkdir()
    unigrams = [f"{-0.5 if w == favourite else -0.9}\t{w}\t-0.3" for w in WORDS]
    lines = ["\\data\\", "ngram 1=7", "ngram 2=1", "", "\\1-grams:", "-2\t<unk>", "-99\t<s>\t-0.2", "-0.9\t</s>", *unigrams, "",
             "\\2-grams:", "-0.3\tKA BAS", "", "\\end\\", ""]  # fmt: skip
    for name in ("lm.arpa", "lm.bin"):
        (folder / name).write_text("\n".join(lines))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decode")
    gmm_data.write_lang(root / "lang")
    gmm_data.write_features(root / "dev" / "mfcc", 8)
    lang, features = Lang.load(root / "lang"), FeatureSet.open(root / "dev" / "mfcc")
    tree = Tree.monophone(lang.num_states)
    means = np.stack([gmm_data.state_mean(int(p), int(s)) for p, s in zip(tree.pdf_phone, tree.pdf_state, strict=True)])
    model = DiagGmm(means, np.full(means.shape, 0.16), np.ones(len(means)), np.arange(len(means) + 1), tree.digest)
    for name in ("mono", "other"):
        # As a step's output: what is later put into the folder is not part of the model.
        run_step("gmm", out=root / "exp" / name, inputs={}, options={}, code=(), common=Common(),
                 body=lambda work: save_gmm(work, model, tree, lang, FrontEnd(features.kind, features.dim), []))  # fmt: skip
    align.main([str(root / p) for p in ("dev/mfcc", "lang", "exp/mono", "exp/mono/ali_dev")])
    for name, favourite in (("lm_2gram", "KA"), ("lm_big", "SSK")):
        write_lm(root / name, favourite)
    make_graph.main([str(root / p) for p in ("lang", "lm_2gram", "exp/mono", "exp/mono/graph_2gram")])
    phone_graph.main([str(root / p) for p in ("lang", "exp/mono/ali_dev", "exp/mono", "exp/mono/graph_phone")] + ["--min-count", "1"])
    return root


def run_decode(root: Path, graph: str, out: str, *options: str, system: str = "mono") -> dict:
    paths = ["--graph", *(str(root / p) for p in (f"exp/mono/{graph}", f"exp/{system}", "dev/mfcc", "lang", f"exp/{system}/{out}"))]
    decode.main(["--nj", "1", *options, *paths])
    return read_json(root / "exp" / system / out / "score.json")


@pytest.fixture(scope="module")
def words(root: Path) -> dict:
    return run_decode(root, "graph_2gram", "decode_dev_2gram", "--rescore-lm", str(root / "lm_big"), *WIDE)


@pytest.fixture(scope="module")
def phones(root: Path, words: dict) -> dict:
    return run_decode(root, "graph_phone", "decode_dev_phone", "--ref-ali", str(root / "exp/mono/ali_dev"))


def test_a_perfect_model_makes_no_word_error_but_the_unknown_word(root: Path, words: dict) -> None:
    # One word of the first utterance, 'STRANGE', is in no lexicon: it is spoken as noise and cannot be recognized.
    assert words["words"] == 41 and words["sub"] + words["ins"] + words["del"] <= 1
    assert words["per"] is None and words["ci95"][0] <= words["wer"] <= words["ci95"][1]
    named = {"system": "mono", "objective": "gmm", "set": "dev", "lm": "2gram", "first_pass_lm": "2gram", "utterances": 8, "failed": 0}
    assert {k: words[k] for k in named} == named
    features = FeatureSet.open(root / "dev/mfcc")
    for line in read_lines(root / "exp/mono/decode_dev_2gram/hyp.tsv")[1:]:
        utterance, hyp = line.split("\t")
        assert hyp == features.info(utterance).text


def test_rescored_scores_are_kenlms(root: Path, words: dict) -> None:
    import kenlm

    folder = root / "exp/mono/decode_dev_2gram"
    lm = kenlm.Model(str(root / "lm_big/lm.bin"))
    for candidates in read_candidates(folder / "candidates.tsv.gz").values():
        assert len({c.words for c in candidates}) > 1
        for c in candidates:
            assert c.rescored is not None
            assert c.rescored == pytest.approx(lm.score(" ".join(c.words)) * np.log(10) + (len(c.words) + 1) * np.log(0.5), abs=1e-3)
    result = read_json(folder / "rescored/score.json")
    assert (result["lm"], result["first_pass_lm"]) == ("big", "2gram")


def test_estimated_probabilities_reach_alignment_graph_and_rescoring(root: Path) -> None:
    import kenlm

    lang_probs.main([str(root / p) for p in ("lang", "exp/mono/ali_dev", "lang_probs")])
    plain, lang = Lang.load(root / "lang"), Lang.load(root / "lang_probs")
    assert lang.probs is not None and plain.probs is None
    assert phones_digest(plain) == phones_digest(lang) and plain.digest != lang.digest
    # Silence stands at every start and after two words of five, never before the first word's end.
    assert lang.probs.start > 0.8 and 0.3 < lang.probs.overall < 0.5
    align.main([str(root / p) for p in ("dev/mfcc", "lang_probs", "exp/mono", "exp/mono/ali_probs")])
    old, new = AlignmentSet.open(root / "exp/mono/ali_dev"), AlignmentSet.open(root / "exp/mono/ali_probs")
    assert old.meta["loglike_per_frame"] == pytest.approx(new.meta["loglike_per_frame"], rel=1e-5)
    for utterance in old.ids:
        np.testing.assert_array_equal(old.get(utterance).pdf, new.get(utterance).pdf)
    make_graph.main([str(root / p) for p in ("lang_probs", "lm_2gram", "exp/mono", "exp/mono/graph_probs")])
    assert read_json(root / "exp/mono/graph_probs/meta.json")["silence_prob"] is None
    # The LM's binary went into the folder, so it counts as an input; into the plain graph it did not.
    inputs = [read_json(root / f"exp/mono/graph_{name}/.done.json")["key"]["inputs"] for name in ("probs", "2gram")]
    assert ["lm for rescoring" in names for names in inputs] == [True, False]
    out = root / "decode_probs"
    paths = ["--graph", *(str(root / p) for p in ("exp/mono/graph_probs", "exp/mono", "dev/mfcc", "lang_probs"))]
    decode.main(["--nj", "1", "--rescore-lm", str(root / "lm_big"), *WIDE, *paths, str(out)])
    result = read_json(out / "score.json")
    assert result["sub"] + result["ins"] + result["del"] <= 1
    first, second = (kenlm.Model(str(root / name / "lm.bin")) for name in ("lm_2gram", "lm_big"))
    for candidates in read_candidates(out / "candidates.tsv.gz").values():
        for c in candidates:
            text = " ".join(c.words)
            change = (second.score(text) - first.score(text)) * np.log(10)
            assert c.rescored == pytest.approx(c.parts[2] + change, abs=1e-3)


def test_scales_record_both_folds(root: Path, words: dict) -> None:
    scales = read_json(root / "exp/mono/decode_dev_2gram/scales.json")
    assert scales["split_by"] == "speakers" and [f["fold"] for f in scales["folds"]] == [0, 1]
    assert all(len(f["tuning_errors"]) == len(scales["grid"]) for f in scales["folds"])
    assert sum(f["reported_utterances"] for f in scales["folds"]) == 8


def test_phone_errors_leave_silence_out(phones: dict) -> None:
    assert phones["wer"] is None and phones["per"] <= 3.0 and phones["words"] > 80


def test_second_run_is_up_to_date(root: Path, words: dict, capsys: pytest.CaptureFixture[str]) -> None:
    run_decode(root, "graph_2gram", "decode_dev_2gram", "--rescore-lm", str(root / "lm_big"), *WIDE)
    assert "up to date" in capsys.readouterr().out


def test_number_of_jobs_changes_nothing(root: Path, words: dict) -> None:
    run_decode(root, "graph_2gram", "three_jobs", "--rescore-lm", str(root / "lm_big"), *WIDE, "--nj", "3", system="other")
    for name in ("candidates.tsv.gz", "hyp.tsv", "scales.json", "rescored/per_utt.tsv"):
        assert (root / "exp/other/three_jobs" / name).read_bytes() == (root / "exp/mono/decode_dev_2gram" / name).read_bytes()
    shutil.rmtree(root / "exp/other/three_jobs")


def test_phone_graph_without_reference_or_with_rescoring(root: Path) -> None:
    with pytest.raises(KdError, match="--ref-ali"):
        run_decode(root, "graph_phone", "bad")
    with pytest.raises(KdError, match="word graphs"):
        run_decode(root, "graph_phone", "bad", "--ref-ali", str(root / "exp/mono/ali_dev"), "--rescore-lm", str(root / "lm_big"))
    assert not (root / "exp/mono/bad").exists()


def test_a_model_of_another_tree_is_refused(root: Path) -> None:
    folder = root / "exp" / "foreign"
    shutil.copytree(root / "exp/other", folder)
    Tree(Tree.load(folder).pdf_map[:, :, :, ::-1]).save(folder)
    with pytest.raises(KdError, match="tree"):
        run_decode(root, "graph_2gram", "bad", system="foreign")
    shutil.rmtree(folder)


def test_a_student_of_another_tree_is_refused(root: Path) -> None:
    """Its folder has no tree: the number of pdfs alone would let a tree through that has as many leaves."""
    paths = {"model": root / "student", "graph": root / "exp/mono/graph_2gram", "lang": root / "lang"}
    meta = read_json(paths["graph"] / "meta.json")
    for tree, complaint in (("0" * 64, "the model's: 000000000000"), ("", "does not say which tree")):
        with pytest.raises(KdError, match=complaint):
            check_graph(paths, meta, SimpleNamespace(num_pdfs=meta["num_pdfs"], tree_digest=tree, subsampling=1))
    check_graph(paths, meta, SimpleNamespace(num_pdfs=meta["num_pdfs"], tree_digest=meta["tree"], subsampling=1))
    assert load_acoustic(root / "exp/mono").tree_digest == meta["tree"]


def test_no_model_and_wrong_features(root: Path, tmp_path: Path) -> None:
    with pytest.raises(KdError, match="no model here"):
        load_acoustic(tmp_path)
    index = read_json(root / "dev/mfcc/index.json")
    shutil.copytree(root / "dev/mfcc", tmp_path / "fbank")
    (tmp_path / "fbank/index.json").write_text(json.dumps({**index, "kind": "fbank"}))
    with pytest.raises(KdError, match="wants 16 kHz mfcc features"):
        load_acoustic(root / "exp/mono").check_features(FeatureSet.open(tmp_path / "fbank"))


def test_prior_scale_is_subtracted_from_posteriors_only(root: Path) -> None:
    features, model = FeatureSet.open(root / "dev/mfcc"), load_acoustic(root / "exp/mono")
    utterance = features.ids[0]
    np.testing.assert_array_equal(model.scores(features, utterance, 0.0), model.scores(features, utterance, 1.0))
    model.log_prior = np.linspace(-3, 0, model.num_pdfs).astype(np.float32)
    raw = model.raw_scores(features, utterance)
    np.testing.assert_allclose(model.scores(features, utterance, 0.5), raw - 0.5 * model.log_prior, rtol=1e-5)


def test_graph_meta_says_what_it_was_made_from(root: Path) -> None:
    meta = read_json(root / "exp/mono/graph_2gram/meta.json")
    assert meta["words"] == 4 and meta["lm"] == "2gram" and meta["words_without_pron"] == []
    assert meta["tree"] == Tree.load(root / "exp/mono").digest and meta["lang"] == Lang.load(root / "lang").digest


def test_lm_with_words_that_nobody_can_pronounce(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "lm_2gram", tmp_path / "lm")
    arpa = tmp_path / "lm/lm.arpa"
    arpa.write_text(arpa.read_text().replace("\tKA\t", "\tQQ\t").replace("KA BAS", "QQ BAS"))
    with pytest.raises(KdError, match=r"1 of 4 LM words have no pronunciation .*QQ"):
        make_graph.main([str(root / "lang"), str(tmp_path / "lm"), str(root / "exp/mono"), str(tmp_path / "graph")])


def test_witten_bell_sums_to_one_and_matches_hand_counts() -> None:
    counts = bigram_counts([np.array([1, 2, 1]), np.array([2])], 4)
    assert counts[0].tolist() == [0, 1, 1, 0] and counts[1].tolist() == [1, 0, 1, 0]
    prob = np.exp(witten_bell(counts))
    np.testing.assert_allclose(prob[:3].sum(axis=1), 1.0)
    assert not prob[3].any() and not prob[:, 3].any()
    # After phone 1: end and 2 once each, two types; unigram of 2 is 2/6.
    assert prob[1, 2] == pytest.approx((1 + 2 * 2 / 6) / 4)
    assert np.isinf(bigram_fst(np.log(np.maximum(prob, 1e-30))).final[0])


def test_free_loop_gives_every_phone_that_was_seen_and_the_end_the_same_probability() -> None:
    counts = bigram_counts([np.array([1, 2, 1]), np.array([2])], 4)
    prob = np.exp(free_loop(counts))
    np.testing.assert_allclose(prob[:3, :3], 1 / 3)
    assert not prob[3].any() and not prob[:, 3].any()
    loop = bigram_fst(free_loop(counts))
    np.testing.assert_allclose(loop.weight, np.log(3), rtol=1e-6)
    assert loop.num_arcs == 6 and np.isinf(loop.final[0]) and np.isinf(loop.final[3])


def test_a_phone_loop_is_a_graph_of_its_own(root: Path, words: dict) -> None:
    places = [str(root / p) for p in ("lang", "exp/mono/ali_dev", "exp/mono", "exp/mono/graph_loop")]
    phone_graph.main([*places, "--order", "0", "--min-count", "1"])
    meta = read_json(root / "exp/mono/graph_loop/meta.json")
    # Perplexity: all phones that were seen, and the end.
    assert (meta["lm"], meta["kind"], meta["order"]) == ("loop", "phone", 0)
    symbols = read_lines(root / "exp/mono/graph_loop/words.txt")
    assert meta["perplexity"] == pytest.approx(len(symbols) - len(meta["phones_left_out"]), abs=0.01)
    result = run_decode(root, "graph_loop", "decode_dev_loop", "--ref-ali", str(root / "exp/mono/ali_dev"))
    assert result["lm"] == "loop" and result["wer"] is None and result["per"] <= 3.0
    shutil.rmtree(root / "exp/mono/decode_dev_loop")
    with pytest.raises(UsageError, match="free loop"):
        phone_graph.main([*places, "--order", "3"])


def test_results_are_collected_compared_and_checked(
    root: Path, words: dict, phones: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    run_decode(root, "graph_phone", "decode_dev_phone", "--ref-ali", str(root / "exp/mono/ali_dev"), system="other")
    out = root / "RESULTS.md"
    argv = ["--baseline", "mono", "--command", "run.sh", str(root / "exp"), str(out)]
    collect.main(argv)
    assert "| mono" in capsys.readouterr().out
    results = read_json(root / "exp/results.json")
    assert "| utterances | words |" in out.read_text()
    assert [(r["system"], r["lm"]) for r in results] == [("mono", "2gram"), ("mono", "big"), ("mono", "phone"), ("other", "phone")]
    assert not any("rtf" in r or "seconds" in r for r in results), "times would make equal results differ"
    assert results[3]["vs_baseline"]["delta"] == 0.0 and "vs_baseline" not in results[2]
    record = root / "exp" / results[0]["decode"] / "env.json"
    assert f"at commit {read_json(record)['git']}" in out.read_text(), "the tables name the commit that made the scores"
    before = out.read_bytes()
    collect.main(argv)
    assert out.read_bytes() == before
    check = ["--check", "true", str(root / "exp"), str(out)]
    collect.main(check)
    out.write_text(out.read_text().replace("| mono", "| mine", 1))
    with pytest.raises(KdError, match="does not match"):
        collect.main(check)


def test_altered_rescored_scores_are_noticed(root: Path, words: dict) -> None:
    score = root / "exp/mono/decode_dev_2gram/rescored/score.json"
    before = score.read_text()
    collect.read_result(score, root / "exp")
    score.write_text(before.replace("\"sub\": ", "\"sub\": 1"))
    with pytest.raises(KdError, match=r"rescored/score\.json has"):
        collect.read_result(score, root / "exp")
    score.write_text(before)


def test_collecting_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    with pytest.raises(KdError, match=r"no score\.json"):
        collect.main([str(tmp_path / "exp"), str(tmp_path / "RESULTS.md")])


def test_another_set_is_reported_with_the_scales_chosen_on_dev(root: Path, words: dict) -> None:
    shutil.copytree(root / "dev" / "mfcc", root / "test" / "mfcc", dirs_exist_ok=True)
    dev, graph = root / "exp/mono/decode_dev_2gram", root / "exp/mono/graph_2gram"
    lm = ["--rescore-lm", str(root / "lm_big"), *WIDE]
    places = ["--graph", *map(str, (graph, root / "exp/mono", root / "test/mfcc", root / "lang", root / "exp/mono/decode_test"))]
    decode.main(["--nj", "1", *lm, "--scales-from", str(dev), *places])
    for folder, chosen in ((root / "exp/mono/decode_test", dev), (root / "exp/mono/decode_test/rescored", dev / "rescored")):
        whole, score = read_json(chosen / "scales.json")["whole"], read_json(folder / "score.json")
        assert score["tuned_on"] == "dev" and score["set"] == "test"
        assert score["scales"] == [{k: whole[k] for k in ("prior_scale", "lm_scale", "penalty")}]
        assert score["sub"] + score["ins"] + score["del"] == whole["errors"]  # the same audio under another name
    with pytest.raises(KdError, match="is a decode of dev itself"):
        run_decode(root, "graph_2gram", "decode_x", "--scales-from", str(dev))
    with pytest.raises(KdError, match="were not chosen on"):
        shutil.copytree(root / "dev" / "mfcc", root / "third" / "mfcc", dirs_exist_ok=True)
        places[3], places[5] = str(root / "third/mfcc"), str(root / "exp/mono/decode_third")
        decode.main(["--nj", "1", "--scales-from", str(root / "exp/mono/decode_test"), *places])
    with pytest.raises(KdError, match=r"no scales\.json there"):
        run_decode(root, "graph_2gram", "decode_x", "--scales-from", str(root / "exp"))


def test_scales_are_pooled_over_systems(root: Path, words: dict) -> None:
    """One point for two systems: on the other half for the set itself, on all of it for another; no second search."""
    lm = ["--rescore-lm", str(root / "lm_big"), *WIDE]
    for name in ("mono", "other"):
        run_decode(root, "graph_2gram", "decode_dev_2gram", *lm, system=name)
    dev = [root / f"exp/{name}/decode_dev_2gram" for name in ("mono", "other")]
    pool_scales.main([*map(str, dev), str(root / "pool")])
    for part in ("", "rescored"):
        each = [np.array([f["tuning_errors"] for f in read_json(d / part / "scales.json")["folds"]]) for d in dev]
        scales, pooled = (read_json(root / "pool" / part / name) for name in ("scales.json", "pooled.json"))
        assert pooled["systems"] == ["mono", "other"] and np.array_equal(pooled["errors"], each[0] + each[1])
        total = each[0] + each[1]
        assert total.sum(0)[scales["whole"]["point"]] == total.sum(0).min()
        assert [t[f["point"]] for t, f in zip(total, scales["folds"], strict=True)] == [t.min() for t in total]
    run_decode(root, "graph_2gram", "pooled_dev_2gram", *lm, "--scales-from", str(root / "pool"), "--candidates-from", str(dev[0]))
    out = root / "exp/mono/pooled_dev_2gram"
    score, scales, choice = (read_json(p) for p in (out / "score.json", out / "scales.json", root / "pool/scales.json"))
    assert score["pooled"] is True and score["tuned_on"] == "dev" and scales["split_by"] == "speakers" and not (out / "log").exists()
    assert [f["lm_scale"] for f in scales["folds"]] == [f["lm_scale"] for f in choice["folds"]] and len(scales["folds"]) == 2
    own = read_json(dev[0] / "scales.json")
    totals = np.array([f["tuning_errors"] for f in own["folds"]])  # the tuning half of one fold is what the other one reports
    assert score["sub"] + score["ins"] + score["del"] == sum(totals[1 - i][f["point"]] for i, f in enumerate(choice["folds"]))
    assert (out / "rescored/score.json").is_file()
    searched = run_decode(root, "graph_2gram", "pooled_again", *lm, "--scales-from", str(root / "pool"))
    assert searched == score
    shutil.copytree(root / "dev" / "mfcc", root / "test" / "mfcc", dirs_exist_ok=True)
    places = [str(root / p) for p in ("exp/mono/graph_2gram", "exp/mono", "test/mfcc", "lang", "exp/mono/pooled_test")]
    decode.main(["--nj", "1", *lm, "--scales-from", str(root / "pool"), "--graph", *places])
    assert [s["lm_scale"] for s in read_json(root / "exp/mono/pooled_test/score.json")["scales"]] == [choice["whole"]["lm_scale"]]


def test_what_cannot_be_pooled_is_named(root: Path, words: dict, phones: dict) -> None:
    lm = ["--rescore-lm", str(root / "lm_big"), *WIDE]
    one, other = root / "exp/mono/decode_dev_2gram", root / "exp/mono/decode_dev_phone"
    with pytest.raises(KdError, match=r"decode_dev_phone: no rescored/ there"):
        pool_scales.main([str(one), str(other), str(root / "mixed")])
    run_decode(root, "graph_2gram", "decode_few", "--lm-scales", "[3, 4]", *lm)
    with pytest.raises(KdError, match="decode_few: it was decoded with other scales"):
        pool_scales.main([str(one), str(root / "exp/mono/decode_few"), str(root / "mixed")])
    with pytest.raises(UsageError, match="named twice"):
        pool_scales.main([str(one), str(one), str(root / "mixed")])
    with pytest.raises(KdError, match=r"exp: no scales\.json there"):
        pool_scales.main([str(root / "exp"), str(root / "mixed")])
    pool_scales.main([str(one), str(root / "pool_one")])
    with pytest.raises(KdError, match=r"other is not among the 1 pooled systems \(mono\)"):
        run_decode(root, "graph_2gram", "decode_x", *lm, "--scales-from", str(root / "pool_one"), system="other")
    with pytest.raises(KdError, match="lm 2gram instead of phone"):
        run_decode(root, "graph_phone", "decode_x", "--ref-ali", str(root / "exp/mono/ali_dev"), "--scales-from", str(root / "pool_one"))
    with pytest.raises(KdError, match=r"--candidates-from .*: a decode with rescore_lm big instead of None"):
        run_decode(root, "graph_2gram", "decode_x", "--candidates-from", str(one))
    with pytest.raises(KdError, match=r"no candidates\.tsv\.gz or score\.json there; name a decode folder"):
        run_decode(root, "graph_2gram", "decode_x", "--candidates-from", str(root / "lang"))
