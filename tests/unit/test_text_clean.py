"""Characters of a text: what is invisible goes, what is composed is one string, and nothing depends on how it was typed."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kdtool.aligner.words import split_words
from kdtool.lm.text import Unusable, normalise
from kdtool.text.clean import clean, said, spellings, tell, upper
from kdtool.text.marks import transcript

ANY = st.text(max_size=40)
LETTERS = st.characters(categories=("Lu", "Ll", "Lo", "Nd"), max_codepoint=0x2FFF)
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=5)
LATIN = st.lists(st.text(st.characters(categories=("Lu", "Ll"), max_codepoint=0x24F), min_size=1, max_size=6), min_size=1, max_size=5)
INVISIBLE = "\ufeff\u00ad\u2060\u200e\u200f\u202a\u202e\u2066\u2069\u061c\ufe0f\U000e0020"
BLANKS = "\u00a0\u2003\u202f\u3000\u2028\u200b\x1c\x85\t "


def insert(text: str, places: list[tuple[int, str]]) -> str:
    """The text with characters put in at any place."""
    for place, char in places:
        at = place % (len(text) + 1)
        text = text[:at] + char + text[at:]
    return text


@settings(max_examples=300, deadline=None)
@given(ANY)
@example("\u200c\u0627\u200c\u200d\u00ad\u0628\u200c")
@example("e\u034f\u0301 \u1fbe\u0345 \u2126 \u212a")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean(text)
    assert clean(once) == once and unicodedata.is_normalized("NFC", once)
    words = transcript(text, Counter())
    assert transcript(words, Counter()) == words
    assert upper(upper(text)) == upper(text) == upper(text).upper()


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_composed_and_decomposed_text_have_the_same_words(text: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    assert clean(forms[0]) == clean(forms[1])
    lexicon = {w.key for w in split_words(forms[0], ())}
    assert split_words(forms[0], lexicon) == split_words(forms[1], lexicon)


@settings(max_examples=200, deadline=None)
@given(WORDS, st.lists(st.tuples(st.integers(0, 100), st.sampled_from(INVISIBLE)), max_size=6))
def test_invisible_characters_change_no_word(words: list[str], places: list[tuple[int, str]]) -> None:
    text = unicodedata.normalize("NFC", " ".join(words))
    hidden = insert(text, places)
    assert clean(hidden) == text
    lexicon = set(upper(text).split())
    assert split_words(hidden, lexicon) == split_words(text, lexicon)
    for plain in (True, False):
        results = []
        for line in (text, hidden):
            try:
                results.append(normalise(line, plain))
            except Unusable as e:
                results.append(e.kind)
        assert results[0] == results[1]


@settings(max_examples=200, deadline=None)
@given(LATIN, st.lists(st.tuples(st.integers(0, 100), st.sampled_from("\u200c\u200d")), max_size=6))
def test_joiners_go_where_letters_do_not_join(words: list[str], places: list[tuple[int, str]]) -> None:
    text = unicodedata.normalize("NFC", " ".join(words))
    assert clean(insert(text, places)) == text


@given(WORDS, st.text(BLANKS, min_size=1, max_size=3))
def test_every_kind_of_blank_parts_words(words: list[str], blank: str) -> None:
    text = [unicodedata.normalize("NFC", w) for w in words]
    assert clean(blank.join(text)).split() == text


@pytest.mark.parametrize(
    ("text", "words", "kind"),
    [
        ("a\ufeff b", "a b", "byte order mark"),
        ("sees\u200brose", "sees rose", "zero-width space split"),
        ("re\u00adcoat", "recoat", "soft hyphen"),
        ("\u200fab\u202c", "ab", "direction mark"),
        ("a\u00a0b\u3000c", "a b c", "no-break or other Unicode space split"),
        ("a\x1bb", "a b", "control character split"),
        ("a\u2060b", "ab", "word joiner"),
        ("a\u200db", "ab", "zero-width joiner"),
        ("cafe\u0301", "caf\u00e9", "composed form"),
        ("caf\ufffd", "caf\ufffd", "replacement character"),
    ],
)
def test_each_kind_is_counted(text: str, words: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    assert clean(text, counts) == words
    assert len([k for k, n in counts.items() if n]) == 1 and kind in next(k for k, n in counts.items() if n)
    tell("here", counts)
    assert f"note: here: {counts.total()} x " in (said := capsys.readouterr().err) and kind in said


def test_a_persian_word_keeps_its_joiner_where_the_lexicon_has_it() -> None:
    written, joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"
    assert clean(f"\u200c{written}\u200c") == written
    for lexicon, word in (({written}, written), ({joined}, joined), (set[str](), joined)):
        found = split_words(written, lexicon)
        assert [(w.written, w.key) for w in found] == [(word, word)]


def test_spellings_come_one_by_one_nearest_first() -> None:
    assert [*spellings("caf\u00e9")] == ["CAF\u00c9", "CAFE"]
    assert [*spellings("\uff21\uff22")] == ["\uff21\uff22", "AB"]
    assert [*spellings("don\u2019t")] == ["DON\u2019T", "DON'T"]
    assert [*spellings("plain")] == ["PLAIN"] and not [*spellings("")]


def test_what_can_be_said() -> None:
    assert not any(map(said, ["...", "-", "'", "\u201c\u201d", "\U0001f600", "\u266a", "|", "\u2014"]))
    assert all(map(said, ["a", "5", "%", "&", "@", "$", "+", "'tis", "\u4e2d"]))
