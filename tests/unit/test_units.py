"""Units of alignments and of text."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from teacher_data import LEXICON, PHONES, WORDS, align, make_tree, sentences, write_alignments, write_lang, write_text

from kdtool.core.errors import KdError, UsageError
from kdtool.formats.alignment import Alignment, AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.units.segments import _cut, unit_segments
from kdtool.units.table import UNITS, check_tree_fits, num_units, units_digest
from kdtool.units.text import Sequences, UnitText, pron_shares, senones, sentences_of


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Lang:
    return write_lang(tmp_path_factory.mktemp("units") / "lang")


@pytest.fixture(scope="module")
def tree() -> Tree:
    return make_tree()


@pytest.mark.parametrize("unit", UNITS)
def test_segments_cover_what_is_not_silent(unit: str, lang: Lang, tree: Tree) -> None:
    rng = np.random.default_rng(1)
    for text in [*sentences(20, seed=3), "BAT STRANGE SEA", "STRANGE"]:
        ali = align("u", text, lang, tree, rng)
        segments = unit_segments(ali, unit, lang, tree)
        covered = np.zeros(ali.num_frames, dtype=int)
        for start, length in zip(segments.start, segments.length, strict=True):
            covered[start : start + length] += 1
        np.testing.assert_array_equal(covered, ~np.isin(ali.phone, [1, 2]))
        assert np.all(segments.start[1:] >= segments.start[:-1] + segments.length[:-1])
        assert all(part.dtype == np.int32 for part in (segments.ids, segments.start, segments.length))


def test_segments_are_the_units_that_were_said(lang: Lang, tree: Tree) -> None:
    ali = align("u", "BAT TASK SEA", lang, tree, np.random.default_rng(0))
    phones = [lang.phones[p] for w in ("BAT", "TASK", "SEA") for p in LEXICON[w][0].split()]
    assert unit_segments(ali, "phone", lang).ids.tolist() == phones
    found = unit_segments(ali, "senone", lang, tree).ids
    assert tree.pdf_phone[found].tolist() == np.repeat(phones, 3).tolist()
    assert tree.pdf_state[found].tolist() == [0, 1, 2] * len(phones)
    assert unit_segments(ali, "subword", lang).ids.tolist() == lang.bpe.encode("BAT TASK SEA")


def test_two_equal_phones_in_a_row_are_two_units(lang: Lang) -> None:
    tree = Tree.monophone({p: 3 for p in range(1, len(PHONES) + 1)})
    ali = align("u", "BEAST TASK", lang, tree, np.random.default_rng(4))
    ids = unit_segments(ali, "phone", lang).ids.tolist()
    assert ids[3:5] == [lang.phones["T"]] * 2


def test_pieces_share_a_words_frames_by_spelling() -> None:
    edges = np.array([10, 20, 30, 60])  # three phones for six characters: two characters a phone
    assert _cut(edges, np.array([2, 2, 2])).tolist() == [10, 20, 30, 60]
    assert _cut(edges, np.array([3, 3])).tolist() == [10, 25, 60]
    assert _cut(edges, np.array([0, 5])).tolist() == [10, 15, 60]  # a lone word-start mark counts as one character


@pytest.mark.parametrize("frames,pieces", list(itertools.product([1, 2, 3, 5, 9], [1, 2, 3, 5])))
def test_every_piece_has_a_frame_where_there_are_enough(frames: int, pieces: int) -> None:
    spelled = np.ones(pieces, dtype=int)
    spelled[0] = 40
    cuts = _cut(np.array([7, 7 + frames]), spelled)
    assert cuts[0] == 7 and cuts[-1] == 7 + frames
    assert np.diff(cuts).min() >= (1 if frames >= pieces else 0)


def test_word_by_word_is_sentence_by_sentence(lang: Lang) -> None:
    source = UnitText("subword", lang, None)
    lines = [*sentences(40), "UNHEARD OF"]
    (block,) = source.blocks(lines)
    assert [s.tolist() for s in block] == [lang.bpe.encode(line) for line in lines]
    assert source.sentences == 41 and source.skipped == 0


def test_text_to_phones_and_senones_one_by_one(lang: Lang, tree: Tree) -> None:
    lines = [*sentences(30, seed=5), "KATE", "BAT STRANGE"]  # KATE is in the wider text lexicon only
    (phones,) = UnitText("phone", lang, tree).blocks(lines)
    source = UnitText("senone", lang, tree)
    (found,) = source.blocks(lines)
    assert source.skipped == 1 and source.sentences == len(phones) == len(found) == 31
    for line, own, pdfs in zip(lines, phones, found, strict=False):
        said = [p for w in line.split() for p in lang.text_prons[w][0]]
        assert own.tolist() == said
        context = [0, *said, 0]
        wanted = [tree.pdf_map[context[i], p, context[i + 2], s] for i, p in enumerate(said) for s in range(3)]
        assert pdfs.tolist() == wanted


def test_phones_of_fewer_states(tree: Tree) -> None:
    table = tree.pdf_map.copy()
    gone = np.unique(table[:, 4, :, 2])
    table[:, 4, :, 2] = -1
    table -= np.searchsorted(gone, table).astype(np.int32) * (table >= 0)
    ids, offsets = senones(np.array([3, 4, 3]), np.array([0, 2, 3]), Tree(table))
    assert len(ids) == 8 and offsets.tolist() == [0, 5, 8]
    with pytest.raises(KdError, match="phone 10 is not in the tree"):
        senones(np.array([10]), np.array([0, 1]), tree)


def test_pronunciations_are_drawn_as_speakers_used_them(lang: Lang, tree: Tree, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chosen = []
    while len(chosen) < 60:  # keep the alignments in which TEA was said T AA
        ali = align(f"u{len(chosen)}", "TEA BAT", lang, tree, rng)
        if lang.phones["IY"] not in ali.phone:
            chosen.append(ali)
    from kdtool.formats.alignment import save_alignments

    save_alignments(tmp_path, chosen)
    shares = pron_shares(AlignmentSet.open(tmp_path), lang)
    assert set(shares) == {"TEA", "SKATE", "A"} and all(abs(sum(s) - 1) < 1e-9 for s in shares.values())
    assert shares["TEA"][1] > 0.9
    lines = ["TEA"] * 4000
    texts = [np.concatenate([b.ids for b in UnitText("phone", lang, None, shares=shares, seed=s).blocks(lines)]) for s in (7, 7, 8)]
    np.testing.assert_array_equal(texts[0], texts[1])
    assert (texts[0] != texts[2]).any()
    share = float((texts[0].reshape(-1, 2)[:, 1] == lang.phones["AA"]).mean())
    assert abs(share - shares["TEA"][1]) < 0.02


def test_tables_and_their_digests(lang: Lang, tree: Tree) -> None:
    assert num_units("senone", lang, tree) == tree.num_pdfs
    assert num_units("phone", lang, tree) == len(PHONES) + 1
    assert num_units("subword", lang, tree) == lang.bpe.get_piece_size()
    assert len({units_digest(u, lang, tree) for u in UNITS}) == 3
    assert units_digest("senone", lang, tree) != units_digest("senone", lang, make_tree(1))
    with pytest.raises(UsageError, match="known are senone, phone, subword"):
        num_units("word", lang, tree)
    with pytest.raises(KdError, match="none was given"):
        units_digest("senone", lang, None)
    with pytest.raises(KdError, match="knows 13 phone ids, the lang 10"):
        check_tree_fits(lang, Tree.monophone({p: 3 for p in range(1, 13)}))


def test_alignment_of_another_tree_is_refused(lang: Lang, tree: Tree) -> None:
    ali = align("u7", "BAT", lang, tree, np.random.default_rng(0))
    other = Alignment(ali.id, ali.pdf + tree.num_pdfs, ali.state, ali.phone, ali.phone_start, ali.words)
    with pytest.raises(KdError, match=r"alignment of u7 has senone .*, the tree"):
        unit_segments(other, "senone", lang, tree)


def test_text_folder(tmp_path: Path) -> None:
    write_text(tmp_path, ["A BAT", "", " SEA "])
    assert list(sentences_of(tmp_path)) == ["A BAT", "SEA"]
    with pytest.raises(KdError, match=r"text\.gz"):
        list(sentences_of(tmp_path / "none"))
    assert len(Sequences.of([])) == 0 and list(Sequences.of([])) == []


def test_words_are_known(lang: Lang, tree: Tree, tmp_path: Path) -> None:
    made = write_alignments(tmp_path, [" ".join(WORDS)], lang, tree)
    assert unit_segments(made[0], "subword", lang).ids.tolist() == lang.bpe.encode(" ".join(WORDS))
