"""LM text: normalisation, held-out sentences, sampling."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json, read_lines, write_jsonl
from kdtool.lm.text import main, normalise


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("HELLO  WORLD\n", "HELLO WORLD"),
        ("don\u2019t stop, please -- it's 'fine'.", "DON'T STOP PLEASE IT'S 'FINE'"),
        ("Caf\u00e9 na\u00efve", "CAFE NAIVE"),
        ("well-known", "WELL KNOWN"),
        (" ' '' ...\n", ""),
    ],
)
def test_normalise(line: str, wanted: str) -> None:
    assert normalise(line) == wanted


def test_digits_are_not_guessed() -> None:
    with pytest.raises(ValueError, match="digits"):
        normalise("in 1066")


def test_step_drops_and_counts(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("one two\nThree, four!\n\nIN 1066\nSECRET SENTENCE\nfive\n")
    (tmp_path / "dev").mkdir()
    write_jsonl(tmp_path / "dev" / "supervisions.jsonl.gz", [{"id": "d", "text": "SECRET SENTENCE"}, {"id": "e", "text": "R2"}])
    main([str(source), str(out), "--exclude", str(tmp_path / "dev")])
    assert read_lines(out / "text.gz") == ["ONE TWO", "THREE FOUR", "FIVE"]
    assert read_json(out / "stats.json") == {
        "lines_in": 6, "sentences": 3, "words": 5, "dropped": {"digits": 1, "empty": 1, "held_out": 1},
    }  # fmt: skip
    (tmp_path / "test").mkdir()
    write_jsonl(tmp_path / "test" / "supervisions.jsonl.gz", [{"id": "f", "text": "FIVE"}])
    main([str(source), str(out), "--exclude", f"{tmp_path / 'dev'},{tmp_path / 'test'}"])
    assert read_lines(out / "text.gz") == ["ONE TWO", "THREE FOUR"] and read_json(out / "stats.json")["dropped"]["held_out"] == 2
    main([str(source), str(out), "--max-lines", "2"])
    sampled = read_lines(out / "text.gz")
    assert len(sampled) == 2 and set(sampled) < {"ONE TWO", "THREE FOUR", "FIVE", "SECRET SENTENCE"}
    assert read_json(out / "stats.json")["dropped"] == {"by_sampling": 2, "digits": 1, "empty": 1}


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("...\n123\n")
    with pytest.raises(KdError, match="no sentence is left of 2 lines"):
        main([str(source), str(out)])
    assert not out.exists()
    with pytest.raises(KdError, match="nowhere"):
        main([str(source), str(out), "--exclude", str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="max-lines"):
        main([str(source), str(out), "--max-lines", "-1"])


def test_words_of_any_alphabet_stay_as_they_are_when_asked() -> None:
    assert normalise(" x-ray  f\u00fcr 2 [noise] ", plain=False) == "X-RAY F\u00dcR 2"
    assert normalise("fu\u0308r re\u00adcoat x\u2013y - caf\u00e9,", plain=False) == "F\u00dcR RECOAT X\u2013Y CAF\u00c9,"


@pytest.mark.parametrize("plain", [True, False])
def test_marks_are_no_words_and_are_counted(plain: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out"
    lines = ["\ufeff<s> THE CAT </s>", "<s> A <unk> [LAUGHTER] DOG </s> (utt-1)", "a <UNK>\u00a0b <noise> ++UH++", "\ufeffc\u200bd"]
    source.write_text("\n".join([*lines, "<s> </s>", "x <b>y</b>", "AT&amp;T", "W" * 101 + " x"]) + "\n")
    main([str(source), str(out), "--plain", str(plain).lower()])
    assert read_lines(out / "text.gz") == ["THE CAT", "A DOG", "A B", "C D"]
    said = capsys.readouterr().err
    for part in (
        "6 x sentence mark", "2 x unknown word", "3 x tag of a noise", "1 x utterance id", "2 x byte order mark", "1 x zero-width space",
        "1 x no-break", f"dropped for markup, the first is {source}, line 6 (<b>)", f"long words, the first is {source}, line 8",
    ):  # fmt: skip
        assert part in said, said
    stats = read_json(out / "stats.json")
    assert stats["dropped"] == {"empty": 1, "long_words": 1, "markup": 2} and stats["changed"]["byte order mark removed"] == 2


def test_a_text_that_is_none_is_named(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    for content, message in (
        (b"1\n00:00:01,000 --> 00:00:02,000\nHello\n", "a subtitle file"), ("Hello\n".encode("utf-16"), "iconv -f UTF-16"),
        (b"\\data\\\nngram 1=2\n", "ARPA"), (b"H\0E\0L\0L\0O\0\n\0", "UTF-16LE"),
    ):  # fmt: skip
        source.write_bytes(content)
        with pytest.raises(KdError, match=message):
            main([str(source), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
