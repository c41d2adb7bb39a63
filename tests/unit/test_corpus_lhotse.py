"""Corpora that Lhotse prepares: two layouts, through Kaldi folders and the import."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_jsonl
from kdtool.corpus.kaldi_import import main as import_main
from local.lhotse.prepare_data import main, parts_of, recipes

RATE = 16000


def write_audio(path: Path, seconds: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).clip(-1, 1)
    soundfile.write(path, audio, RATE, subtype="PCM_16")


def librispeech(root: Path) -> list[str]:
    for part, speaker in (("train-clean-5", 11), ("dev-clean-2", 12)):
        folder = root / part / str(speaker) / "7"
        for n in (1, 2):
            write_audio(folder / f"{speaker}-7-000{n}.flac", 1.0 + n, speaker + n)
        (folder / f"{speaker}-7.trans.txt").write_text(f"{speaker}-7-0001 HELLO WORLD\n{speaker}-7-0002 THE WORLD\n")
    return ["--name", "librispeech", "--arguments", "{dataset_parts: [train-clean-5, dev-clean-2]}", str(root)]


def mtedx(root: Path) -> list[str]:
    """Segments of long recordings, by language and part."""
    for part, talk in (("train", "Ann"), ("valid", "Bob"), ("test", "Eve")):
        folder = root / "es-es/data" / part
        write_audio(folder / "wav" / f"{talk}.flac", 6.0, len(part))
        (folder / "vtt").mkdir()
        cues = "00:00:00.250 --> 00:00:02.500\nhello world\n\n00:00:03.125 --> 00:00:05.750\nthe world\n"
        (folder / "vtt" / f"{talk}.es.vtt").write_text(f"WEBVTT\n\nKind: captions\n\n{cues}")
    return ["--name", "mtedx", "--arguments", "{languages: [es]}", str(root)]


@pytest.mark.parametrize(("layout", "part", "spans"), [
    (librispeech, "train_clean_5", [(0.0, 2.0), (0.0, 3.0)]), (mtedx, "es_test", [(0.25, 2.25), (3.125, 2.625)]),
])  # fmt: skip
def test_a_corpus_arrives_whole(layout, part: str, spans: list[tuple[float, float]], tmp_path: Path) -> None:
    main([*layout(tmp_path / "corpus"), str(tmp_path / "kaldi")])
    import_main([str(tmp_path / "kaldi" / part), str(tmp_path / "data")])
    rows = list(read_jsonl(tmp_path / "data/supervisions.jsonl.gz"))
    assert [row["text"].lower() for row in rows] == ["hello world", "the world"] and len({row["speaker"] for row in rows}) == 1
    found = [(row["start"], row["duration"]) for row in rows]
    assert np.allclose(found, spans, atol=1 / RATE), found
    assert (tmp_path / "data/dropped.tsv").read_text() == ""


def test_parts_of_any_depth_have_a_name() -> None:
    leaf = {"recordings": [], "supervisions": []}
    assert dict(parts_of(leaf)) == {"all": leaf}
    assert list(dict(parts_of({"en": {"dev": leaf, "test": {"recordings": []}}, "de": {"dev": leaf}}))) == ["en_dev", "de_dev"]


def test_what_lhotse_does_not_know_is_an_error(tmp_path: Path) -> None:
    assert {"librispeech", "aishell", "commonvoice"} <= set(recipes())
    with pytest.raises(UsageError, match=r"Lhotse prepares no such corpus; it has .*librispeech"):
        main(["--name", "no_such", str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(UsageError, match=r"takes no flavour; it has .*dataset_parts"):
        main(["--name", "librispeech", "--arguments", "{flavour: sweet}", str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(KdError, match="no such folder"):
        main(["--name", "librispeech", str(tmp_path / "nowhere"), str(tmp_path / "out")])
    (tmp_path / "corpus").mkdir()
    with pytest.raises(KdError, match=r"Lhotse's recipe ljspeech failed: .*is it the folder that it expects"):
        main(["--name", "ljspeech", str(tmp_path / "corpus"), str(tmp_path / "out")])
