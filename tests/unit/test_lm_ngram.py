"""n-gram LMs against KenLM's own scores, and ARPA files as arrays."""

from __future__ import annotations

import math
import random
from pathlib import Path

import kenlm
import numpy as np
import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import open_text, read_json, write_jsonl
from kdtool.lm.arpa import read_arpa
from kdtool.lm.ngram import estimate, main, parse_prune, perplexity, thresholds

HAND_MADE = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t<unk>\t0
-99\t<s>\t-0.5
-0.5\t</s>
-0.25\tB\t-0.125
-0.75\tA\t-0.25

\\2-grams:
-0.1\tB A
-0.2\t<s> B
-0.3\tA </s>

\\end\\
"""


def random_text(words: list[str], lines: int) -> list[str]:
    """Sentences with some structure: what follows a word depends on it."""
    rng = random.Random(5)
    out = []
    for _ in range(lines):
        position, sentence = rng.randrange(len(words)), []
        for _ in range(rng.randint(1, 9)):
            position = (position * 3 + rng.choice((0, 0, 0, 1, 2, 5))) % len(words)
            sentence.append(words[position])
        out.append(" ".join(sentence))
    return out


def test_hand_made_arpa(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(HAND_MADE)
    lm = read_arpa(path)
    assert lm.order == 2
    assert lm.vocab == {"<unk>": 0, "<s>": 1, "</s>": 2, "B": 3, "A": 4}
    assert lm.ngrams[1].tolist() == [[1, 3], [3, 4], [4, 2]]
    np.testing.assert_allclose(lm.logp[1] / math.log(10), [-0.2, -0.1, -0.3], rtol=1e-6)
    np.testing.assert_allclose(lm.backoff[0] / math.log(10), [0, -0.5, 0, -0.125, -0.25], rtol=1e-6)
    assert lm.backoff[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram 2=3", "ngram 2=4", "3 2-grams, the header says 4"),
        ("-0.1\tB A\n", "-0.1\tB X\n", "malformed line"),
        ("-0.1\tB A\n", "-0.1\tB\n", "malformed line"),
        ("\\end\\\n", "", "cut short"),
        ("\\1-grams:", "1-grams", "not an ARPA file"),
        ("-0.75\tA\t-0.25", "-0.75\tB\t-0.25", "not a new unigram"),
    ],
)
def test_bad_arpa_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(HAND_MADE.replace(old, new))
    with pytest.raises(KdError, match=message):
        read_arpa(path)


@pytest.mark.parametrize("numeric", [False, True])
def test_arrays_hold_what_kenlm_reads(tmp_path: Path, numeric: bool) -> None:
    """Each n-gram's probability is the one that KenLM gives its last word."""
    words = [str(i * 7) for i in range(12)] if numeric else [f"W{i}" for i in range(12)]
    text, path = tmp_path / "text", tmp_path / "lm.arpa"
    text.write_text("".join(line + "\n" for line in random_text(words, 60)))
    estimate(text, path, tmp_path / "log", order=3, memory="100M")
    lm, oracle = read_arpa(path), kenlm.Model(str(path))
    names = list(lm.vocab)
    assert list(lm.vocab.values()) == list(range(len(names)))
    for k in (1, 2, 3):
        assert [tuple(r) for r in lm.ngrams[k - 1]] == sorted(tuple(r) for r in lm.ngrams[k - 1])
        for row, logp in zip(lm.ngrams[k - 1], lm.logp[k - 1], strict=True):
            history, word = [names[i] for i in row[:-1]], names[row[-1]]
            if word in ("<s>", "<unk>"):
                continue
            assert logp == pytest.approx(kenlm_logp(oracle, history, word), abs=2e-5)


def kenlm_logp(model: kenlm.Model, history: list[str], word: str) -> float:
    """Natural log-probability of a word by KenLM."""
    state, after = kenlm.State(), kenlm.State()
    if history[:1] == ["<s>"]:
        model.BeginSentenceWrite(state)
        history = history[1:]
    else:
        model.NullContextWrite(state)
    for w in history:
        model.BaseScore(state, w, after)
        state, after = after, kenlm.State()
    return model.BaseScore(state, word, after) * math.log(10)


def lm_inputs(folder: Path, text: list[str], dev: str) -> list[str]:
    """LM text, lang and dev folders; returns the step's positional arguments."""
    for name in ("text", "lang", "dev"):
        (folder / name).mkdir()
    with open_text(folder / "text" / "text.gz", "w") as f:
        f.writelines(line + "\n" for line in text)
    words = ["<eps>", "W0", "W1", "W2", "W3", "W4", "<UNK>", "#0", "<s>", "</s>"]
    (folder / "lang" / "words.txt").write_text("".join(f"{w} {i}\n" for i, w in enumerate(words)))
    write_jsonl(folder / "dev" / "supervisions.jsonl.gz", [{"id": "d1", "text": dev}, {"id": "d2", "text": "W3"}, {"id": "d3", "text": ""}])
    return [str(folder / name) for name in ("text", "lang", "dev", "lm")]


