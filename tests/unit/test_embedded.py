"""Embedded corpus: the same bytes from any run, real speech sounds, a lexicon that covers it, helpful errors."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_lines, write_json
from kdtool.lang.lexicon import ARPABET, read_lexicon
from local.librispeech.arpabet import to_arpabet
from local.librispeech.embedded import SOURCE, make_lexicon
from local.librispeech.embedded_speaker import process, resample
from local.librispeech.espeak import OWN_RATE, Espeak
from local.librispeech.sentences import draws, read_source

ROOT = Path(__file__).resolve().parents[2]
SIZE = ["--train-utts", "4", "--dev-utts", "2", "--lm-sentences", "200"]


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"local.librispeech.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def transcripts(part: Path) -> dict[str, str]:
    lines = [line for file in part.rglob("*.trans.txt") for line in read_lines(file)]
    return {utt: text for utt, text in (line.split(" ", 1) for line in lines)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embedded") / "first"
    done = run("embedded", *SIZE, "--nj", 1, out)
    assert done.returncode == 0, done.stderr
    return out


def test_every_run_gives_the_same_bytes_and_a_second_one_nothing_to_do(corpus: Path, tmp_path: Path) -> None:
    assert run("embedded", *SIZE, "--nj", 3, tmp_path / "again").returncode == 0
    assert read_json(tmp_path / "again/.done.json")["outputs"].keys() == read_json(corpus / ".done.json")["outputs"].keys()
    assert read_json(tmp_path / "again/.done.json")["digest"] == read_json(corpus / ".done.json")["digest"]
    assert run("embedded", *SIZE, corpus).stdout == "embedded corpus: up to date\n"


def test_audio_is_speech_of_sane_length_and_level(corpus: Path) -> None:
    for part, count in (("train-clean-5", 4), ("dev-clean-2", 2)):
        texts = transcripts(corpus / "LibriSpeech" / part)
        files = {f.stem: f for f in (corpus / "LibriSpeech" / part).rglob("*.flac")}
        assert len(files) == count and files.keys() == texts.keys()
        for utt, file in files.items():
            samples, rate = soundfile.read(file)
            assert file.parent.parts[-2:] == tuple(utt.split("-")[:2])
            assert rate == 16000 and soundfile.info(file).subtype == "PCM_16"
            assert 8 < len(texts[utt]) / (len(samples) / rate) < 25, "characters a second"
            assert 0.3 < np.abs(samples).max() < 0.95
            level = np.abs(samples[: len(samples) // 160 * 160].reshape(-1, 160)).mean(axis=1)
            assert level.max() > 20 * level[:10].mean() > 0, "noise alone before the speech, and no digital silence"


def test_dev_sentences_are_in_neither_training_set_nor_lm_text(corpus: Path) -> None:
    dev = set(transcripts(corpus / "LibriSpeech/dev-clean-2").values())
    train = set(transcripts(corpus / "LibriSpeech/train-clean-5").values())
    text = read_lines(corpus / "lm-text.txt.gz")
    assert len(dev) == 2 and len(train) == 4 and len(text) == 200
    assert not dev & (train | set(text))
    assert all(sentence == sentence.upper() and 5 <= len(sentence.split()) <= 10 for sentence in (*dev, *train, *text))


def test_distinct_draws_never_repeat_and_run_out_with_an_error() -> None:
    source = read_source(SOURCE)
    sentences = list(islice(draws(source, 5, distinct=True), 500))
    assert len(set(sentences)) == 500
    first = sentences[0]
    assert first not in list(islice(draws(source, 5, without=frozenset([first])), 500))
    source.templates[:] = [["we", "will", "stay", "at", "home"]]
    with pytest.raises(KdError, match="only 1 different"):
        list(islice(draws(source, 5, distinct=True), 2))


def test_lexicon_covers_all_phones_and_lacks_only_the_words_left_out(corpus: Path) -> None:
    source, prons = read_source(SOURCE), read_lexicon(corpus / "lexicon.txt").prons
    assert {phone for variants in prons.values() for pron in variants for phone in pron} == ARPABET
    assert {w.upper() for w in source.vocabulary()} - prons.keys() == {w.upper() for w in source.left_out}
    assert len(source.left_out) >= 5 and sum(len(v) > 1 for v in prons.values()) >= 5
    assert prons["MEASURE"] == [("M", "EH", "ZH", "ER")]
    assert prons["DOOR"] == [("D", "AO", "R")] and prons["BIRD"] == [("B", "ER", "D")] and prons["BOY"] == [("B", "OY")]
    assert make_lexicon(source) == prons


def test_mnemonics_without_a_phone_are_errors() -> None:
    assert to_arpabet("furry", ["f", "'3:", "r", "i"]) == ("F", "ER", "IY")
    with pytest.raises(KdError, match=r"'loch'.*'x'"):
        to_arpabet("loch", ["l", "'0", "x"])
    with pytest.raises(KdError, match="nothing for the word 'hm'"):
        to_arpabet("hm", [";"])


def test_unknown_voices_are_errors_and_not_the_voice_before(tmp_path: Path) -> None:
    espeak = Espeak()
    assert len(espeak.say("good morning", "en-us+f3", pitch=50, rate=160)) / 2 / OWN_RATE > 0.4
    for voice in ("xx-nowhere", "en-us+nobody", "xx-nowhere+f3"):
        with pytest.raises(KdError, match="no voice"):
            espeak.say("good morning", voice, pitch=50, rate=160)
    job = {"voice": "xx-nowhere", "pitch": 50, "rate": 160, "seed": 1, "utterances": [["1-1-0000", "good morning"]]}
    write_json(tmp_path / "job.json", job)
    done = run("embedded_speaker", tmp_path / "job.json", tmp_path / "1")
    assert done.returncode == 1 and done.stderr.startswith("error: espeak-ng has no voice xx-nowhere")


def test_missing_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(KdError, match=r"espeakng_loader is not installed.*setup_env\.sh"):
        Espeak()


def test_resampling_keeps_a_tone_and_cuts_what_16_khz_cannot_hold() -> None:
    time = np.arange(OWN_RATE) / OWN_RATE
    kept, cut = (resample(np.sin(2 * np.pi * hertz * time)) for hertz in (440, 9000))
    assert len(kept) == 16000
    np.testing.assert_allclose(kept, np.sin(2 * np.pi * 440 * np.arange(16000) / 16000), atol=1e-9)
    assert np.abs(cut).max() < 1e-9


def test_silence_from_the_synthesiser_is_an_error() -> None:
    with pytest.raises(KdError, match="gave silence"):
        process(bytes(4000), 1)


def test_templates_name_lists_and_both_parts_have_speakers() -> None:
    source = read_source(SOURCE)
    assert {word for template in source.templates for word in template if word.isupper()} == set(source.words)
    assert set(source.speakers) == {"train-clean-5", "dev-clean-2"}


def test_frequent_words_come_first() -> None:
    source = read_source(SOURCE)
    words = " ".join(islice(draws(source, 0), 2000)).split()
    assert words.count("house") > 2 * words.count("bicycle") > 0
