"""The language step on a tiny lexicon: its tables, what reads them, and the inputs that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtool.core.errors import KdError
from kdtool.core.findings import Level
from kdtool.core.inputs import validate
from kdtool.core.tables import open_text, read_json, write_jsonl
from kdtool.lang.lang import Lang
from kdtool.lang.prepare import main
from kdtool.lang.subwords import sample_sentences

LEXICON = "the DH AH0\nthe(2) DH IY0\ncat K AE1 T\nsat S AE1 T\nmat M AE1 T\non AA1 N\nrare R EH1 R\ndog D AA1 T\n"
TEXT = ["THE CAT SAT ON THE MAT", "THE CAT SAT", "THE MAT", "A RARE CAT"] * 5


def inputs(folder: Path, text: list[str] | None = None, transcript: str = "THE CAT SAT ON 9 MATS") -> list[str]:
    """lexicon, LM text and data folders; returns the step's positional arguments."""
    (folder / "text").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "lexicon").write_text(LEXICON)
    with open_text(folder / "text" / "text.gz", "w") as f:
        f.writelines(line + "\n" for line in (TEXT if text is None else text))
    write_jsonl(folder / "data" / "supervisions.jsonl.gz", [{"id": "u1", "text": transcript}])
    return [str(folder / name) for name in ("lexicon", "text", "data", "lang")]


SMALL = ["--vocab-size", "5", "--bpe-size", "20", "--g2p", "false", "--max-oov", "0.5"]


def test_tables_and_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*inputs(tmp_path), *SMALL])
    lang = Lang.load(tmp_path / "lang")
    assert lang.phone_names == ["<eps>", "SIL", "SPN", "AA", "AE", "AH", "DH", "EH", "IY", "K", "M", "N", "R", "S", "T"]
    assert list(lang.words) == ["<eps>", "CAT", "MAT", "ON", "SAT", "THE", "<UNK>", "#0", "<s>", "</s>"]
    assert (lang.sil, lang.spn, lang.silence_ids, lang.oov) == (1, 2, {1, 2}, "<UNK>")
    assert lang.prons["THE"] == [(6, 5), (6, 8)]
    assert lang.prons["<UNK>"] == [(lang.spn,)]
    assert "RARE" not in lang.prons and lang.text_prons["RARE"] == [(12, 7, 12)]
    assert set(lang.num_states.values()) == {3} and set(lang.num_states) == set(range(1, 15))
    assert {lang.bpe.id_to_piece(i): i for i in range(20)} == lang.subwords
    assert lang.bpe.decode(lang.bpe.encode("THE CAT SAT")) == "THE CAT SAT"
    failed = dict(line.split("\t") for line in (tmp_path / "lang" / "oov_failed.tsv").read_text().splitlines())
    assert set(failed) == {"9", "MATS", "A"}
    stats = read_json(tmp_path / "lang" / "stats.json")
    assert (stats["vocabulary"], stats["training_oov_tokens"], stats["training_tokens"]) == (5, 2, 6)
    assert "2 of 6 words of the training transcripts" in capsys.readouterr().err


def test_words_of_the_set_to_align_are_pronounced_but_not_recognised(tmp_path: Path) -> None:
    argv = inputs(tmp_path)
    (tmp_path / "dev").mkdir()
    write_jsonl(tmp_path / "dev" / "supervisions.jsonl.gz", [{"id": "v1", "text": "THE DOG"}])
    main([*argv, *SMALL, "--align-data", str(tmp_path / "dev")])
    lang = Lang.load(tmp_path / "lang")
    assert "DOG" not in lang.words and [lang.phone_names[p] for p in lang.text_prons["DOG"][0]] == ["D", "AA", "T"]


def test_every_word_of_a_closed_dictionary_gets_in_when_asked(tmp_path: Path) -> None:
    main([*inputs(tmp_path), *SMALL, "--all-words", "true"])
    assert {"CAT", "DOG", "RARE", "THE"} <= set(Lang.load(tmp_path / "lang").prons)


def test_same_input_gives_the_same_bytes_and_g2p_fills_the_gaps(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        main([*inputs(tmp_path / name), "--bpe-size", "20", "--g2p-order", "3", "--max-oov", "0.5"])
        folder = tmp_path / name / "lang"
        contents.append({p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".txt", ".tsv", ".model")})
    assert contents[0] == contents[1]
    assert [line.split("\t")[0] for line in contents[0]["g2p.tsv"].decode().splitlines()] == ["MATS"]
    assert contents[0]["oov_failed.tsv"].startswith(b"9\t")
    assert Lang.load(tmp_path / "one" / "lang").digest == Lang.load(tmp_path / "two" / "lang").digest


