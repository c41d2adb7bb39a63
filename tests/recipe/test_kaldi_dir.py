"""Any corpus in Kaldi's form: the embedded corpus through the recipe, and at 8 kHz as far as its first alignment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "egs/kaldi_dir/run.sh"


def run(*argv: object) -> str:
    done = subprocess.run([str(RUN), *map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


def rows(data: Path, name: str) -> list[dict[str, Any]]:
    from kdtool.core.tables import read_jsonl

    return [{k: v for k, v in row.items() if k != "language"} for row in read_jsonl(data / f"{name}.jsonl.gz")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("kaldi_dir")
    run("--tiny", "--work", work)
    return work


def test_ends_in_a_table(finished: Path) -> None:
    scores = json.loads((finished / "exp/results.json").read_text())
    assert {row["system"] for row in scores} == {"mono", "tri", "sat", "student_ce", "student_mtl", "student_li", "student_hmt"}
    assert all(0 <= row["wer"] <= 150 for row in scores), scores


def test_the_exported_corpus_comes_back_as_it_was(finished: Path) -> None:
    for original, imported in (("source/train_clean_5", "train_all"), ("source/dev_clean_2", "test")):
        for name in ("recordings", "supervisions"):
            assert rows(finished / "data" / imported, name) == rows(finished / "data" / original, name)


def test_a_second_run_is_up_to_date(finished: Path) -> None:
    told = run("--tiny", "--work", finished)
    assert " runs (" not in told and told.count("up to date") > 15


def write_8k(source: Path, out: Path) -> Path:
    """A Kaldi folder with the same speech at 8 kHz, its paths relative to the folder above."""
    import soundfile
    from scipy.signal import resample_poly

    (out / "wav").mkdir(parents=True)
    lines = []
    for line in (source / "wav.scp").read_text().splitlines():
        name, entry = line.split(maxsplit=1)
        samples, rate = soundfile.read(entry.removeprefix("flac -c -d -s ").removesuffix(" |"))
        assert rate == 16000
        low = np.clip(resample_poly(samples, 1, 2), -1, 1)
        soundfile.write(out / "wav" / f"{name}.wav", low, 8000, subtype="PCM_16")
        lines.append(f"{name} {out.name}/wav/{name}.wav\n")
    (out / "wav.scp").write_text("".join(lines))
    for table in ("text", "utt2spk"):
        (out / table).write_bytes((source / table).read_bytes())
    return out


def test_telephone_speech_is_aligned_at_its_own_rate(finished: Path, tmp_path: Path) -> None:
    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet

    source = finished / "data/source"
    train, test = (write_8k(source / f"kaldi_{name}", tmp_path / name) for name in ("train", "test"))
    argv = ["--tiny", "--train", train, "--test", test, "--lexicon", source / "embedded/lexicon.txt", "--relative-to", tmp_path]
    run(*argv, "--work", tmp_path / "work", "--stop-stage", "mono")
    low, high = (FeatureSet.open(work / "data/train/mfcc") for work in (tmp_path / "work", finished))
    assert (low.kind, high.kind) == ("8 kHz mfcc", "16 kHz mfcc")
    assert [low.info(i).num_frames for i in low.ids] == [high.info(i).num_frames for i in high.ids]
    one, two = (AlignmentSet.open(work / "exp/mono/ali_train") for work in (tmp_path / "work", finished))
    same = [np.mean(one.get(i).phone == two.get(i).phone) for i in low.ids if i in one and i in two]
    assert len(same) > 0.9 * len(low.ids) and np.mean(same) > 0.7, np.mean(same)
