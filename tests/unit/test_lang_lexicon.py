"""Lexicon formats, the choice of the vocabulary, and G2P on a language whose spelling is regular."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import write_jsonl
from kdtool.lang.g2p import G2p, sample_words
from kdtool.lang.lexicon import read_lexicon, write_lexicon
from kdtool.lang.vocab import most_frequent, transcript_words

CMUDICT = """;;; a comment
'em AH0 M
a AH0
a(2) EY1
a(3) AH1
aalborg AO1 L B AO0 R G # place, danish

read R EH1 D
read(2) R IY1 D
"""


def test_cmudict_and_librispeech_formats(tmp_path: Path) -> None:
    (tmp_path / "cmudict").write_text(CMUDICT)
    found = read_lexicon(tmp_path / "cmudict")
    assert found.prons == {
        "'EM": [("AH", "M")],
        "A": [("AH",), ("EY",)],  # A(3) differs from A by stress only
        "AALBORG": [("AO", "L", "B", "AO", "R", "G")],
        "READ": [("R", "EH", "D"), ("R", "IY", "D")],
    }
    (tmp_path / "librispeech").write_text("!SIL SIL\n<UNK> SPN\nA\tAH0\nA\tEY1\nREAD  R EH1 D\n")
    assert read_lexicon(tmp_path / "librispeech").prons == {"A": [("AH",), ("EY",)], "READ": [("R", "EH", "D")]}
    write_lexicon(tmp_path / "again", found.prons)
    assert read_lexicon(tmp_path / "again").prons == found.prons


@pytest.mark.parametrize(("text", "message"), [("", "no pronunciations"), ("A AH0\nBEE\n", r"line 2.*'BEE'"), ("(2) AH0\n", "line 1")])
def test_bad_lexicons_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "lexicon").write_text(text)
    with pytest.raises(KdError, match=message):
        read_lexicon(tmp_path / "lexicon")


def test_unknown_phones_are_reported_or_allowed(tmp_path: Path) -> None:
    path = tmp_path / "lexicon"
    path.write_text("".join(f"W{i} AH0\n" for i in range(200)) + "CHAT SH1 @ T\n")
    found = read_lexicon(path)
    assert found.unknown == [(201, "CHAT", ["@"])]
    assert "CHAT" not in found.prons
    path.write_text("MA M A3\nMA M A4\n")
    with pytest.raises(KdError, match=r"line 1.*--phone-set any"):
        read_lexicon(path)
    assert read_lexicon(path, "any").prons == {"MA": [("M", "A3"), ("M", "A4")]}
    with pytest.raises(UsageError, match="klingon"):
        read_lexicon(path, "klingon")
    path.write_text("HM M SIL\n")
    with pytest.raises(KdError, match="SIL"):
        read_lexicon(path, "any")


def test_vocabulary_takes_the_frequent_words_and_breaks_ties_by_the_alphabet() -> None:
    counts = Counter({"D": 5, "C": 2, "A": 2, "B": 2, "E": 1})
    assert most_frequent(counts, 3, 1) == ["D", "A", "B"]
    assert most_frequent(counts, 10, 2) == ["D", "A", "B", "C"]


def test_transcripts_must_be_upper_case_and_not_empty(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "supervisions.jsonl.gz", [{"id": "u1", "text": "A B A"}, {"id": "u2", "text": "B"}])
    assert transcript_words(tmp_path) == {"A": 2, "B": 2}
    write_jsonl(tmp_path / "supervisions.jsonl.gz", [{"id": "u1", "text": "A"}, {"id": "u2", "text": "Ab"}])
    with pytest.raises(KdError, match="utterance u2"):
        transcript_words(tmp_path)
    write_jsonl(tmp_path / "supervisions.jsonl.gz", [{"id": "u1"}])
    with pytest.raises(KdError, match="no words"):
        transcript_words(tmp_path)


def regular_language() -> dict[str, list[tuple[str, ...]]]:
    """Words of two or three syllables, each letter one phone, except that SH is one."""
    sounds = {"B": "B", "K": "K", "M": "M", "S": "S", "SH": "SH", "T": "T", "A": "AA", "I": "IY", "O": "OW"}
    syllables = [c + v for c, v in product(("B", "K", "M", "S", "SH", "T"), ("A", "I", "O"))]

    def spell(word: str) -> tuple[str, ...]:
        letters = word.replace("SH", "H")
        return tuple(sounds["SH" if c == "H" else c] for c in letters)

    words = ["".join(p) for p in product(syllables, repeat=2)]
    return {w: [spell(w)] for w in words}


def test_g2p_learns_a_regular_spelling_and_reports_what_it_cannot_do(tmp_path: Path) -> None:
    lexicon = regular_language()
    held_out = {w: lexicon.pop(w) for w in sorted(lexicon)[::7]}
    results = []
    for nj in (1, 2):
        g2p = G2p(tmp_path / str(nj), order=4, align_words=150, nj=nj)
        g2p.train(lexicon)
        results.append(g2p.apply([*held_out, "R2D2", "'", "ZZZ"]))
        g2p.clean()
        assert not (tmp_path / str(nj) / "g2p").exists()
    assert results[0] == results[1]
    found, failed = results[0]
    right = sum(found[w] == held_out[w][0] for w in held_out)
    assert right > 0.9 * len(held_out)
    assert [w for w, _ in failed] == ["'", "R2D2", "ZZZ"]


def test_g2p_sample_is_seeded() -> None:
    words = [f"W{i}" for i in range(100)]
    assert sample_words(words, 10, 1) == sample_words(words[::-1], 10, 1)
    assert sample_words(words, 10, 1) != sample_words(words, 10, 2)
    assert sample_words(words, 0, 1) == sorted(words)


def test_g2p_without_letters_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="--g2p false"):
        G2p(tmp_path).train({"123": [("AH",)]})


def test_kaldi_forms(tmp_path: Path) -> None:
    path = tmp_path / "lexiconp.txt"
    path.write_text("!SIL SIL\n<UNK> SPN\n[NOISE] SPN\nHI 1.0 hE i\nHI 0.25 hE\nTO(2) t 0\n")
    assert read_lexicon(path, "any").prons == {"HI": [("hE", "i"), ("hE",)], "TO": [("t", "0")]}