@pytest.mark.parametrize(
    ("text", "transcript", "options", "message"),
    [
        ([], "THE CAT", SMALL, "text.gz: no words"),
        (None, "THE cat", SMALL, "utterance u1"),
        (None, "THE <s> CAT", SMALL, "<S>|<s>"),
        (None, "THE CAT", [*SMALL, "--bpe-size", "5000"], "--bpe-size"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    tmp_path: Path, text: list[str] | None, transcript: str, options: list[str], message: str
) -> None:
    with pytest.raises(KdError, match=message):
        main([*inputs(tmp_path, text, transcript), *options])
    assert not (tmp_path / "lang").exists()


def test_damaged_lang_folder_is_named(tmp_path: Path) -> None:
    main([*inputs(tmp_path), *SMALL])
    lexicon = tmp_path / "lang" / "lexicon.txt"
    lexicon.write_text(lexicon.read_text() + "CAT K QQ T\n")
    with pytest.raises(KdError, match=r"lexicon.txt, line 8.*QQ"):
        Lang.load(tmp_path / "lang")
    (tmp_path / "lang" / "bpe.model").write_bytes(b"no model")
    lexicon.write_text(lexicon.read_text().replace("CAT K QQ T\n", ""))
    with pytest.raises(KdError, match=r"bpe\.model"):
        _ = Lang.load(tmp_path / "lang").bpe
    with pytest.raises(KdError, match="no language folder"):
        Lang.load(tmp_path)


def test_sentences_are_sampled_in_order(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("".join(f"{i}\n" for i in range(100)))
    some = [int(x) for x in sample_sentences(path, 100, 7, seed=3)]
    assert len(some) == 7 and some == sorted(some)
    assert some == [int(x) for x in sample_sentences(path, 100, 7, seed=3)]
    assert len(list(sample_sentences(path, 100, 0, seed=3))) == 100


NUMBERS = {"the DH AH0": (1.0, 0.1, 1.2, 0.9), "the(2) DH IY0": (0.25, 0.2, 1.0, 1.0), "cat": (0.5, 0.5, 0.8, 1.1)}


def with_numbers(columns: int) -> str:
    """LEXICON with numeric columns."""
    lines = []
    for line in LEXICON.splitlines():
        word, phones = line.split(" ", 1)
        numbers = next((n for key, n in NUMBERS.items() if line.startswith(key)), (1.0, 0.3, 1.0, 1.0))
        lines.append(" ".join([word, *(f"{x:g}" for x in numbers[:columns]), phones]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 4])
def test_a_lexicons_probabilities_are_used(columns: int, positions: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = inputs(tmp_path)
    (tmp_path / "lexicon").write_text(with_numbers(columns))
    main([*argv, *SMALL, "--word-position", str(positions).lower()])
    assert "its probabilities are used in training and decoding" in capsys.readouterr().err
    lang = Lang.load(tmp_path / "lang")
    assert lang.probs is not None
    first, second = (lang.probs.of("THE", p) for p in lang.prons["THE"])
    assert (first.pron, second.pron) == (1.0, 0.25) and lang.probs.of("CAT", lang.prons["CAT"][0]).pron == 1.0
    overall = 0.3 - 0.1 / 8 if columns > 1 else 0.5  # silences of 8 entries: .1 + .2 + .5 + 5 x .3
    assert lang.probs.overall == pytest.approx(overall, abs=1e-6)
    assert first.sil == pytest.approx(0.1 if columns > 1 else 0.5)
    assert (first.after_sil, first.after_speech) == ((1.2, 0.9) if columns == 4 else (1.0, 1.0))
    assert lang.probs.of("<UNK>", (lang.spn,)).sil == pytest.approx(overall, abs=1e-6)
    report = validate("lang", tmp_path / "lang", Level.FULL)
    assert not report.problems and report.summary.endswith("with probabilities")


@pytest.mark.parametrize(("number", "said"), [("1", "all its numbers are 1"), ("12.5", "no probabilities (THE 12.5) and are not used")])
def test_numbers_that_say_nothing_change_nothing(number: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = inputs(tmp_path)
    entries = (line.split(" ", 1) for line in LEXICON.splitlines())
    (tmp_path / "lexicon").write_text("".join(f"{word} {number} {phones}\n" for word, phones in entries))
    main([*argv, *SMALL])
    assert said in capsys.readouterr().err
    assert Lang.load(tmp_path / "lang").probs is None


def test_unknown_words_are_summed_up_and_other_spellings_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = inputs(tmp_path, transcript="THE C\u00c4T \uff2d\uff21\uff34 <UNK> SAT SAT 9 9 ON ON")
    (tmp_path / "dev").mkdir()
    write_jsonl(tmp_path / "dev" / "supervisions.jsonl.gz", [{"id": "v1", "text": "THE MATS MATS <UNK>"}])
    main([*argv, *SMALL, "--align-data", str(tmp_path / "dev")])
    said = capsys.readouterr().err
    assert "2 words have the pronunciation of another spelling in the lexicon: C\u00c4T as CAT, \uff2d\uff21\uff34 as MAT" in said
    assert ("training transcripts: 2 of 7 words are without a pronunciation and become <UNK> (3 of 10 tokens, 30.00%)\n"
            f"  all: 9 2, <UNK> 1; list: {tmp_path}/lang/oov_failed.tsv") in said  # fmt: skip
    assert "transcripts to align: 2 of 3 words are without a pronunciation and become <UNK> (3 of 4 tokens, 75.00%)" in said
    assert "LM text: 1 of 7 words are without a pronunciation and become <UNK> (5 of 70 tokens, 7.14%)\n  all: A 5" in said
    lang = Lang.load(tmp_path / "lang")
    assert lang.prons["C\u00c4T"] == lang.prons["CAT"] and list(lang.words).count("<UNK>") == 1
