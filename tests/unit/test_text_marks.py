"""Marks that are no words, markup, and files that are no plain text: what is found, and what must not be taken for it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtool.core.encoding import read_utf8, utf8_lines
from kdtool.core.errors import KdError
from kdtool.lang.g2p import tell_unknown
from kdtool.text.kinds import check_plain, file_kind, plain_fault
from kdtool.text.marks import NOT_SAID, SENTENCE, UNKNOWN, markup, transcript, without_marks, words_fault

SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello there\n\n2\n00:00:03,000 --> 00:00:04,000\nAgain\n"
KINDS = {
    "SRT": SRT,
    "SRT without numbers": "00:01,000 --> 00:02,500\nHello\n",
    "WebVTT": "WEBVTT\n\n00:01.000 --> 00:02.500\nHello\n",
    "WebVTT without its head": "00:01.000 --> 00:02.500\nHello\n",
    "SubStation": "[Script Info]\nTitle: x\n",
    "LRC": "[ar:Nobody]\n[00:12.00]Hello\n[00:17.20]there\n",
    "HTK label": "0 3600000 sil\n3600000 5300000 hello\n5300000 7000000 there\n",
    "HTK label with scores": "0 3600000 s2 -12.5 hello\n",
    "HTK master label": '#!MLF!#\n"*/a.lab"\nhello\n.\n',
    "Audacity": "0.000000\t1.250000\thello\n1.250000\t2.0\tthere\n",
    "Audacity with blanks": "0.00 0.25 sil\n",
    "TextGrid": 'File type = "ooTextFile"\nObject class = "TextGrid"\n',
    "short TextGrid": '"ooTextFile"\n"TextGrid"\n0\n2.3\n',
    "CTM": "rec 1 0.11 0.07 HELLO 0.99\nrec 1 0.18 0.1 THERE 1.00\n",
    "CTM without confidence": "rec A 10.11 0.07 HELLO\n",
    "STM": ";; comment\nrec 1 spk 0.0 1.5 <o,f0,male> hello there\nrec 1 spk 1.5 2.5 <o> again\n",
    "RTTM": "SPEAKER rec 1 0.00 1.50 <NA> <NA> spk <NA> <NA>\n",
    "XML": '<?xml version="1.0"?>\n<ANNOTATION_DOCUMENT/>\n',
    "HTML": "<!DOCTYPE html>\n<p>Hello</p>\n",
    "JSON": json.dumps({"text": "hello", "segments": []}),
    "JSON list": json.dumps([{"text": "hello"}]),
    "ARPA": "\\data\\\nngram 1=3\n",
}
PLAIN = [
    "Peter sees rosebreast\nand finds redcoat\n", "", "1 2 buckle my shoe\n3 4 knock at the door\n", "in 1999 2000 people came\n",
    "[noise] hello\n", "[laughter]", "5\n6\n7\n", "10 20 30\n", "the ratio 1 0.5 was wrong\n", "{hello}",
    "SPEAKER one said a thing that is long enough",
    "speaker 1 said 3.5 million was 2.5 too many\nhe went\n", "at 10:30 we left --> home\n", "[00:12] hello\nno time here\n", "data\n",
    "1999 2000 party over", "100000 200000 people came", "1.5 2.5 is the score",
    "rec 1 0.5 0.5 was said", "<unk> hello <noise>\n", "\"Well\", he said\n",
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("before", ["", "\ufeff", "\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_that_are_no_plain_text(name: str, end: str, before: str) -> None:
    kind = file_kind((before + KINDS[name]).replace("\n", end))
    assert name.split(maxsplit=1)[0].removeprefix("short ") in kind or name.rsplit(maxsplit=1)[-1] in kind
    assert kind.endswith("not plain text; give the words alone, as plain text")


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_taken_for_nothing_else(text: str) -> None:
    assert file_kind(text) == ""
    assert plain_fault(Path("a.txt"), text) == ""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("abc19 '.,;:-?!\"", max_size=30), max_size=6))
def test_lines_of_words_and_numbers_are_plain(lines: list[str]) -> None:
    assert file_kind("\n".join(lines)) == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<b>Peter</b> sees", "<b>"), ("a<br>b", "<br>"), ("<br/> a", "<br/>"), ("<font color=\"red\">a</font>", '<font color="red">'),
        ("R &amp; B", "&amp;"), ("it&#39;s", "&#39;"), ("a&nbsp;b", "&nbsp;"), ("x &lt;b&gt;", "&lt;"), ("<i>a", "<i>"), ("a </i>", "</i>"),
        ("<c.yellow>a", "<c.yellow>"), ("<v Peter=x>a", "<v Peter=x>"), ("a <00:01.000> b", "<00:01.000>"), ("<!-- x -->", "<!--"),
        ("<span> a", "<span>"),
    ],
)  # fmt: skip
def test_markup_is_named(text: str, found: str) -> None:
    assert markup(text) == found
    assert found in words_fault(text)


@pytest.mark.parametrize(
    "text",
    ["<unk> hello", "<noise>", "[laughter] yes", "<sil>", "AT&T", "R&B; and", "Q & A", "a < b > c", "<s> a </s>", "hm <b> breath",
     "<p> pause",
     "<UNK>", "x<3", "a->b", "<laughs> a </laughs>", "&", "AT&T; and", "&c;onstant", "<hes>a"],
)  # fmt: skip
def test_what_is_no_markup(text: str) -> None:
    assert markup(text) == ""


def test_marks_go_and_are_counted() -> None:
    counts: Counter[str] = Counter()
    assert without_marks("<s> THE <unk> CAT [LAUGHTER] </s> (rec-a-1)", counts, tags=True) == "THE CAT"
    assert sorted(counts.values()) == [1, 1, 1, 2]
    assert without_marks("<S>THE<UNK>CAT</S>", counts, unknown="<UNK>") == "THE <UNK> CAT"
    assert without_marks("a (word) [x] <noise> ++UH++", Counter()) == "a (word) [x] <noise> ++UH++"
    assert without_marks("a ++UH++ <noise>", Counter(), tags=True) == "a"
    htk: Counter[str] = Counter()
    assert without_marks("!ENTER !SIL a !!UNK !NULL b! !c !EXIT !exit", htk, tags=True) == "a b! !c !exit"
    assert sorted(htk.values()) == [1, 2, 2]


def test_a_transcript_keeps_its_words() -> None:
    counts: Counter[str] = Counter()
    assert transcript("<s> hello, <unk>  world - ... [noise] </s>", counts) == "hello, <UNK> world [noise]"
    assert counts == {SENTENCE: 2, UNKNOWN: 1, NOT_SAID: 2}
    assert transcript("HELLO WORLD", Counter()) == "HELLO WORLD"
    assert "a word of 101 characters" in words_fault("a " + "x" * 101)


def test_encodings_are_named_with_the_command_that_converts_them(tmp_path: Path) -> None:
    path, text = tmp_path / "a b.txt", "Hallo W\u00f6rld\nz\u201dwei\n"
    for data, name in (
        (text.encode("utf-16"), "UTF-16"), (text.encode("utf-32"), "UTF-32"), ("caf\u00e9\n".encode("latin-1"), "ISO-8859-1"),
        (text.encode("cp1252"), "WINDOWS-1252"), ("abc\n".encode("utf-16-le"), "UTF-16LE"), ("abc\n".encode("utf-16-be"), "UTF-16BE"),
    ):  # fmt: skip
        path.write_bytes(data)
        for read in (read_utf8, check_plain):
            with pytest.raises(KdError) as e:
                read(path)
            assert f"iconv -f {name} -t UTF-8 '{path}' > NEW" in str(e.value)
    for data, what in ((b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04..", "Office"), (b"%PDF-1.4", "PDF")):
        path.write_bytes(data)
        with pytest.raises(KdError, match=what):
            read_utf8(path)
    path.write_bytes(b"\xef\xbb\xbfabc\xc3\xa9\n\xef\xbb\xbfd")
    assert read_utf8(path) == "\ufeffabc\u00e9\n\ufeffd" and utf8_lines(path) == ["abc\u00e9", "d"]


def test_the_summary_of_unknown_words(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter({"THE": 90, **{f"W{n:02d}": n for n in range(1, 13)}})
    tell_unknown("transcripts", counts, [*(f"W{n:02d}" for n in range(1, 13)), "ELSE"], "become <UNK>", "x/list.tsv")
    said = capsys.readouterr().err
    assert said.startswith("transcripts: 12 of 13 words become <UNK> (78 of 168 tokens, 46.43%)")
    assert "most frequent: W12 12, W11 11" in said and "W02" not in said and said.endswith("list: x/list.tsv\n")
    tell_unknown("transcripts", counts, ["ELSE"], "<UNK>", "x")
    assert capsys.readouterr().err == ""
    tell_unknown("t", Counter({"X" * 300: 1}), ["X" * 300], "noise", "x")
    assert "XXXX.. 1" in capsys.readouterr().err
