"""Feature extraction against kaldi-native-fbank's numbers, and the step's account of good and bad recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_jsonl, write_jsonl
from kdtool.features.extract import collect, main, parse_speeds
from kdtool.features.job import copy_id, make_extractor, run_job
from kdtool.features.store import FeatureKind, FeatureSet, source_frames

# kaldi-native-fbank 1.22.5 on reference_signal(): 25 ms povey window, 20 to 7600 Hz, no dither, snip_edges off,
# energy_floor 0. Frames 10 and 55; fbank: every eighth of 80 bins; mfcc: 13 cepstra from 23 bins, C0 instead of energy.
FBANK = [[-11.784, -10.589, 3.497, -10.423, -7.263, -8.46, -7.497, -0.027, -6.239, -2.852],
         [-9.957, -13.11, -12.361, -9.329, 4.71, -8.514, 4.627, -0.025, -6.294, -2.871]]  # fmt: skip
MFCC = [[-19.067, -13.046, 17.857, -8.312, -52.909, -82.653, -49.361, -64.868, 12.962, 45.24, 28.962, 33.391, 8.891],
        [-17.265, -38.827, -58.901, -23.277, 20.41, 12.884, 53.935, -39.841, -57.803, 53.105, 93.164, -21.597, -68.793]]  # fmt: skip


def reference_signal(samples: int = 16000, rate: int = 16000) -> np.ndarray:
    """A sweep, a tone that starts late, and exactly reproducible noise."""
    t = np.arange(samples) / rate
    noise = (np.arange(samples, dtype=np.int64) * 7919 % 10007) / 10007 - 0.5
    sweep = 0.3 * np.sin(2 * np.pi * (300 * t + 900 * t * t)) + 0.1 * np.sin(2 * np.pi * 2500 * t) * (t > 0.4)
    return (sweep + 0.02 * noise).astype(np.float32)


@pytest.mark.parametrize(("kind", "step", "wanted"), [("fbank", 8, FBANK), ("mfcc", 1, MFCC)])
def test_equals_kaldi(kind: str, step: int, wanted: list[list[float]]) -> None:
    feats = make_extractor(kind, 16000).extract(reference_signal(), 16000)
    assert feats.shape[0] == 100
    np.testing.assert_allclose(feats[[10, 55], ::step], wanted, atol=0.005)


def make_data(folder: Path, audio: dict[str, tuple[np.ndarray, int]]) -> Path:
    """A data folder with one recording per utterance; the speaker is the id's first part."""
    import soundfile
    from lhotse import Recording, RecordingSet

    folder.mkdir(parents=True)
    recordings, rows = [], []
    for utt, (samples, rate) in audio.items():
        path = folder / f"{utt}.wav"
        soundfile.write(path, samples, rate, subtype="PCM_16")
        recordings.append(Recording.from_file(path, recording_id=utt))
        rows.append({"id": utt, "recording_id": utt, "start": 0.0, "duration": recordings[-1].duration, "channel": 0,
                     "text": f"WORDS OF {utt.upper()}", "speaker": utt.split("-")[0]})  # fmt: skip
    RecordingSet.from_recordings(recordings).to_file(folder / "recordings.jsonl.gz")
    write_jsonl(folder / "supervisions.jsonl.gz", rows)
    return folder


def extract_here(
    data: Path, out: Path, kind: str, speeds: list[float], nj: int, total: int, max_dropped: float = 0.05, sample_rate: int = 16000,
    high_freq: int = 0,
) -> FeatureSet:
    """The step's body with its jobs run in this process, one after the other."""
    (out / "parts").mkdir(parents=True)
    (out / "storage").mkdir()
    for job in range(1, nj + 1):
        run_job(data, out, kind, speeds, sample_rate, job, nj, high_freq)
    collect(out, FeatureKind(kind, sample_rate, high_freq), speeds, nj, total, max_dropped)
    return FeatureSet.open(out)


