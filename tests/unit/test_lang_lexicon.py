"""Lexicon formats, the choice of the vocabulary, and G2P on a language whose spelling is regular."""

from __future__ import annotations

import unicodedata
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import write_jsonl
from kdtool.lang.g2p import G2p, sample_words, unspelled
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
    write_jsonl(tmp_path / "supervisions.jsonl.gz", [{"id": "u1", "text": "A <UNK>"}])
    assert transcript_words(tmp_path) == {"A": 1, "<UNK>": 1}
    for text, message in (("CAFE\u0301", "composed form"), ("A <s>", "<s> is reserved"), ("A\u200eB", "holds the character")):
        write_jsonl(tmp_path / "supervisions.jsonl.gz", [{"id": "u1", "text": text}])
        with pytest.raises(KdError, match=message):
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
    assert [unspelled(w).split(":")[0] for w in ("9", "\u4e2d", "A" * 61)] == [
        "digits are read in several ways", "not spelled with A to Z and the apostrophe", "61 letters, more than 60",
    ]  # fmt: skip
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
    path.write_text("!SIL SIL\n<UNK> SPN\n[NOISE] SPN\n[LAUGHTER] spn\nHI 1.0 hE i\nHI 0.25 hE\nTO(2) .5 t o2\n")
    assert read_lexicon(path, "any").prons == {"HI": [("hE", "i"), ("hE",)], "TO": [("t", "o2")]}


BEE = {"A": [("AH",), ("EY",)], "'BEE": [("B", "IY")]}
FORMS = {
    "lexicon.txt": "A AH\nA EY\n'BEE B IY\n",
    "lexiconp.txt": "A 1 AH\nA 0 EY\n'BEE 1e-05 B IY\n",
    "lexiconp_silprob.txt": "A 1.0 0.5 1.2 0.9 AH\nA 0.3 .5 1 1. EY\n'BEE 1 0.2 1.0 0.8 B IY\n",
    "two columns": "A 1.0 0.5 AH\nA 0.3 .5 EY\n'BEE 1 0.2 B IY\n",
    "MFA with tabs": "a\t0.99\t0.17\t1.0\t0.8\tAH0\na\t0.01\t0.17\t1.0\t0.8\tEY1\n'bee\t0.5\t0.1\t1.5\t0.8\tB IY0\n",
    "MFA with one number": "a\t1.0\tAH0\na\t0.33\tEY1\n'bee\t1.0\tB IY0\n",
    "HTK": "A [A] 1.0 AH\nA [] 0.5 EY\n\\'BEE ['BEE] 1.0 B IY\n<s> [] SIL\n",
    "HTK, quoted, without numbers": "\"A\" [A] AH\nA EY\n\\'BEE B IY\n",
    "Sphinx": "A  AH\nA(2)\tEY\n'BEE  B IY\n<sil> SIL\n",
    "CMUdict": ";;; a comment\n## another\n# a third\na AH0\na(2) EY1\n'bee B IY1 # the insect\n\n",
    "byte order mark, CRLF": "\ufeffA AH\r\nA EY\r\n'BEE B IY\r\n",
    "invisible": "A\u00a0AH\nA\u2003EY\n\u200f'B\u00adEE\u2060 B \ufeffIY\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("phone_set", ["arpabet", "any"])
def test_every_form_has_the_same_words_and_phones(form: str, phone_set: str, tmp_path: Path) -> None:
    (tmp_path / "lexicon").write_text(FORMS[form], newline="")
    assert read_lexicon(tmp_path / "lexicon", phone_set).prons == BEE


def test_numbers_stay_with_their_pronunciation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lexicon"
    path.write_text(FORMS["lexiconp_silprob.txt"] + "A 0.7 .5 1 1. EY\n")
    found = read_lexicon(path)
    assert found.columns == 4
    assert found.numbers == {("A", ("AH",)): (1, 0.5, 1.2, 0.9), ("A", ("EY",)): (0.7, 0.5, 1, 1), ("'BEE", ("B", "IY")): (1, 0.2, 1, 0.8)}
    assert f"note: {path}: 4 numeric columns behind each word (pronunciation probability, silence after" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A 0.5 AH\nB IY\n", r"line 1 has 1 numeric column \('A 0.5 AH'\), line 2 has 0 \('B IY'\); give all lines the same"),
        ("A AH\nB 1 B IY\n", r"line 1 has 0 numeric columns \('A AH'\), line 2 has 1"),
        ("A AH 1\n", r"line 1: 'A AH 1': the phone 1 is a number; phones need names"),
        ("A 0,5 AH\n", r"line 1: 'A 0,5 AH': the phone 0,5 is a number"),
        ("A AH\nB 50% B IY\n", r"line 2: 'B 50% B IY': the phone 50% is a number"),
        ("A 0.5\n", r"line 1: 'A 0.5': numbers, but no phones"),
        ("A 1 1 1 AH\n", r"line 1: 'A 1 1 1 AH': 3 numeric columns behind the word; known are 1"),
        ("A 1 1 1 1 1 AH\n", r"5 numeric columns"),
        ("A nan AH\nB B\n", r"line 2 has 0"),
    ],
)
def test_numbers_that_are_no_columns_are_refused_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lexicon"
    path.write_text(text)
    with pytest.raises(KdError, match=message) as e:
        read_lexicon(path, "any")
    assert str(path) in str(e.value)


def test_an_ipa_dictionary_says_which_option_allows_it(tmp_path: Path) -> None:
    path = tmp_path / "mfa.dict"
    path.write_text("cat\t0.99\t0.2\t1.0\t0.9\tk\u02b0 \u00e6 t\nsee\t0.99\t0.2\t1.0\t0.9\ts i\u02d0\n")
    with pytest.raises(KdError, match=r"line 1 \(CAT: .*--phone-set any"):
        read_lexicon(path)
    assert read_lexicon(path, "any").prons == {"CAT": [("k\u02b0", "\u00e6", "t")], "SEE": [("s", "i\u02d0")]}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_lexicons_are_one(form: str, tmp_path: Path) -> None:
    path = tmp_path / "lexicon"
    path.write_text(unicodedata.normalize(form, "p\u00e9ter P IY T ER\n"))
    assert [*read_lexicon(path).prons] == ["P\u00c9TER"]
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(KdError, match="iconv -f UTF-16"):
        read_lexicon(path)
