"""Features at any sampling rate and of parts of recordings: exact frames, no shift, no rate taken for another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_features_extract import extract_here, make_data, reference_signal

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json, read_jsonl, write_jsonl
from kdtool.features.extract import choose_rate, main
from kdtool.features.job import make_extractor
from kdtool.features.store import FeatureKind, FeatureSet, kind_label, parse_label

CLICKS = (0.234, 0.905, 1.613)  # seconds; none at a frame's border


def clicks(rate: int, seconds: float = 2.0) -> np.ndarray:
    """A faint noise with a click in the middle of a few frames."""
    samples = np.random.default_rng(1).uniform(-1e-3, 1e-3, round(seconds * rate)).astype(np.float32)
    for at in CLICKS:
        samples[round(at * rate) : round(at * rate) + max(1, rate // 8000)] = 0.9
    return samples


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
@pytest.mark.parametrize("target", [8000, 16000])
def test_a_click_stays_at_its_frame(rate: int, target: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", {"a-1": (clicks(rate), rate)})
    feats = extract_here(data, tmp_path / "out", "fbank", [1.0], 1, 1, sample_rate=target)
    loud = feats.get("a-1", normalise=False).mean(1)
    assert len(loud) == 200
    for at in CLICKS:
        near = np.arange(int(at * 100) - 5, int(at * 100) + 6)
        weight = np.exp(loud[near] - loud[near].max())
        # Frame t is centred on (t + 0.5) * 10 ms: the click's place by energy is within half a frame of where it is.
        assert abs((weight * (near + 0.5)).sum() / weight.sum() - at * 100) < 0.5
    note = f"1 recordings of {rate} Hz were resampled to {target} Hz"
    told = capsys.readouterr().err
    assert (note in told) == (rate != target)
    assert (f"above {rate // 2} Hz they hold nothing" in told) == (rate < target)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_every_length_gives_the_frames_that_its_duration_promises(rate: int, tmp_path: Path) -> None:
    lengths = [rate // 2 + extra for extra in (0, 1, 7, 39, 40, 41, 79, 80, 81, 220, 221)]
    data = make_data(tmp_path / "data", {f"a-{n}": (reference_signal(n, rate), rate) for n in lengths})
    feats = extract_here(data, tmp_path / "out", "mfcc", [1.0], 1, len(lengths), 0.0)
    for n in lengths:
        # To the nearest frame, of a length that resampling rounds to a whole sample.
        assert abs(feats.info(f"a-{n}").num_frames - 100 * n / rate) < 0.5 + 100 / 16000


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_part_of_a_recording_is_exact_to_the_sample(rate: int, tmp_path: Path) -> None:
    whole = reference_signal(3 * rate, rate)
    spans = {"r-1": (0, rate), "r-2": (rate + 137, 2 * rate + 50), "r-3": (2 * rate + 51, 3 * rate)}
    data = make_data(tmp_path / "data", {"r": (whole, rate)})
    row = next(read_jsonl(data / "supervisions.jsonl.gz"))
    parts = [{**row, "id": utt, "start": a / rate, "duration": (b - a) / rate} for utt, (a, b) in spans.items()]
    write_jsonl(data / "supervisions.jsonl.gz", parts)
    cut_out = make_data(tmp_path / "files", {utt: (whole[a:b], rate) for utt, (a, b) in spans.items()})
    # Of a resampled recording the perturbed copies begin at the nearest sample of the new rate: equal up to 1/32000 s only.
    target, speeds = min(rate, 16000), [1.0, 0.9] if rate <= 16000 else [1.0]
    together = extract_here(data, tmp_path / "out", "fbank", speeds, 2, 3, sample_rate=target)
    apart = extract_here(cut_out, tmp_path / "apart", "fbank", speeds, 1, 3, sample_rate=target)
    for utt in apart.ids:
        np.testing.assert_array_equal(together.get(utt, normalise=False), apart.get(utt, normalise=False))


def test_the_rate_is_chosen_recorded_and_named(tmp_path: Path) -> None:
    sets = {"tel": ([8000, 8000], 8000), "mixed": ([48000, 8000], 8000), "wide": ([22050, 44100], 16000), "odd": ([11025], 8000)}
    for name, (rates, wanted) in sets.items():
        data = make_data(tmp_path / name, {f"a-{i}": (reference_signal(r // 2, r), r) for i, r in enumerate(rates)})
        assert choose_rate(data, 0) == wanted
        assert choose_rate(data, 12000) == 12000
    main([str(tmp_path / "mixed"), str(tmp_path / "mixed" / "mfcc"), "--nj", "1"])
    feats = FeatureSet.open(tmp_path / "mixed" / "mfcc")
    assert feats.kind == "8 kHz mfcc" and read_json(feats.folder / "index.json")["sample_rate"] == 8000
    assert [feats.info(i).num_frames for i in feats.ids] == [50, 50]
    wide = tmp_path / "wide"
    main([str(wide), str(wide / "mfcc"), "--nj", "1", "--like", str(feats.folder)])
    assert FeatureSet.open(wide / "mfcc").kind == "8 kHz mfcc"
    main([str(wide), str(wide / "wide"), "--nj", "1"])
    tel = tmp_path / "tel"
    with pytest.raises(KdError, match=r"a-0 has 8000 Hz, the features of .*wide are at 16000 Hz .*--sample-rate 8000"):
        main([str(tel), str(tel / "mfcc"), "--like", str(wide / "wide")])
    with pytest.raises(UsageError, match=r"--sample-rate 8000: the features of --like .*wide are at 16000 Hz"):
        main([str(tel), str(tel / "mfcc"), "--like", str(wide / "wide"), "--sample-rate", "8000"])
    low = make_data(tmp_path / "low", {"a-1": (reference_signal(6000, 6000), 6000)})
    with pytest.raises(KdError, match="a-1 has 6000 Hz, less than 8000"):
        choose_rate(low, 0)
    with pytest.raises(UsageError, match="11025: a multiple of 100"):
        choose_rate(low, 11025)
    for what in (FeatureKind("mfcc", 8000), FeatureKind("fbank", 22050), FeatureKind("fbank", 16000, 5500)):
        assert parse_label(kind_label(*what)) == what
    with pytest.raises(KdError, match="16 kHz mfcc"):
        parse_label("mfcc")


@pytest.mark.parametrize("kind", ["mfcc", "fbank"])
def test_a_band_is_recorded_named_and_taken_over(kind: str, tmp_path: Path) -> None:
    """What lies above the band changes nothing; without the option the filters are those that they always were."""
    from lhotse.features.kaldi.extractors import Fbank, FbankConfig, Mfcc, MfccConfig

    low, tone = reference_signal(), 0.2 * np.sin(2 * np.pi * 7000 * np.arange(16000) / 16000).astype(np.float32)
    data = make_data(tmp_path / "data", {"a-1": (low, 16000), "b-1": (low + tone, 16000)})
    full, band = (extract_here(data, tmp_path / str(hz), kind, [1.0], 1, 2, high_freq=hz) for hz in (0, 5500))
    assert (full.kind, band.kind) == (f"16 kHz {kind}", f"16 kHz {kind} to 5500 Hz")
    assert "high_freq" not in full.header and band.header["high_freq"] == 5500
    inside = slice(5, -5)  # at an end the tone's reflection is a click
    heard = [np.abs(f.get("a-1", normalise=False) - f.get("b-1", normalise=False))[inside].max() for f in (full, band)]
    assert heard[1] < 0.2 and heard[0] > 5
    own = Mfcc(MfccConfig(num_ceps=13, dither=0.0, snip_edges=False, use_energy=False)) if kind == "mfcc" else Fbank(
        FbankConfig(num_filters=80, dither=0.0, snip_edges=False))  # fmt: skip
    np.testing.assert_array_equal(make_extractor(kind, 16000).extract(low, 16000), own.extract(low, 16000))
    main([str(data), str(data / "like"), "--nj", "1", "--kind", kind, "--like", str(band.folder)])
    assert FeatureSet.open(data / "like").kind == band.kind
    for wrong, match in ((["--like", str(full.folder), "--high-freq", "5500"], "5500: the features of --like .* up to 7600 Hz"),
                         (["--high-freq", "8001"], "from 3000 to 8000 Hz"), (["--high-freq", "2999"], "from 3000 to 8000 Hz")):  # fmt: skip
        with pytest.raises(UsageError, match=match):
            main([str(data), str(data / "wrong"), "--nj", "1", "--kind", kind, *wrong])


def test_a_gmm_refuses_features_of_another_rate_or_band(tmp_path: Path) -> None:
    import gmm_data

    from kdtool.formats.tree import Tree
    from kdtool.gmm.feats import FrontEnd
    from kdtool.gmm.folder import check_fits, open_gmm, save_gmm
    from kdtool.gmm.model import DiagGmm
    from kdtool.lang.lang import Lang

    gmm_data.write_lang(tmp_path / "lang")
    gmm_data.write_features(tmp_path / "feats", 2)
    lang, features = Lang.load(tmp_path / "lang"), FeatureSet.open(tmp_path / "feats")
    tree = Tree.monophone(lang.num_states)
    n = tree.num_pdfs
    model = DiagGmm(np.zeros((n, features.dim)), np.ones((n, features.dim)), np.ones(n), np.arange(n + 1), tree.digest)
    save_gmm(tmp_path, model, tree, lang, FrontEnd(features.kind, features.dim), [])
    gmm = open_gmm(tmp_path)
    check_fits(tmp_path, gmm, lang, features)
    features.kind = "16 kHz mfcc to 5500 Hz"
    with pytest.raises(KdError, match=r"16 kHz mfcc.*16 kHz mfcc to 5500 Hz"):
        check_fits(tmp_path, gmm, lang, features)
    features.kind = "8 kHz mfcc"
    with pytest.raises(KdError, match=r"16 kHz mfcc.*8 kHz mfcc"):
        check_fits(tmp_path, gmm, lang, features)
