"""Corpus step: a sound corpus comes through whole, each kind of bad input ends with a status and a message that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import load_manifest

from kdtool.core.tables import read_json, read_jsonl, read_lines

ROOT = Path(__file__).resolve().parents[2]


def write_audio(path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(-3000, 3000, (int(seconds * rate), channels), dtype=np.int16)
    soundfile.write(path, noise, rate, subtype="PCM_16")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two training speakers with two utterances each, one dev speaker with one."""
    for part, speaker, count in (("train-clean-5", "11", 2), ("train-clean-5", "22", 2), ("dev-clean-2", "33", 1)):
        chapter = tmp_path / "c" / "LibriSpeech" / part / speaker / "7"
        for n in range(count):
            write_audio(chapter / f"{speaker}-7-{n:04d}.flac")
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(f"{speaker}-7-{n:04d} HELLO  WORLD\n" for n in range(count)))
    return tmp_path / "c"


def prepare(corpus: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local.librispeech.prepare_data", *options, str(corpus), str(corpus.parent / "data")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def files(corpus: Path) -> tuple[Path, Path]:
    """An audio file of the training part and its transcript file."""
    chapter = corpus / "LibriSpeech" / "train-clean-5" / "11" / "7"
    return chapter / "11-7-0001.flac", chapter / "11-7.trans.txt"


def assert_refused(corpus: Path, *words: str) -> None:
    done = prepare(corpus)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (corpus.parent / "data" / "train_clean_5").exists()


def test_all_utterances_come_through_and_lhotse_reads_them(corpus: Path) -> None:
    assert prepare(corpus).returncode == 0
    out = corpus.parent / "data" / "train_clean_5"
    recordings = load_manifest(out / "recordings.jsonl.gz")
    supervisions = load_manifest(out / "supervisions.jsonl.gz")
    assert [s.id for s in supervisions] == ["11-7-0000", "11-7-0001", "22-7-0000", "22-7-0001"]
    assert {s.text for s in supervisions} == {"HELLO WORLD"}
    assert recordings["22-7-0001"].load_audio().shape == (1, 16000)
    assert read_lines(out / "dropped.tsv") == []
    again = prepare(corpus)
    assert again.stdout.splitlines() == ["corpus train_clean_5: up to date", "corpus dev_clean_2: up to date"]


def test_a_moved_corpus_is_prepared_again(corpus: Path) -> None:
    assert prepare(corpus).returncode == 0
    moved = corpus.rename(corpus.with_name("moved"))
    assert prepare(moved).returncode == 0
    row = next(read_jsonl(corpus.parent / "data" / "train_clean_5" / "recordings.jsonl.gz"))
    assert Path(row["sources"][0]["source"]).is_file()


def test_other_audio_of_the_same_length_changes_what_follows(corpus: Path) -> None:
    assert prepare(corpus).returncode == 0
    record = corpus.parent / "data" / "train_clean_5" / ".done.json"
    before = read_json(record)["digest"]
    audio, _ = files(corpus)
    soundfile.write(audio, np.random.default_rng(99).integers(-3000, 3000, 16000, dtype=np.int16), 16000, subtype="PCM_16")
    assert prepare(corpus).returncode == 0
    assert read_json(record)["digest"] != before


def test_few_utterances_have_many_speakers(corpus: Path) -> None:
    assert prepare(corpus, "--max-utts", "2").returncode == 0
    rows = read_jsonl(corpus.parent / "data" / "train_clean_5" / "supervisions.jsonl.gz")
    assert [row["speaker"] for row in rows] == ["11", "22"]


def test_missing_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "no such folder")
    (tmp_path / "c" / "other").mkdir(parents=True)
    assert_refused(tmp_path / "c", "train-clean-5", "it holds other", "--train-part")


def test_a_part_without_files(corpus: Path) -> None:
    (corpus / "train-clean-5").mkdir()
    assert_refused(corpus, "neither .flac nor .trans.txt")


def test_truncated_audio(corpus: Path) -> None:
    audio, _ = files(corpus)
    audio.write_bytes(audio.read_bytes()[:9000])
    assert_refused(corpus, "11-7-0001: ", str(audio), "fetch it again", "1 of 4")


def test_empty_and_very_short_audio(corpus: Path) -> None:
    audio, _ = files(corpus)
    audio.write_bytes(b"")
    assert_refused(corpus, str(audio), "empty (0 bytes)")
    write_audio(audio, seconds=0.05)
    assert_refused(corpus, str(audio), "800 samples")


def test_a_file_that_is_no_audio(corpus: Path) -> None:
    audio, _ = files(corpus)
    audio.write_text("not audio at all")
    assert_refused(corpus, str(audio), "cannot be decoded")


def test_silent_audio(corpus: Path) -> None:
    audio, _ = files(corpus)
    soundfile.write(audio, np.zeros(16000, dtype=np.int16), 16000)
    assert_refused(corpus, str(audio), "silent")


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2)])
def test_other_formats_are_refused(corpus: Path, rate: int, channels: int) -> None:
    audio, _ = files(corpus)
    write_audio(audio, rate=rate, channels=channels)
    assert_refused(corpus, str(audio), f"{rate} Hz and {channels} channel", "sox")


def test_transcript_without_audio(corpus: Path) -> None:
    audio, text = files(corpus)
    audio.unlink()
    assert_refused(corpus, "11-7-0001", f"{text}, line 2", "no 11-7-0001.flac")


def test_audio_without_transcript(corpus: Path) -> None:
    audio, text = files(corpus)
    text.write_text("11-7-0000 HELLO\n")
    assert_refused(corpus, "11-7-0001", str(audio), "no line in a .trans.txt")


