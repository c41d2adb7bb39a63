"""Phones that depend on their position in the word: tables, trees that share and split them, and everything that names phones."""

from __future__ import annotations

from pathlib import Path

import gmm_data
import numpy as np
import pytest
from test_decode_steps import write_lm
from test_lang_prepare import SMALL, inputs

from kdtool.ali import align
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json, read_lines
from kdtool.decode import decode
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.gmm import train_mono, train_tri
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import save_gmm
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.tree_build import SIDES, build_tree
from kdtool.gmm.tree_stats import TreeStats, first_stats
from kdtool.graph import make_graph, phone_graph
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.lang.lang import Lang
from kdtool.lang.positions import mark, mark_lexicon, marked_phones, write_positions
from kdtool.lang.prepare import main as prepare_lang
from kdtool.teacher.base import TrainingText
from kdtool.teacher.tree_senone import TreeSenoneTeacher
from kdtool.units.text import Sequences
from kdtool.validate.main import main as validate


def test_marks() -> None:
    assert mark(("AA",)) == ("AA_S",) and mark(("B", "AA")) == ("B_B", "AA_E")
    assert mark(("B", "AA", "K", "AA")) == ("B_B", "AA_I", "K_I", "AA_E") and mark(("SPN",)) == ("SPN",)
    assert marked_phones({"K", "B"}) == ["B_B", "B_E", "B_I", "B_S", "K_B", "K_E", "K_I", "K_S"]
    with pytest.raises(KdError, match="phone A_E of the lexicon"):
        marked_phones({"A", "A_E"})


def test_lang_folder_with_positions(tmp_path: Path) -> None:
    argv = inputs(tmp_path)
    prepare_lang([*argv, *SMALL])
    plain = Lang.load(tmp_path / "lang")
    assert plain.positions == {} and plain.plain_names == plain.phone_names and plain.position_sets == []
    assert plain.family == {p: p for p in plain.num_states} and not (tmp_path / "lang" / "word_boundary.txt").exists()
    prepare_lang([*argv[:3], str(tmp_path / "marked"), *SMALL, "--word-position", "true"])
    lang = Lang.load(tmp_path / "marked")
    assert len(lang.phones) == 3 + 4 * (len(plain.phones) - 3) and lang.phone_names[:4] == ["<eps>", "SIL", "SPN", "AA_B"]
    for word, prons in plain.text_prons.items():
        assert [[lang.plain_names[p] for p in pron] for pron in lang.text_prons[word]] == [[plain.phone_names[p] for p in v] for v in prons]
    assert [lang.phone_names[p] for p in lang.prons["CAT"][0]] == ["K_B", "AE_I", "T_E"]
    assert [lang.phone_names[p] for p in lang.prons["<UNK>"][0]] == ["SPN"]
    heads = {lang.phone_names[p]: lang.phone_names[h] for p, h in lang.family.items()}
    assert heads["AE_S"] == heads["AE_B"] == "AE_B" and heads["SIL"] == "SIL"
    assert [{lang.phone_names[p][-2:] for p in s} for s in lang.position_sets] == [{"_B"}, {"_E"}, {"_I"}, {"_S"}]
    assert validate(["lang", str(tmp_path / "marked")]) == 0  # all is well, though no word has most of the phones
    table = tmp_path / "marked" / "word_boundary.txt"
    digest, lines = lang.digest, table.read_text()
    for wrong, told in ((lines.replace("AA_B begin", "AA_B end"), "line 3"), (lines + "ZZ_B begin\n", "ZZ_B is in one of")):
        table.write_text(wrong)
        with pytest.raises(KdError, match=told):
            _ = Lang.load(tmp_path / "marked").family
    table.unlink()
    assert Lang.load(tmp_path / "marked").digest != digest


SIL, A_B, A_E, B_B, B_E = 1, 2, 3, 4, 5
FAMILY = {SIL: SIL, A_B: A_B, A_E: A_B, B_B: B_B, B_E: B_B}