def test_step_restricts_the_vocabulary_and_reports_kenlms_perplexity(tmp_path: Path) -> None:
    text = random_text([f"W{i}" for i in range(8)], 300)
    main([*lm_inputs(tmp_path, text, "W1 W7 NEVER W2"), "--order", "3", "--prune", "0 1"])
    lm = read_arpa(tmp_path / "lm" / "lm.arpa")
    assert set(lm.vocab) == {"<unk>", "<s>", "</s>", "W0", "W1", "W2", "W3", "W4"}
    oracle = kenlm.Model(str(tmp_path / "lm" / "lm.bin"))
    every_word = [w for w in lm.vocab if w != "<s>"]
    for history in (["<s>"], ["W0"], ["W2", "W1"], ["NEVER"]):
        assert sum(math.exp(kenlm_logp(oracle, history, w)) for w in every_word) == pytest.approx(1, abs=1e-4)
    dev = read_json(tmp_path / "lm" / "ppl.json")["dev"]
    assert (dev["sentences"], dev["words"], dev["oov_words"], dev["tokens"]) == (2, 5, 2, 7)
    assert dev["oov_rate"] == pytest.approx(0.4)
    total = oracle.score("W1 W7 NEVER W2") + oracle.score("W3")
    assert dev["log10_prob_with_oov"] == pytest.approx(total, abs=1e-5)
    assert dev["ppl_with_oov"] == pytest.approx(10 ** (-total / 7), rel=1e-5)
    oov = sum(p for p, _, is_oov in oracle.full_scores("W1 W7 NEVER W2") if is_oov)
    assert dev["ppl"] == pytest.approx(10 ** (-(total - oov) / 5), rel=1e-5)


def test_pruned_until_it_has_the_stated_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*lm_inputs(tmp_path, random_text([f"W{i}" for i in range(40)], 3000), "W1 W7"), "--order", "3"]
    main(arguments)
    whole = sum(read_json(Path(arguments[3]) / "ppl.json")["ngrams"])
    main([*arguments, "--max-ngrams", str(whole // 2)])
    kept = read_json(Path(arguments[3]) / "ppl.json")
    assert 0 < sum(kept["ngrams"]) <= whole // 2 and kept["prune"] in list(thresholds("", 3))
    assert f"{whole} n-grams with thresholds ''" in capsys.readouterr().err
    with pytest.raises(KdError, match=r"more than --max-ngrams 5; raise it"):
        main([*arguments, "--max-ngrams", "5"])


def test_thresholds_rise_and_are_those_of_lmplz() -> None:
    for first, order in (("", 3), ("0 3 5", 3), ("0 0 0 1", 4), ("0 1", 5), ("", 2)):
        found = list(thresholds(first, order))
        assert found[0] == first and len(set(found)) == len(found) > 5
        assert all(parse_prune(text, order)[:1] in ([], ["--prune"]) for text in found)
    assert list(thresholds("", 3))[:5] == ["", "0 0 1", "0 1 2", "0 2 3", "0 3 5"]


def test_words_that_the_text_lacks_are_as_likely_as_an_unknown_one_and_all_sums_to_one(tmp_path: Path) -> None:
    argv = lm_inputs(tmp_path, random_text([f"W{i}" for i in range(5)], 300), "W1 SEEN W2")
    with open(tmp_path / "lang" / "words.txt", "a") as f:
        f.write("NEVER 10\nSEEN 11\n")
    main([*argv, "--order", "3", "--unseen", "true"])
    lm = read_arpa(tmp_path / "lm" / "lm.arpa")
    oracle = kenlm.Model(str(tmp_path / "lm" / "lm.bin"))
    for history in (["<s>"], ["W0"], ["W2", "W1"], ["NEVER"]):
        probs = {w: math.exp(kenlm_logp(oracle, history, w)) for w in lm.vocab if w != "<s>"}
        assert probs["NEVER"] == probs["SEEN"] == pytest.approx(probs["<unk>"]) and probs["SEEN"] > 0
        assert sum(probs.values()) == pytest.approx(1.0, abs=1e-4)
    assert read_json(tmp_path / "lm" / "ppl.json")["dev"]["oov_words"] == 0


def test_perplexity_of_one_sentence_is_kenlms(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(HAND_MADE)
    model = kenlm.Model(str(tmp_path / "lm.arpa"))
    assert perplexity(model, ["B A"]).ppl == pytest.approx(model.perplexity("B A"))
    with pytest.raises(KdError, match="no words"):
        perplexity(model, [])


def test_tiny_text_falls_back_on_fixed_discounts_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*lm_inputs(tmp_path, ["W1 W2 W3"], "W1"), "--order", "4"])
    assert "fallback discounts" in capsys.readouterr().err
    assert read_json(tmp_path / "lm" / "ppl.json")["fallback_discounts"]
    assert not list((tmp_path / "lm").glob("lmplz*"))


def test_bad_options_and_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("1 2", "0 x", "0 3 1", "0 0 0 0"):
        with pytest.raises(UsageError, match="--prune"):
            parse_prune(bad, 3)
    assert parse_prune("0 3 5", 3) == ["--prune", "0", "3", "5"]
    arguments = lm_inputs(tmp_path, [], "W1")
    with pytest.raises(UsageError, match="--order"):
        main([*arguments, "--order", "1"])
    with pytest.raises(KdError, match="empty text"):
        main(arguments)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KdError, match="lmplz is not on PATH"):
        main(arguments)