def test_empty_transcript(corpus: Path) -> None:
    _, text = files(corpus)
    text.write_text("11-7-0000 HELLO\n11-7-0001 \n")
    assert_refused(corpus, "11-7-0001: ", "transcript is empty")


def test_transcript_too_long_for_its_audio(corpus: Path) -> None:
    _, text = files(corpus)
    text.write_text("11-7-0000 HELLO\n11-7-0001 " + "WORD " * 12 + "\n")
    assert_refused(corpus, "11-7-0001: ", "59 characters", "1.00 s")


def test_duplicate_ids(corpus: Path) -> None:
    audio, text = files(corpus)
    text.write_text("11-7-0000 A\n11-7-0001 B\n11-7-0001 C\n")
    assert_refused(corpus, f"{text}, line 3", "11-7-0001", "already")
    text.write_text("11-7-0000 A\n11-7-0001 B\n")
    write_audio(audio.parent.parent / "8" / audio.name)
    assert_refused(corpus, "11-7-0001", "two audio files")


def test_an_utterance_in_both_parts(corpus: Path) -> None:
    audio, text = files(corpus)
    dev = corpus / "LibriSpeech" / "dev-clean-2" / "11" / "7"
    write_audio(dev / audio.name)
    (dev / text.name).write_text("11-7-0001 HELLO\n")
    assert_refused(corpus, "11-7-0001", "too")


@pytest.mark.parametrize("place", ["LibriSpeech/test-clean", "one/test-clean", "."])
def test_a_test_set_of_one_part_or_several(corpus: Path, place: str) -> None:
    """All utterances below the folder, at any depth, are one set; none may be in training or dev."""
    folder = corpus.parent / "further"
    for number, part in enumerate((place, "LibriSpeech/test-other") if "/" in place else (place,)):
        chapter = folder / part / f"4{number}" / "7"
        write_audio(chapter / f"4{number}-7-0000.flac")
        (chapter / f"4{number}-7.trans.txt").write_text(f"4{number}-7-0000 HELLO THERE\n")
    done = prepare(corpus, "--test", str(folder))
    assert done.returncode == 0, done.stderr
    found = [row["id"] for row in read_jsonl(corpus.parent / "data/test/supervisions.jsonl.gz")]
    assert found == ["40-7-0000", "41-7-0000"][: 2 if "/" in place else 1]
    done = prepare(corpus, "--test", str(corpus / "LibriSpeech/dev-clean-2"))
    assert done.returncode == 1 and "utterance 33-7-0000 is in" in done.stderr, done.stderr
    done = prepare(corpus, "--test", str(corpus / "nowhere"))
    assert done.returncode == 1 and "nowhere: no such folder" in done.stderr, done.stderr


def test_transcripts_that_are_not_utf8_or_have_no_id(corpus: Path) -> None:
    _, text = files(corpus)
    text.write_bytes(b"11-7-0000 A\n11-7-0001 caf\xe9\n")
    assert_refused(corpus, f"{text}, line 2", "not UTF-8", "iconv")
    text.write_text("11-7-0000 A\nHELLO WORLD\n")
    assert_refused(corpus, f"{text}, line 2", "'HELLO'")


def test_allowed_losses_are_listed(corpus: Path) -> None:
    audio, _ = files(corpus)
    audio.write_bytes(b"")
    assert prepare(corpus, "--max-dropped", "0.25").returncode == 0
    out = corpus.parent / "data" / "train_clean_5"
    [line] = read_lines(out / "dropped.tsv")
    assert line.startswith("11-7-0001\t") and "empty (0 bytes)" in line
    assert len(list(read_jsonl(out / "supervisions.jsonl.gz"))) == 3


def test_hidden_files_of_other_systems_do_not_count(corpus: Path) -> None:
    for file in files(corpus):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert prepare(corpus).returncode == 0
    assert len(list(read_jsonl(corpus.parent / "data" / "train_clean_5" / "supervisions.jsonl.gz"))) == 4


def test_files_that_are_no_utterance_are_rows(corpus: Path) -> None:
    audio, text = files(corpus)
    for name in (os.fsdecode(b"caf\xe9.flac"), "notes.flac", f"1-7-{'x' * 220}.flac"):
        audio.with_name(name).write_bytes(audio.read_bytes())
    os.mkfifo(audio.with_name("11-7-0002.flac"))
    audio.with_name("11-7-0003.flac").symlink_to("nowhere")
    audio.unlink()
    audio.mkdir()
    with text.open("a") as f:
        f.writelines(f"11-7-{n:04d} HELLO\n" for n in (2, 3))
    done = prepare(corpus, "--max-dropped", "0.8")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    out = corpus.parent / "data" / "train_clean_5"
    rows = dict(line.split("\t") for line in read_lines(out / "dropped.tsv"))
    assert set(rows) == {"caf\\xe9", "notes", f"1-7-{'x' * 220}", "11-7-0001", "11-7-0002", "11-7-0003"}
    assert [row["id"] for row in read_jsonl(out / "supervisions.jsonl.gz")] == ["11-7-0000", "22-7-0000", "22-7-0001"]


@pytest.mark.parametrize(
    "options",
    [["--max-utts", "-1"], ["--max-dropped", "1"], ["--train-part", "dev-clean-2"], ["--no-such-option"], ["--max-chars-per-second", "0"]],
)
def test_wrong_usage(corpus: Path, options: list[str]) -> None:
    done = prepare(corpus, *options)
    assert done.returncode == 2
    assert options[0] in done.stderr