def position_stats() -> TreeStats:
    """Phone A is higher at a word's end, B sounds the same in both places; neighbours do not matter. B_E is rare."""
    rng, mean = np.random.default_rng(0), {SIL: -5.0, A_B: 0.0, A_E: 3.0, B_B: 8.0, B_E: 8.0}
    keys, counts, moments = [], [], []
    for centre, m in mean.items():
        for left in mean:
            for right in mean:
                x = m + 0.5 * rng.standard_normal((2 if centre == B_E else 40, 2))
                keys.append([left, centre, right, 0])
                counts.append(float(len(x)))
                moments.append(np.concatenate([(x**2).sum(0), x.sum(0)]))
    return TreeStats(np.array(keys), np.array(counts), np.array(moments))


def test_a_family_shares_a_root_that_its_position_may_split(tmp_path: Path) -> None:
    stats = position_stats()
    positions = [(A_B, B_B), (A_E, B_E)]
    tree, questions, nodes = build_tree(
        stats, dict.fromkeys(FAMILY, 1), SIL, {SIL}, leaves=50, min_count=30.0, min_gain=100.0, family=FAMILY, position_sets=positions
    )
    assert questions[-2:] == positions and (A_B, A_E) in questions  # clusters are of families
    assert tree.num_pdfs == 4 and len(np.unique(tree.pdf_map[:, [B_B, B_E], :, 0])) == 1
    assert not {*tree.pdf_map[:, A_B].ravel()} & {*tree.pdf_map[:, A_E].ravel()}
    assert tree.shared and sorted(tree.pdf_phone.tolist()) == [SIL, A_B, A_E, B_B]
    (split,) = (n for n in nodes if n.side >= 0)
    assert SIDES[split.side] == "itself" and split.phone == A_B and split.question in ((A_B,), (A_E,))
    count = first_stats(tree, stats).gamma
    assert count.sum() == stats.count.sum() and count.min() > 0
    tree.save(tmp_path)
    again = Tree.load(tmp_path)
    assert again.digest == tree.digest and again.family.tolist() == tree.family.tolist()
    # Phones that are no family may not share.
    with pytest.raises(KdError, match="also belongs to phone"):
        Tree(tree.pdf_map)
    mono = Tree.monophone(dict.fromkeys(FAMILY, 3), FAMILY)
    assert mono.num_pdfs == 9 and mono.pdf_map[0, A_E, 0].tolist() == mono.pdf_map[0, A_B, 0].tolist() == [3, 4, 5]


