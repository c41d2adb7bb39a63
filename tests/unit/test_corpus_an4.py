"""AN4's corpus step: sphere, wav and flac come through alike, each kind of bad input ends with a message that names it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_jsonl, read_lines
from local.an4 import prepare_data

ROOT = Path(__file__).resolve().parents[2]
FORMATS = {".sph": ("NIST", "PCM_16"), ".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16")}
SPOKEN = {"train": [("fash", "an251", "YES"), ("fash", "cen1", "H I N I C H"), ("mjwl", "an17", "RUBOUT M SIX")],
          "test": [("fcaw", "an406", "ENTER THREE")]}  # fmt: skip
FOLDER = {"train": "an4_clstk", "test": "an4test_clstk"}


def write_corpus(corpus: Path, suffix: str = ".sph") -> Path:
    """Four utterances in AN4's layout; training transcripts have sentence marks, the test ones have none."""
    (corpus / "etc").mkdir(parents=True)
    for part, spoken in SPOKEN.items():
        ids, lines = [], []
        for speaker, recording, words in spoken:
            name = f"{recording}-{speaker}-b"
            path = corpus / "wav" / FOLDER[part] / speaker / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(len(words)).integers(-3000, 3000, 16000, dtype=np.int16)
            container, subtype = FORMATS[suffix]
            soundfile.write(path, noise, 16000, format=container, subtype=subtype)
            ids.append(f"{FOLDER[part]}/{speaker}/{name}")
            lines.append(f"<s> {words} </s> ({name})" if part == "train" else f"{words} ({name})")
        (corpus / "etc" / f"an4_{part}.fileids").write_text("\n".join(ids) + "\n")
        (corpus / "etc" / f"an4_{part}.transcription").write_text("\n".join(lines) + "\n")
    return corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "an4")


def prepare(corpus: Path, *options: str, data: Path | None = None) -> None:
    prepare_data.main(["--nj", "1", *options, str(corpus), str(data or corpus.parent / "data")])


def refusal(corpus: Path) -> str:
    """The message with which the step refuses the corpus."""
    with pytest.raises(KdError) as e:
        prepare(corpus)
    return str(e.value)


def texts(data: Path) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["speaker"], row["text"]) for row in read_jsonl(data / "supervisions.jsonl.gz")}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_audio_format_comes_through_to_features(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(tmp_path / "an4", suffix)
    # The folder that the archive was unpacked in is as good.
    prepare(corpus.parent, data=tmp_path / "data")
    assert texts(tmp_path / "data/train_all") == {
        "fash-an251-b": ("fash", "YES"), "fash-cen1-b": ("fash", "H I N I C H"), "mjwl-an17-b": ("mjwl", "RUBOUT M SIX"),
    }  # fmt: skip
    assert texts(tmp_path / "data/test") == {"fcaw-an406-b": ("fcaw", "ENTER THREE")}
    step = [str(ROOT / "steps/extract_features.sh"), "--nj", "1", str(tmp_path / "data/test"), str(tmp_path / "data/test/mfcc")]
    done = subprocess.run(step, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "data/test/mfcc/index.json")["utterances"][0]["num_frames"] == 100
    capsys.readouterr()
    prepare(corpus)
    assert capsys.readouterr().out.splitlines() == ["corpus train_all: up to date", "corpus test: up to date"]


def replace(corpus: Path, name: str, old: str, new: str) -> None:
    path = corpus / "etc" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "wanted"),
    [
        ("an4_train.transcription", "<s> YES </s> (an251-fash-b)\n", "", ["lists an251-fash-b", "has no transcript"]),
        ("an4_train.fileids", "an4_clstk/fash/an251-fash-b\n", "", ["has a transcript of an251-fash-b", "does not list it"]),
        ("an4_train.fileids", "an251-fash-b", "an252-fash-b", ["an252-fash-b", "no transcript"]),
        ("an4_train.fileids", "fash/cen1-fash-b", "fash/an251-fash-b", ["line 2", "listed already"]),
        ("an4_train.fileids", "an4_clstk/fash/an251-fash-b", "../../an251-fash-b", ["line 1", "not a file id"]),
        ("an4_train.transcription", "(an251-fash-b)", "an251-fash-b", ["line 1", "is not 'WORDS (recording-speaker-letter)'"]),
        ("an4_train.transcription", "(cen1-fash-b)", "(an251-fash-b)", ["line 2", "has a transcript already"]),
        ("an4_train.transcription", "YES", "YES 7", ["line 1", "other characters than letters"]),
        ("an4_train.transcription", "YES", "", ["fash-an251-b", "transcript is empty"]),
        ("an4_test.fileids", "an4test_clstk/fcaw/an406-fcaw-b\n", "", ["an4_test.fileids: empty"]),
    ],
)
def test_bad_lists_are_refused_by_name(corpus: Path, name: str, old: str, new: str, wanted: list[str]) -> None:
    replace(corpus, name, old, new)
    message = refusal(corpus)
    for words in wanted:
        assert words in message
    assert not (corpus.parent / "data/train_all").exists() or "test" in name


def test_missing_broken_and_truncated_audio_is_named(corpus: Path) -> None:
    folder = corpus / "wav/an4_clstk/fash"
    (folder / "an251-fash-b.sph").unlink()
    audio = (folder / "cen1-fash-b.sph").read_bytes()
    (folder / "cen1-fash-b.sph").write_bytes(audio[:9000])
    (corpus / "wav/an4_clstk/mjwl/an17-mjwl-b.sph").write_bytes(b"no audio")
    message = refusal(corpus)
    for words in ("fash-an251-b: no audio wav/an4_clstk/fash/an251-fash-b", "cen1-fash-b.sph", "an17-mjwl-b.sph cannot be decoded"):
        assert words in message
    (corpus / "wav/an4_clstk/mjwl/an17-mjwl-b.sph").write_bytes(audio)
    prepare(corpus, "--max-dropped", "0.7")
    assert [line.split("\t")[0] for line in read_lines(corpus.parent / "data/train_all/dropped.tsv")] == ["fash-an251-b", "fash-cen1-b"]


def test_a_folder_that_is_not_an4_and_a_shared_speaker_are_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert "no folders etc and wav" in refusal(tmp_path / "other")
    assert "no such folder" in refusal(tmp_path / "nowhere")
    for name in ("an4_test.fileids", "an4_test.transcription"):
        replace(corpus, name, "fcaw", "fash")
    assert "speaker fash is in the training and the test list" in refusal(corpus)
