"""`kdtool align` as a whole, on speech whose true times are known: accuracy, every output, bad files, layouts."""

from __future__ import annotations

import importlib
import itertools
import re
import shutil
from pathlib import Path

import aligner_data
import numpy as np
import pytest
import soundfile
from test_aligner_parts import parse_textgrid

from kdtool.__main__ import main as kdtool
from kdtool.aligner.score import compare, read_truth
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json, read_lines

# What a change of the aligner is held to (ms, percent): each a little worse than measured.
WORST = {
    "words": {"median": 9.0, "mean": 13.0, "within_20ms": 80.0, "within_30ms": 92.0, "within_50ms": 98.0},
    "phones": {"median": 9.0, "mean": 14.0, "within_20ms": 80.0, "within_30ms": 90.0, "within_50ms": 96.0},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aligner")
    aligner_data.make(root)
    return root


def align(root: Path, audio: Path, out: Path, *options: str) -> None:
    kdtool(["align", str(audio), "--model", str(root / "exp" / "mono"), "--out", str(out), "--nj", "2", *options])


def test_boundaries_are_where_the_sounds_are(model: Path, tmp_path: Path) -> None:
    align(model, model / "corpus" / "LibriSpeech" / "dev-clean-2", tmp_path / "out")
    result = compare(tmp_path / "out", read_truth([model / "corpus" / "truth"]))
    for kind, limits in WORST.items():
        assert result[kind]["boundaries"] > 300
        for name, limit in limits.items():
            assert (result[kind][name] >= limit) if name.startswith("within") else (result[kind][name] <= limit), (kind, name, result)


def make_folder(model: Path, folder: Path) -> None:
    """Audio of several kinds with text, and everything that can be wrong with a file."""
    part = model / "corpus" / "LibriSpeech" / "dev-clean-2"
    texts = dict(line.split(" ", 1) for file in sorted(part.rglob("*.trans.txt")) for line in read_lines(file))
    names = sorted(texts)[:3]
    samples = [soundfile.read(next(part.rglob(f"{n}.flac")))[0] for n in names]
    (folder / "sub folder").mkdir(parents=True)
    soundfile.write(folder / "plain.wav", samples[0], 16000)
    (folder / "plain.txt").write_text(texts[names[0]])
    soundfile.write(folder / "sub folder" / "zwei é.flac", np.stack([samples[1], 0.2 * samples[1]], axis=1), 16000)
    (folder / "sub folder" / "zwei é.lab").write_text(texts[names[1]].capitalize() + "!\n")
    slow = np.interp(np.arange(0, len(samples[2]), 16000 / 44100), np.arange(len(samples[2])), samples[2])
    soundfile.write(folder / "rate.wav", slow, 44100)
    (folder / "rate.txt").write_text(texts[names[2]] + ' <svg/onload=alert("x")> 9')
    (folder / "broken.wav").write_bytes(b"RIFF no audio")
    (folder / "broken.txt").write_text("the house")
    soundfile.write(folder / "silent.wav", samples[0], 16000)
    (folder / "silent.txt").write_text(" \n")
    soundfile.write(folder / "long.wav", samples[0][:8000], 16000)
    (folder / "long.txt").write_text("the house " * 30)
    soundfile.write(folder / "mute.wav", samples[0], 16000)
    (folder / "lost.txt").write_text("the house")


def test_bad_files_are_named_and_the_others_done(model: Path, tmp_path: Path) -> None:
    make_folder(model, tmp_path / "in")
    with pytest.raises(KdError, match=r"5 of 8 files could not be aligned; .*dropped\.tsv"):
        align(model, tmp_path / "in", tmp_path / "out", "--states", "true", "--g2p", "false")
    out = tmp_path / "out"
    reasons = dict(line.split("\t") for line in read_lines(out / "dropped.tsv"))
    assert set(reasons) == {"broken", "silent", "long", "mute", "lost"}
    assert "cannot be decoded" in reasons["broken"] and "holds no words" in reasons["silent"] and "too short" in reasons["long"]
    with pytest.raises(KdError, match="5 of 8 files"):  # nothing to do again, and still not all right
        align(model, tmp_path / "in", out, "--states", "true", "--g2p", "false")
    align(model, tmp_path / "in", out, "--states", "true", "--g2p", "false", "--max-failed", "0.7")
    check_outputs(out, tmp_path / "in")


def test_text_in_any_form_has_the_same_words(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Invisible characters, decomposed letters, punctuation in place of blanks; a lexicon with numbers; what is no plain text."""
    part = model / "corpus" / "LibriSpeech" / "dev-clean-2"
    name, text = read_lines(next(part.rglob("*.trans.txt")))[0].split(" ", 1)
    first, second, *rest = text.split()
    prons = [line.split()[1:] for line in read_lines(model / "data" / "lang" / "lexicon.txt") if line.split()[0] == first]
    (tmp_path / "own.txt").write_text("\ufeff" + "".join(f"\u00c9TUDE\t0.5\t{' '.join(p)}\n" for p in prons))
    forms = {
        "plain": text,
        "bom": f"\ufeff\u00c9TUDE \ufeff{second} {' '.join(rest)}",
        "decomposed": f"E\u0301TUDE {second} {' '.join(rest)}",
        "hidden": f"<s> \u200e{first}\u200b{second[0]}\u00ad{second[1:]}\u00a0{' '.join(rest)} </s>",
        "joined": f"{first},{second}...{'/'.join(rest)}",
        "unknown": f"{text} 9",
        "srt": f"1\n00:00:00,000 --> 00:00:01,000\n{text}",
    }
    (tmp_path / "in").mkdir()
    for form, written in forms.items():
        shutil.copy(next(part.rglob(f"{name}.flac")), tmp_path / "in" / f"{form}.flac")
        (tmp_path / "in" / f"{form}.txt").write_text(written)
    align(model, tmp_path / "in", tmp_path / "out", "--lexicon", str(tmp_path / "own.txt"), "--g2p", "false", "--max-failed", "0.2")
    said, out = capsys.readouterr().err, tmp_path / "out"
    for part_of in (
        "2 x byte order mark", "1 x zero-width space", "1 x soft hyphen", "1 x no-break", "1 x direction mark", "(NFC)",
        "its numbers are not used", f"become spoken noise (1 of {6 * len(text.split()) + 1} tokens", f"all: 9 1; list: {out}/words.tsv",
    ):  # fmt: skip
        assert part_of in said, said
    assert "srt.txt: a subtitle file (SRT), not plain text" in (out / "dropped.tsv").read_text()
    words = {f: read_json(out / "json" / f"{f}.json")["words"] for f in forms if f not in ("srt", "unknown")}
    times = {f: [(w["start"], w["end"]) for w in found] for f, found in words.items()}
    assert {f: t for f, t in times.items() if t != times["plain"]} == {}
    assert words["decomposed"][0]["label"] == "\u00c9TUDE"


def check_outputs(out: Path, audio: Path) -> None:
    """TextGrids, CTM, JSON, Lhotse manifests and the report agree."""
    names = [line.split("\t")[0] for line in read_lines(out / "files.tsv")[1:]]
    assert names == ["plain", "rate", "sub folder/zwei é"]
    from lhotse import CutSet, SupervisionSet

    supervisions = {s.id: s for s in SupervisionSet.from_jsonl(out / "supervisions.jsonl.gz")}
    for name in names:
        found = read_json(out / "json" / f"{name}.json")
        seconds = soundfile.info(found["file"]).frames / soundfile.info(found["file"]).samplerate
        high, tiers = parse_textgrid(out / "textgrid" / f"{name}.TextGrid")
        assert high == seconds == found["duration"] and set(tiers) == {"words", "phones", "states"}
        for tier in tiers.values():
            assert tier[0][0] == 0 and tier[-1][1] == seconds and all(a[1] == b[0] for a, b in itertools.pairwise(tier))
        assert [t for t in tiers["words"] if t[2]] == [(w["start"], w["end"], w["label"]) for w in found["words"]]
        assert tiers["phones"][0][2] == "SIL" and found["phones"][0]["silence"] and found["phones"][0]["word"] is None
        assert all(0 <= p["confidence"] <= 1 for p in (*found["words"], *found["phones"])) and found["confidence"] > 0.8
        items = supervisions[name].alignment["word"]
        assert [(i.symbol, i.start, i.score) for i in items] == [(w["label"], w["start"], w["confidence"]) for w in found["words"]]
        inner = [(i.symbol, i.start) for i in supervisions[name].alignment["state"]]
        assert inner == [(s["label"], s["start"]) for s in found["states"]] == [(t[2], t[0]) for t in tiers["states"]]
    cuts = list(CutSet.from_jsonl(out / "cuts.jsonl.gz"))
    assert [c.load_audio().shape[0] for c in cuts] == [1, 1, 2]
    ctm = [line.split() for line in read_lines(out / "words.ctm")]
    assert len(read_lines(out / "states.ctm")) == sum(len(s.alignment["state"]) for s in supervisions.values())
    assert {len(line) for line in ctm} == {6} and {line[0] for line in ctm} == {"plain", "rate", "sub_folder/zwei_é"}
    page = (out / "report.html").read_text()
    assert page.count("<script") == 1 and "<svg/onload" not in page and "&lt;svg/onload" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 3 and "broken" in page
    word = next(line for line in read_lines(out / "words.tsv"))
    assert word.split("\t")[1:3] == ["1", "spoken noise"]
    assert audio.is_dir()


def test_rates_and_channels_do_not_move_the_boundaries(model: Path, tmp_path: Path) -> None:
    make_folder(model, tmp_path / "in")
    source = soundfile.read(tmp_path / "in" / "rate.wav")[0]
    for path in [*(tmp_path / "in").rglob("*.*")]:
        if path.stem != "rate":
            path.unlink()
    for name, signal, rate in (("stereo", np.stack([source, source], axis=1), 44100), ("half", source[::2], 22050)):
        soundfile.write(tmp_path / "in" / f"{name}.flac", signal, rate)
        shutil.copy(tmp_path / "in" / "rate.txt", tmp_path / "in" / f"{name}.txt")
    align(model, tmp_path / "in", tmp_path / "out", "--g2p", "false", "--nj", "1")
    starts = [[w["start"] for w in read_json(tmp_path / "out" / "json" / f"{n}.json")["words"]] for n in ("rate", "stereo", "half")]
    spoken = np.array(starts)[:, :-1]  # the last token is a symbol that nobody says: it may lie anywhere
    assert np.abs(spoken - spoken[0]).max() <= 0.02


def test_a_kaldi_folder_with_segments(model: Path, tmp_path: Path) -> None:
    make_folder(model, tmp_path / "in")
    first, second = (soundfile.read(tmp_path / "in" / n)[0] for n in ("plain.wav", "sub folder/zwei é.flac"))
    gap = 0.001 * np.random.default_rng(0).standard_normal(8000)
    joined = np.concatenate([first, gap, second[:, 0]])
    soundfile.write(tmp_path / "long.flac", joined, 16000)
    kaldi = tmp_path / "kaldi"
    kaldi.mkdir()
    ends = len(first) / 16000, len(first) / 16000 + 0.5, len(joined) / 16000
    texts = [(tmp_path / "in" / n).read_text().strip().upper().strip("!") for n in ("plain.txt", "sub folder/zwei é.lab")]
    tables = {
        "wav.scp": f"rec {tmp_path / 'long.flac'}\n",
        "segments": f"s1-a rec 0 {ends[0]:.4f}\ns2-b rec {ends[1]:.4f} {ends[2]:.4f}\ns2-c rec 99 100\n",
        "text": f"s1-a {texts[0]}\ns2-b {texts[1]}\ns2-c THE HOUSE\n",
        "utt2spk": "s1-a s1\ns2-b s2\ns2-c s2\n",
    }
    for name, text in tables.items():
        (kaldi / name).write_text(text)
    align(model, kaldi, tmp_path / "out", "--max-failed", "0.5")
    assert [line.split("\t")[0] for line in read_lines(tmp_path / "out" / "dropped.tsv")] == ["s2-c"]
    high, tiers = parse_textgrid(tmp_path / "out" / "textgrid" / "rec.TextGrid")
    between = [t[:2] for t in tiers["phones"] if not t[2]]
    assert high == len(joined) / 16000 and between == [pytest.approx(ends[:2], abs=1e-6)]
    assert [t[2] for t in tiers["words"] if t[2]] == " ".join(texts).split()
    align(model, tmp_path / "in", tmp_path / "alone", "--max-failed", "1", "--channel", "1")
    alone = read_json(tmp_path / "alone" / "json" / "sub folder" / "zwei é.json")["words"]
    moved = read_json(tmp_path / "out" / "json" / "s2-b.json")["words"]
    np.testing.assert_allclose([w["start"] - ends[1] for w in moved], [w["start"] for w in alone], atol=2e-3)
    ctm = [line.split() for line in read_lines(tmp_path / "out" / "words.ctm")]
    assert {line[0] for line in ctm} == {"rec"} and [float(line[2]) for line in ctm] == sorted(float(line[2]) for line in ctm)


def test_usage(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for options, message in (
        (["--out", str(tmp_path / "a" / "out")], "lies inside"),
        (["--out", str(tmp_path / "o"), "--lang", str(tmp_path)], "no lang folder at"),
        (["--out", str(tmp_path / "o"), "--posterior-scale", "0"], "--posterior-scale"),
    ):
        with pytest.raises(UsageError, match=message):
            kdtool(["align", str(tmp_path / "a"), "--model", str(model / "exp" / "mono"), *options])
    with pytest.raises(UsageError, match=r"--model .*nowhere.*: no such folder"):
        align(tmp_path / "nowhere", tmp_path / "a", tmp_path / "o")
    with pytest.raises(KdError, match="no audio"):
        align(model, tmp_path / "a", tmp_path / "o")


def test_wrong_transcripts_rank_below_right_ones(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark, on one half of the speakers: each kind of wrong transcript, replaced words, the summary."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    bench = importlib.import_module("bench_confidence")
    corpus = model / "corpus" / "LibriSpeech" / "dev-clean-2"
    figures = bench.main([str(corpus), str(model / "exp" / "mono"), str(model / "data" / "lang"), "--half", "first", "--timed", "2"])
    assert figures["files"] == 16 and set(figures["auc_files"]) == {*bench.KINDS, "pooled"}
    assert all(figures["auc_files"][k] >= 0.98 for k in (*bench.UTTERANCE_KINDS, "pooled")), figures
    assert all(value >= 0.95 for value in figures["auc_words"].values()), figures
    assert figures["false_alarms"]["words"] <= 0.03 and max(figures["missed_words"].values()) <= 0.1, figures
    assert figures["cpu_seconds_per_second"]["fit"] > 0
    said = capsys.readouterr().err
    lines = said[said.index("look wrong (fit below 0.5); the worst:") :].splitlines()[1:6]
    assert all(re.fullmatch(r"  \d{4}\.\w+: fit 0\.\d+; \d+\.\d\d to \d+\.\d\d s, .+: heard [A-Z .]+", line) for line in lines), lines
    assert not any(".right" in line for line in lines) and "most files look wrong" in said


def test_short_files_and_noise_have_defined_scores(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(model, tmp_path / "in")
    plain = soundfile.read(tmp_path / "in" / "plain.wav")[0]
    text = (tmp_path / "in" / "plain.txt").read_text()
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "in").mkdir()
    noise = 0.05 * np.random.default_rng(0).standard_normal(16000)
    for name, audio, words in (
        ("right", plain, text), ("wrong", plain[::-1], text), ("short", plain[4000:6000], "a"), ("noise", noise, "[noise]"),
        ("noises", plain, "[noise] <unk> [noise]"), ("one", plain, "the"),
    ):  # fmt: skip
        soundfile.write(tmp_path / "in" / f"{name}.wav", audio, 16000)
        (tmp_path / "in" / f"{name}.txt").write_text(words)
    align(model, tmp_path / "in", tmp_path / "out", "--g2p", "false")
    said = capsys.readouterr().err
    head, *rows = [line.split("\t") for line in read_lines(tmp_path / "out" / "files.tsv")]
    assert head[3:8] == ["confidence", "loglike_per_frame", "llr_per_frame", "fit", "doubtful_words"] and len(rows) == 6
    fits = {row[0]: float(row[6]) for row in rows}
    assert all(0 < fit <= 1 for fit in fits.values()) and np.all(np.isfinite([float(row[5]) for row in rows]))
    assert fits["right"] > 0.5 > fits["wrong"] and re.search(r"  wrong: fit 0\.\d+; .*heard", said) and "  right: fit" not in said
    assert all(len(row) == len(head) and (row[8] == "") == (float(row[6]) >= 0.5) for row in rows)
    words = [line.split("\t") for line in read_lines(tmp_path / "out" / "word_scores.tsv")]
    assert len(words) - 1 == sum(int(row[2]) for row in rows) and {len(w) for w in words} == {8}
    found = read_json(tmp_path / "out" / "json" / "wrong.json")
    assert found["doubt"]["heard"] and found["fit"] == fits["wrong"]
    assert read_json(tmp_path / "out" / "json" / "right.json")["doubt"] is None
    from lhotse import SupervisionSet

    custom = {s.id: s.custom for s in SupervisionSet.from_jsonl(tmp_path / "out" / "supervisions.jsonl.gz")}
    for name in ("fit", "llr", "heard"):
        assert custom["wrong"][f"word_{name}"] == [w[name] for w in found["words"]]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index(">wrong</a>") < page.index(">right</a>") and page.count("<audio") == 6
    align(model, tmp_path / "in", tmp_path / "out", "--g2p", "false")  # nothing to do, and said again
    again = capsys.readouterr().err
    assert again.splitlines()[-1].startswith("  ") and set(again.splitlines()) <= set(said.splitlines())