def know_all(folder: Path, lang: Lang, features: FeatureSet) -> None:
    """A monophone model that knows where each state lies."""
    tree = Tree.monophone(lang.num_states, lang.family)
    ids = [gmm_data.PHONES[lang.plain_names[p]] for p in tree.pdf_phone]
    means = np.stack([gmm_data.state_mean(p, int(s)) for p, s in zip(ids, tree.pdf_state, strict=True)])
    model = DiagGmm(means, np.full(means.shape, 0.16), np.ones(len(means)), np.arange(len(means) + 1), tree.digest)
    folder.mkdir()
    save_gmm(folder, model, tree, lang, FrontEnd(features.kind, features.dim), [])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus, its lang folder with positions, and the alignment by a model that knows where each state lies."""
    root = tmp_path_factory.mktemp("positions")
    gmm_data.write_lang(root / "plain")
    gmm_data.write_lang(root / "lang")
    spoken = sorted(set(gmm_data.PHONES) - {"<eps>", "SIL", "SPN"})
    phones = ["SIL", "SPN", *marked_phones(spoken)]
    lexicon = mark_lexicon({w: [tuple(p.split()) for p in ps] for w, ps in gmm_data.LEXICON.items()})
    files = {
        "phones.txt": [f"{p} {i}" for i, p in enumerate(["<eps>", *phones])], "topo.txt": [f"{p} 3" for p in phones],
        "lexicon.txt": [f"{w} {' '.join(p)}" for w, ps in sorted(lexicon.items()) for p in ps],
    }  # fmt: skip
    for name, lines in files.items():
        (root / "lang" / name).write_text("".join(line + "\n" for line in lines))
    write_positions(root / "lang", phones, ("SIL", "SPN"))
    gmm_data.write_features(root / "feats", 20)
    for name in ("plain", "lang"):
        know_all(root / f"gmm_{name}", Lang.load(root / name), FeatureSet.open(root / "feats"))
        align.main([str(root / p) for p in ("feats", name, f"gmm_{name}", f"ali_{name}")])
    return root


def test_alignments_are_the_same_but_for_the_names(world: Path) -> None:
    lang, truth, found = Lang.load(world / "lang"), AlignmentSet.open(world / "ali_plain"), AlignmentSet.open(world / "ali_lang")
    names = Lang.load(world / "plain").phone_names
    for u in truth.ids:
        a, b = truth.get(u), found.get(u)
        assert [names[p] for p in a.phone] == [lang.plain_names[p] for p in b.phone] and a.words == b.words
        np.testing.assert_array_equal(a.pdf, b.pdf)  # a monophone tree has one pdf for all positions
        first = {start: lang.phone_names[b.phone[start]][-2:] for _, start, _ in b.words if b.phone[start] not in lang.silence_ids}
        assert set(first.values()) <= {"_B", "_S"} and len(first) > 3
    assert validate(["ali", str(world / "ali_lang"), "--lang", str(world / "lang"), "--gmm", str(world / "gmm_lang")]) == 0


def test_decoding_finds_the_same_words_and_phones(world: Path, tmp_path: Path) -> None:
    """With shared pdfs, so that 'K_B AA_E' and other words' phones in other places are one string of pdfs."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "mfcc").symlink_to(world / "feats")
    write_lm(tmp_path / "lm_2gram", "KA")
    said = {}
    for name in ("plain", "lang"):
        lang, model, ali = (str(world / p) for p in (name, f"gmm_{name}", f"ali_{name}"))
        make_graph.main([lang, str(tmp_path / "lm_2gram"), model, str(tmp_path / f"graph_{name}")])
        phone_graph.main([lang, ali, model, str(tmp_path / f"phones_{name}"), "--min-count", "1"])
        for graph, more in ((f"graph_{name}", []), (f"phones_{name}", ["--ref-ali", ali])):
            paths = ["--graph", str(tmp_path / graph), model, str(tmp_path / "dev" / "mfcc"), lang, str(tmp_path / f"decode_{graph}")]
            decode.main(["--nj", "1", *more, *paths])
        hyp, score = tmp_path / f"decode_graph_{name}" / "hyp.tsv", tmp_path / f"decode_phones_{name}" / "score.json"
        said[name] = read_lines(hyp), read_json(score)
    assert said["plain"][0] == said["lang"][0]
    assert said["plain"][1]["per"] == said["lang"][1]["per"] < 2.0 and said["plain"][1]["words"] == said["lang"][1]["words"] > 100
    graph = DecodingGraph.load(tmp_path / "phones_lang")
    assert {graph.words[w] for w in np.unique(graph.spelling[graph.aux])} == {"<eps>", "SIL", "SPN", "AA", "B", "K", "S"}


def test_training_steps_and_refusal(world: Path, tmp_path: Path) -> None:
    feats, lang, ali = (str(world / p) for p in ("feats", "lang", "ali_lang"))
    train_mono.main([feats, lang, str(tmp_path / "mono"), "--iterations", "2", "--realign", "[1, 2]", "--gaussians", "30", "--deltas", "0"])
    assert Tree.load(tmp_path / "mono").num_pdfs == 18
    few = ["--iterations", "2", "--realign", "[2]", "--leaves", "24", "--min-count", "5", "--min-gain", "0.1", "--deltas", "0"]
    train_tri.main([feats, lang, ali, str(tmp_path / "tri"), *few])
    tree = Tree.load(tmp_path / "tri")
    assert tree.shared and 18 < tree.num_pdfs <= 24
    assert '"phone": "AA"' in (tmp_path / "tri" / "splits.jsonl").read_text()
    align.main([feats, lang, str(tmp_path / "tri"), str(tmp_path / "tri" / "ali")])
    assert validate(["ali", str(tmp_path / "tri" / "ali"), "--lang", lang]) == 0
    nothing = Sequences.of([])
    text = TrainingText("senone", tree.num_pdfs, lambda: iter([]), nothing, {"tree": tree})
    with pytest.raises(UsageError, match="use kind ngram"):
        TreeSenoneTeacher.train(text, {}, seed=0, work=tmp_path)