def bursts(samples: int, rate: int = 16000) -> np.ndarray:
    """Noise whose loudness changes every 37 ms, the same on every run."""
    rng = np.random.default_rng(3)
    loudness = np.repeat(rng.uniform(-3, 0, samples // 592 + 1), 592)[:samples]
    return (rng.uniform(-0.5, 0.5, samples) * 10**loudness).astype(np.float32)


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_frame_of_a_perturbed_copy_shows_the_source_frame(tmp_path: Path, speed: float) -> None:
    data = make_data(tmp_path / "data", {"a-1": (bursts(32000), 16000)})
    feats = extract_here(data, tmp_path / "out", "fbank", [1.0, speed], 1, 1)
    source = feats.get("a-1", normalise=False).mean(1)
    copy_info = feats.info(f"a-1_sp{speed}")
    copy = feats.get(copy_info.id, normalise=False).mean(1)
    assert copy_info.num_frames == round(200 / speed)
    index = source_frames(copy_info.num_frames, speed, len(source))
    inner = np.arange(10, copy_info.num_frames - 10)
    fit = {shift: np.corrcoef(copy[inner], source[np.clip(index[inner] + shift, 0, 199)])[0, 1] for shift in range(-3, 4)}
    assert fit[0] > 0.95
    assert max(fit, key=fit.__getitem__) == 0, fit


def test_source_frames_of_the_last_frames_stay_inside() -> None:
    assert source_frames(4, 1.0, 4).tolist() == [0, 1, 2, 3]
    assert source_frames(3, 1.1, 3).tolist() == [0, 1, 2]
    assert source_frames(5, 0.9, 4).tolist() == [0, 1, 2, 3, 3]
    with pytest.raises(KdError, match="speed 0"):
        source_frames(3, 0.0, 3)


def test_normalisation_index_and_lhotse_agree_whatever_the_number_of_jobs(tmp_path: Path) -> None:
    from lhotse import CutSet

    audio = {f"{spk}-{i}": (reference_signal(8000 + 800 * i) * (1 + i), 16000) for spk in "ab" for i in range(2)}
    data = make_data(tmp_path / "data", audio)
    one = extract_here(data, tmp_path / "one", "mfcc", [0.9, 1.0], 1, 4)
    extract_here(data, tmp_path / "two", "mfcc", [0.9, 1.0], 3, 4)
    for name in ("index.json", "cuts.jsonl.gz", "cmvn.safetensors", "dropped.tsv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert one.ids == [copy_id(utt, speed) for utt in audio for speed in (0.9, 1.0)]
    info = one.info("a-1_sp0.9")
    assert (info.source_id, info.speaker, info.speed, info.text) == ("a-1", "a_sp0.9", 0.9, "WORDS OF A-1")
    for speaker in ("a", "b_sp0.9"):
        together = np.concatenate([one.get(u) for u in one.ids if one.info(u).speaker == speaker])
        np.testing.assert_allclose(together.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(together.std(0), 1, atol=1e-4)
    for cut in CutSet.from_file(tmp_path / "one" / "cuts.jsonl.gz").with_features_path_prefix(tmp_path / "one"):
        np.testing.assert_array_equal(cut.load_features(), one.get(cut.id, normalise=False))
        assert cut.custom["source_id"] == one.info(cut.id).source_id


def test_bad_audio_is_dropped_with_a_reason_and_other_rates_are_resampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = reference_signal(8000)
    audio = {"a-good": (good, 16000), "a-8k": (reference_signal(4000, 8000), 8000), "a-cut": (good, 16000), "a-short": (good[:300], 16000)}
    data = make_data(tmp_path / "data", audio)
    content = (data / "a-cut.wav").read_bytes()
    (data / "a-cut.wav").write_bytes(content[:100])
    rows = list(read_jsonl(data / "supervisions.jsonl.gz"))
    write_jsonl(data / "supervisions.jsonl.gz", [*rows, {**rows[0], "id": "a-lost", "recording_id": "nowhere"}])
    feats = extract_here(data, tmp_path / "out", "fbank", [1.0], 2, 5, max_dropped=0.9)
    assert feats.ids == ["a-good", "a-8k"]
    assert feats.info("a-8k").num_frames == 50
    dropped = dict(line.split("\t") for line in (tmp_path / "out" / "dropped.tsv").read_text().splitlines())
    assert set(dropped) == {"a-cut", "a-short", "a-lost"}
    assert "a-cut.wav" in dropped["a-cut"] and "300 samples" in dropped["a-short"] and "nowhere" in dropped["a-lost"]
    assert "1 recordings of 8000 Hz were resampled" in capsys.readouterr().err


def test_digital_silence_stays_finite(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", {"a-1": (np.zeros(4000, np.float32), 16000)})
    feats = extract_here(data, tmp_path / "out", "fbank", [1.0], 1, 1)
    assert np.abs(feats.get("a-1")).max() < 1


def test_step_runs_is_up_to_date_and_refuses_bad_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "data", {"a-1": (reference_signal(4000), 16000)}), tmp_path / "data" / "mfcc"
    main([str(data), str(out), "--kind", "mfcc"])
    assert FeatureSet.open(out).get("a-1").shape == (25, 13)
    main([str(data), str(out), "--kind", "mfcc"])
    assert "up to date" in capsys.readouterr().out
    rows = list(read_jsonl(data / "supervisions.jsonl.gz"))
    write_jsonl(data / "supervisions.jsonl.gz", rows * 2)
    with pytest.raises(KdError, match=r"duplicate-id: 1 x .*: a-1 \(2 times, expected once\)"):
        main([str(data), str(out), "--kind", "mfcc"])
    with pytest.raises(KdError, match="missing"):
        main([str(tmp_path), str(out)])
    for bad in ("1.0,1.0", "0.9,fast", "3"):
        with pytest.raises(UsageError, match="speeds"):
            parse_speeds(bad)


def test_damaged_feature_folder_is_named(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", {"a-1": (reference_signal(4000), 16000)})
    feats = extract_here(data, tmp_path / "out", "mfcc", [1.0], 1, 1)
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    array = tmp_path / "out" / index["utterances"][0]["file"]
    np.save(array, np.zeros((24, 13), np.float32))
    with pytest.raises(KdError, match=r"a-1.*\(24, 13\).*\(25, 13\)"):
        feats.get("a-1")
    array.write_bytes(array.read_bytes()[:40])
    with pytest.raises(KdError, match=r"a-1.*unreadable"):
        feats.get("a-1")
    with pytest.raises(KdError, match="utterance b-1"):
        feats.get("b-1")
    with pytest.raises(KdError, match="no features here"):
        FeatureSet.open(tmp_path)
