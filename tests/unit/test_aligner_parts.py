"""Parts of `kdtool align`: what is found in a folder, words of a text, audio of any kind, TextGrids, posteriors, the command."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import io
import itertools
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtool.__main__ import COMMANDS
from kdtool.__main__ import main as kdtool
from kdtool.aligner.audio import parse_channel, resample, stage
from kdtool.aligner.inputs import find_items
from kdtool.aligner.posterior import align_scores
from kdtool.aligner.report import choose, window, write_report
from kdtool.aligner.score import errors, figures, match, single_phones
from kdtool.aligner.times import Aligned, Doubt, Interval, to_aligned
from kdtool.aligner.words import split_words
from kdtool.aligner.write import fill, write_textgrid
from kdtool.core.errors import KdError, UsageError
from kdtool.formats.tree import Tree
from kdtool.graph.training import GraphBuilder, Words
from kdtool.pictures import player

LABELS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=8)
RNG = np.random.default_rng(0)


def tone(path: Path, rate: int = 16000, seconds: float = 0.5, channels: int = 1, kind: str = "WAV") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    signal = np.stack([0.3 * np.sin(2 * np.pi * 440 * (c + 1) * time) for c in range(channels)], axis=1)
    soundfile.write(path, signal, rate, format=kind)
    return path


def test_a_folder_is_read_whole_and_what_does_not_fit_is_named(tmp_path: Path) -> None:
    for name in ("a.wav", "deep/er/b c.FLAC", "two.wav", "two.flac", "mute.wav", ".hidden.wav", "odd.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name, text in (("a.txt", "One\ntwo "), ("deep/er/b c.lab", "three"), ("two.txt", "x"), ("lost.txt", "x")):
        (tmp_path / name).write_text(text)
    (tmp_path / "odd.txt").write_bytes(b"x\xff")
    items, faults = find_items(tmp_path)
    assert [(i.name, i.text, i.speaker) for i in items] == [("a", "One two", "a"), ("deep/er/b c", "three", "deep/er/b c")]
    reasons = dict(faults)
    assert set(reasons) == {"two", "mute", "lost", "odd"}
    assert "which of two.flac, two.wav counts" in reasons["two"]
    assert "no text beside it" in reasons["mute"] and "no audio file beside it" in reasons["lost"]
    assert "not UTF-8 (byte 0xff at position 1)" in reasons["odd"]
    assert {i.speaker for i in find_items(tmp_path, speaker="folder")[0]} == {".", "deep/er"}


def test_text_files_that_are_no_plain_text_are_faults_with_a_reason(tmp_path: Path) -> None:
    texts = {
        "srt": ("1\n00:00:01,000 --> 00:00:02,000\nHello\n", "srt.txt: a subtitle file (SRT), not plain text; give the words alone"),
        "htk": ("0 3600000 sil\n3600000 5300000 hello\n", "htk.txt: an HTK label file"),
        "html": ("one\n<b>two</b>\n", "html.txt, line 2: '<b>two</b>' holds markup (<b>)"),
        "long": ("x" * 101, "long.txt, line 1: a word of 101 characters"),
    }
    for name, (text, _) in texts.items():
        (tmp_path / f"{name}.wav").write_bytes(b"x")
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "good.wav").write_bytes(b"x")
    (tmp_path / "good.txt").write_text("\ufeff<unk> AT&T <noise> hello\n")
    (tmp_path / "wide.wav").write_bytes(b"x")
    (tmp_path / "wide.txt").write_bytes("Hello".encode("utf-16"))
    items, faults = find_items(tmp_path)
    assert [(i.name, i.text) for i in items] == [("good", "\ufeff<unk> AT&T <noise> hello")]
    reasons = dict(faults)
    assert reasons.keys() == {*texts, "wide"} and "iconv -f UTF-16" in reasons["wide"]
    assert all(message in reasons[name] for name, (_, message) in texts.items()), reasons


def test_librispeech_layout(tmp_path: Path) -> None:
    chapter = tmp_path / "7" / "1"
    for utt in ("7-1-0000", "7-1-0001"):
        tone(chapter / f"{utt}.flac", kind="FLAC")
    (chapter / "7-1.trans.txt").write_text("\ufeff7-1-0000 HELLO\u2028THERE\n7-1-0009 GONE\n\ufeff7-1-0001 A &amp; B\n")
    items, faults = find_items(tmp_path)
    assert [(i.name, i.speaker, i.text) for i in items] == [("7-1-0000", "7", "HELLO\u2028THERE")]
    assert [n for n, _ in faults] == ["7-1-0001", "7-1-0009"] and "7-1.trans.txt, line 3: 'A &amp; B' holds markup" in faults[0][1]
    (chapter / "x.trans.txt").write_text("7-1-0000 AGAIN\n")
    items, faults = find_items(tmp_path)
    assert items == [] and [n for n, _ in faults] == ["7-1-0000", "7-1-0001", "7-1-0009"]
    assert re.search(r"x\.trans\.txt, line 1: it has a transcript in .*7-1\.trans\.txt, line 1 already", dict(faults)["7-1-0000"])


def test_an_empty_or_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="no audio"):
        find_items(tmp_path)
    with pytest.raises(KdError, match="no such folder"):
        find_items(tmp_path / "none")
    with pytest.raises(UsageError, match="--layout heap"):
        find_items(tmp_path, layout="heap")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", [("Hello", "HELLO"), ("World", "WORLD")]),
        ("“It\u2019s” a café; x-ray", [("It's", "IT'S"), ("a", "A"), ("café", "CAFE"), ("x-ray", "X-RAY")]),
        ("twenty-one — two", [("twenty", "TWENTY"), ("one", "ONE"), ("two", "TWO")]),
        ("'tis the dogs' 'bone'", [("'tis", "'TIS"), ("the", "THE"), ("dogs'", "DOGS'"), ("bone", "BONE")]),
        ("$5 & 10%", [("$5", "$5"), ("&", "&"), ("10%", "10%")]),
        ("[noise] <unk>", [("[noise]", "[NOISE]"), ("<unk>", "<UNK>")]),
        ("... - !", []),
        ("rose,and rose...and rose/and rose;and rose\u2014and rose_and (rose)and", [("rose", "ROSE"), ("and", "AND")] * 7),
        ("xylo,and", [("xylo", "XYLO"), ("and", "AND")]),  # a known word is never lost in an unknown whole
        ("xylo/zyx 3,000", [("xylo/zyx", "XYLO/ZYX"), ("3,000", "3,000")]),
        ("and/or n/a", [("and/or", "AND/OR"), ("n/a", "N/A")]),
        ("(s)he [t]he rose(s)", [("she", "SHE"), ("the", "THE"), ("roses", "ROSES")]),
        ("[noise]rose <unk>and rose[laughter]",
         [("[noise]", "[NOISE]"), ("rose", "ROSE"), ("<unk>", "<UNK>"), ("and", "AND"), ("rose", "ROSE"), ("[laughter]", "[LAUGHTER]")]),
        ("<s> rose </s>", [("rose", "ROSE")]),
        ("e.g. u.s. U.S.A. us.", [("e.g", "E.G."), ("u", "U."), ("s", "S"), ("U.S.A", "USA"), ("us", "US")]),
        ("x.s", [("x.s", "XS")]),
        ("\uff32ose \ufb01ne", [("\uff32ose", "ROSE"), ("\ufb01ne", "FINE")]),
        ("rose\U0001f600 \U0001f600 \u266arose\u266a", [("rose", "ROSE"), ("rose", "ROSE")]),
        ("\u4e2d\u6587 \u00c5", [("\u4e2d\u6587", "\u4e2d\u6587"), ("\u00c5", "A")]),
    ],
)
def test_words_of_a_text(text: str, words: list[tuple[str, str]]) -> None:
    lexicon = {"IT'S", "X-RAY", "CAFE", "'TIS", "DOGS'", "ROSE", "AND", "AND/OR", "OR", "N/A", "SHE", "THE", "ROSES", "E.G.", "U.", "S",
               "USA", "US", "FINE", "XS"}  # fmt: skip
    assert [(w.written, w.key) for w in split_words(text, lexicon)] == words


@pytest.mark.parametrize(("rate", "channels", "kind"), [(16000, 1, "WAV"), (8000, 2, "FLAC"), (44100, 2, "OGG"), (22050, 1, "MP3")])
def test_audio_of_any_rate_and_channels(tmp_path: Path, rate: int, channels: int, kind: str) -> None:
    source = tone(tmp_path / f"a.{kind.lower()}", rate, 1.0, channels, kind)
    staged = stage(source, tmp_path / "out.wav", 16000, 0)
    samples, new_rate = soundfile.read(tmp_path / "out.wav")
    assert (staged.rate, staged.channels, new_rate, len(samples)) == (rate, channels, 16000, staged.samples)
    assert abs(staged.seconds - 1.0) < 0.2 and abs(len(samples) / 16000 - staged.seconds) < 1 / 8000
    spectrum = np.abs(np.fft.rfft(samples[:16000] * np.hanning(len(samples[:16000]))))
    assert abs(int(spectrum.argmax()) - 440) <= 2, "the first channel's tone"


def test_resampling_leaves_time_alone() -> None:
    click = np.zeros(44100, np.float32)
    click[22050] = 1.0
    assert int(np.abs(resample(click, 44100, 16000)).argmax()) == 8000


def test_channels_are_mixed_or_chosen(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", np.stack([np.linspace(0, 0.5, 8000), np.linspace(0, -0.25, 8000)], axis=1), 16000)
    for channel, last in (("mix", 0.125), ("1", 0.5), ("2", -0.25)):
        stage(tmp_path / "s.wav", tmp_path / "o.wav", 16000, parse_channel(channel))
        assert soundfile.read(tmp_path / "o.wav")[0][-1] == pytest.approx(last, abs=1e-3)
    with pytest.raises(KdError, match="2 channels, no channel 3"):
        stage(tmp_path / "s.wav", tmp_path / "o.wav", 16000, 2)
    with pytest.raises(UsageError, match="--channel left"):
        parse_channel("left")


def test_bad_audio_says_what_is_wrong(tmp_path: Path) -> None:
    whole = tone(tmp_path / "whole.wav").read_bytes()
    cases = {
        "empty": (b"", "is empty"),
        "text": (b"hello, no audio", "cannot be decoded"),
        "cut": (whole[:4000], "is truncated: it holds 1,978 samples .0.12 s. in 3,956 bytes, its header announces 8,000 samples"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / f"{name}.wav").write_bytes(data)
        with pytest.raises(KdError, match=message):
            stage(tmp_path / f"{name}.wav", tmp_path / "o.wav", 16000, None)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(tmp_path / "short.wav", RNG.uniform(-0.1, 0.1, 100), 16000)
    for name, message in (("silent", "is silent"), ("short", "100 samples at 16000 Hz")):
        with pytest.raises(KdError, match=message):
            stage(tmp_path / f"{name}.wav", tmp_path / "o.wav", 16000, None)


def parse_textgrid(path: Path) -> tuple[float, dict[str, list[tuple[float, float, str]]]]:
    """A strict reader of Praat's long format, written from Praat's manual, that shares nothing with the writer."""
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[:3] == ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""] and lines[-1] == ""
    rest = iter(lines[3:-1])

    def field(name: str) -> str:
        key, value = next(rest).strip().split(" = ", 1)
        assert key == name
        return value

    def text(name: str) -> str:
        value = field(name)
        assert re.fullmatch(r'"(?:[^"]|"")*"', value)
        return value[1:-1].replace('""', '"')

    low, high = float(field("xmin")), float(field("xmax"))
    assert low == 0 and next(rest) == "tiers? <exists>"
    count, tiers = int(field("size")), {}
    assert next(rest) == "item []:"
    for n in range(1, count + 1):
        assert next(rest).strip() == f"item [{n}]:" and text("class") == "IntervalTier"
        name = text("name")
        assert float(field("xmin")) == 0 and float(field("xmax")) == high
        size = int(field("intervals: size"))
        tiers[name] = []
        for i in range(1, size + 1):
            assert next(rest).strip() == f"intervals [{i}]:"
            tiers[name].append((float(field("xmin")), float(field("xmax")), text("text")))
    assert not [*rest]
    return high, tiers


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.booleans(), LABELS), min_size=1, max_size=20),
    st.floats(0.0, 0.02),
)
def test_textgrids_cover_the_file_without_gap_or_overlap(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bool, str]], tail: float
) -> None:
    intervals, at = [], 0
    for frames, kept, label in pieces:
        if kept:
            intervals.append((round(at * 0.01, 6), round((at + frames) * 0.01, 6), label))
        at += frames
    duration = at * 0.01 + tail
    duration = max(duration, intervals[-1][1] if intervals else 0.0)
    path = tmp_path_factory.mktemp("grid") / "a.TextGrid"
    write_textgrid(path, duration, [("words", intervals), ("empty", [])])
    high, tiers = parse_textgrid(path)
    assert high == duration
    for tier in tiers.values():
        assert tier[0][0] == 0 and tier[-1][1] == duration
        assert all(a[1] == b[0] for a, b in itertools.pairwise(tier)) and all(s < e for s, e, _ in tier)
    assert [t for t in tiers["words"] if t in intervals] == intervals


def test_an_interval_outside_or_over_another_is_an_error() -> None:
    for bad in ([(0.0, 1.0, "a"), (0.5, 1.5, "b")], [(0.0, 2.5, "a")], [(-0.1, 0.2, "a")], [(0.3, 0.3, "a")]):
        with pytest.raises(KdError, match="interval"):
            fill(bad, 2.0)


def brute_force(graph: object, scores: np.ndarray) -> np.ndarray:
    """P(HMM state at each frame) by a dense forward-backward in torch: float64 (T, H)."""
    size = graph.num_hmm_states  # type: ignore[attr-defined]
    arcs = torch.full((size + 2, size + 2), -torch.inf, dtype=torch.float64)
    arcs[torch.from_numpy(graph.src).long(), torch.from_numpy(graph.dst).long()] = 0.0  # type: ignore[attr-defined]
    local = np.searchsorted(graph.used_pdfs(), graph.pdf) + 1  # type: ignore[attr-defined]
    own = torch.from_numpy(scores[:, local].astype(np.float64))
    forward = [arcs[0, 1:-1] + own[0]]
    for t in range(1, len(scores)):
        forward.append(torch.logsumexp(forward[-1][:, None] + arcs[1:-1, 1:-1], 0) + own[t])
    backward = [arcs[1:-1, -1]]
    for t in range(len(scores) - 1, 0, -1):
        backward.append(torch.logsumexp(arcs[1:-1, 1:-1] + (own[t] + backward[-1])[None], 1))
    total = torch.stack(forward) + torch.stack(backward[::-1])
    return torch.exp(total - torch.logsumexp(total, 1, keepdim=True)).numpy()


def small_graph() -> object:
    prons = {"AB": [(2, 3)], "BA": [(3, 2), (3, 3, 2)], "<UNK>": [(4,)]}
    tree = Tree.monophone({1: 3, 2: 3, 3: 3, 4: 3})
    return GraphBuilder(Words(prons, 1, "<UNK>"), tree).build(["AB", "BA", "AB"])


@pytest.mark.parametrize("seed", range(4))
def test_confidence_is_the_posterior_of_a_brute_force_forward_backward(seed: int) -> None:
    graph = small_graph()
    rng = np.random.default_rng(seed)
    frames, scale = 45, 0.5
    scores = rng.normal(0, 2, (frames, 1 + len(graph.used_pdfs()))).astype(np.float32)  # type: ignore[attr-defined]
    found = align_scores(graph, graph.to_fsa(), scores, scale)  # type: ignore[attr-defined, arg-type]
    assert found is not None
    posterior = brute_force(graph, scores * scale)
    word, phone = graph.word, graph.phone  # type: ignore[attr-defined]
    assert sum(p.length for p in found.phones) == frames and [w.id for w in found.words] == [0, 1, 2]
    for piece in found.words:
        inside = posterior[piece.start : piece.start + piece.length][:, word == piece.id].sum(1)
        assert piece.confidence == pytest.approx(inside.mean(), abs=2e-4)
    for piece in found.phones:
        mine = (phone == piece.id) & (word == piece.word)
        inside = posterior[piece.start : piece.start + piece.length][:, mine].sum(1)
        assert piece.confidence == pytest.approx(inside.mean(), abs=2e-4)
        assert sum(piece.states) == piece.length


def test_the_best_path_does_not_depend_on_the_scale() -> None:
    graph = small_graph()
    scores = RNG.normal(0, 3, (60, 1 + len(graph.used_pdfs()))).astype(np.float32)  # type: ignore[attr-defined]
    found = [align_scores(graph, graph.to_fsa(), scores, scale) for scale in (1.0, 0.1)]  # type: ignore[attr-defined, arg-type]
    spans = [[(p.id, p.start, p.length) for p in f.phones] for f in found if f]
    assert spans[0] == spans[1]
    assert found[0] and found[1] and found[0].loglike == pytest.approx(found[1].loglike, abs=1e-2)


def test_what_is_too_long_for_an_exact_search_is_searched_with_beams(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_graph()
    scores = RNG.normal(0, 3, (60, 1 + len(graph.used_pdfs()))).astype(np.float32)  # type: ignore[attr-defined]
    exact = align_scores(graph, graph.to_fsa(), scores, 0.1)  # type: ignore[attr-defined, arg-type]
    monkeypatch.setattr("kdtool.graph.k2api.EXACT_LIMIT", 0)
    pruned = align_scores(graph, graph.to_fsa(), scores, 0.1)  # type: ignore[attr-defined, arg-type]
    assert exact and pruned and [(p.id, p.start, p.length) for p in exact.phones] == [(p.id, p.start, p.length) for p in pruned.phones]
    np.testing.assert_allclose([p.confidence for p in pruned.phones], [p.confidence for p in exact.phones], atol=1e-3)
    short = align_scores(graph, graph.to_fsa(), scores[:10], 0.1)  # type: ignore[attr-defined, arg-type]
    assert short is None, "no beam finds a path that does not exist"


def test_times_end_with_the_file_and_wrong_ones_are_refused() -> None:
    piece = {"confidence": 0.9, "loglike": -1.0, "word": -1, "states": [1, 1, 1]}
    fit = {"llr": -1.0, "fit": 0.4, "start": 0, "stop": 9, "heard": [2], "exchanged": -1,
           "words": [{"llr": -2.0, "fit": 0.3, "heard": [2]}]}  # fmt: skip
    row = {"frames": 6, "loglike": -6.0, "fit": fit, "edges": [0.0, 0.03, 0.0567],
           "words": [{**piece, "id": 0, "start": 3, "length": 3, "word": 0}],
           "phones": [{**piece, "id": 1, "start": 0, "length": 3}, {**piece, "id": 2, "start": 3, "length": 3, "word": 0}]}  # fmt: skip
    one = to_aligned(row, "a", "a.wav", 0.0567, [("A", "A")], ["<eps>", "SIL", "AA"])
    assert [(p.label, p.start, p.end) for p in one.phones] == [("SIL", 0.0, 0.03), ("AA", 0.03, 0.0567)]
    assert (one.wrong, one.wrong_words, one.words[0].heard) == (Doubt(0.0, 0.0567, "A", "AA", False), 1, "AA")
    assert [(s.label, s.end) for s in one.states][-3:] == [("AA_0", 0.0389), ("AA_1", 0.0478), ("AA_2", 0.0567)]
    with pytest.raises(KdError, match="says words"):
        to_aligned(row, "a", "a.wav", 0.0567, [("A", "A"), ("B", "B")], ["<eps>", "SIL", "AA"])
    with pytest.raises(KdError, match="word A at"):
        to_aligned({**row, "edges": [0.0, 0.03, 0.03]}, "a", "a.wav", 0.03, [("A", "A")], ["<eps>", "SIL", "AA"])


def test_the_report_shows_what_fits_worst_or_the_chosen_files_and_runs_its_own_script_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(name: str, fit: float) -> Aligned:
        word = Interval(f"<b>{name}</b>", 0.1, 0.4, 0.99, -1.0, 0, "X", -3.0, fit, "<i>K")
        phones = [Interval("SIL", 0.0, 0.1, 1.0, -1.0), Interval("AA", 0.1, 0.4, 0.8, -1.0, 0), Interval("SIL", 0.4, 0.5, 1.0, -1.0)]
        return Aligned(name, f"{name}.wav", 0.5, [word], phones, [], -50.0, -2.0, fit, Doubt(0.1, 0.3, f"<b>{name}</b>", "<i>K", False))

    files = [one("a", 0.99), one('"><script>', 0.4), one("c", 0.7)]
    assert [f.name for f in choose(files, 2, [])] == ['"><script>', "c"]
    assert [f.name for f in choose(files, 2, ["c", "gone", "a"])] == ["c", "a"]
    assert "--report-files gone" in capsys.readouterr().err
    write_report(tmp_path / "r.html", files, files, [("<i>bad</i>", "no <audio>")], lambda name: (RNG.normal(0, 0.1, (1, 8000)), 16000))
    page = (tmp_path / "r.html").read_text()
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert scripts == [player.SCRIPT] and f"script-src 'sha256-{digest}'" in page and page.count("<script") == 1
    assert page.count("<svg") == 3 and not re.search(r"<(i|audio)>|<b><|https?:|\son\w+=", page)
    assert page.index("file0") < page.index("file1") and page.count('fill="#fbb"') == 1 and "Looks wrong" in page
    sounds = [soundfile.read(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"data:audio/flac;base64,([^\"]+)", page)]
    assert [(len(samples), rate) for samples, rate in sounds] == [(8000, 16000)] * 3
    assert re.search(r'<g data-sound="sound1" data-from="0.1000" data-to="0.4000"><title>', page)
    png_bytes = base64.b64decode(re.findall(r"data:image/png;base64,([^\"]+)", page)[0])
    width, height, depth = struct.unpack(">IIB", png_bytes[16:25])
    rows = zlib.decompress(png_bytes[png_bytes.index(b"IDAT") + 4 : -16])
    assert png_bytes[:8] == b"\x89PNG\r\n\x1a\n" and (height, depth) == (96, 8) and len(rows) == height * (width + 1)
    html.parser.HTMLParser().feed(page)


def test_of_a_long_file_the_report_shows_and_plays_where_the_text_fits_worst(tmp_path: Path) -> None:
    words = [Interval(f"W{n}", n + 0.25, n + 0.75, 1.0, -1.0, n, "X", -3.0, 0.2 if n == 70 else 0.9, "K") for n in range(100)]
    phones = [Interval("SIL", 0.0, 100.0, 1.0, -1.0)]
    one = Aligned("long", "long.wav", 100.0, words, phones, [], -50.0, -2.0, 0.3, Doubt(70.0, 70.8, "W70", "K", False))
    line = window(one)
    assert (line.start, line.end) == (55.4, 85.4)
    assert (window(replace(one, fit=0.9)).start, window(replace(one, duration=20.0)).end) == (0.0, 20.0)
    write_report(tmp_path / "r.html", [one], [one], [], lambda name: (RNG.normal(0, 0.1, (1, 800000)), 8000))
    page = (tmp_path / "r.html").read_text()
    sound = soundfile.info(io.BytesIO(base64.b64decode(re.findall(r"data:audio/flac;base64,([^\"]+)", page)[0])))
    assert sound.frames == 240000 and "Shown: 55.4 to 85.4 s" in page
    assert re.search(r'<span class="bad" data-sound="sound0" data-from="14.8500" data-to="15.3500" [^>]*>W70<', page)
    assert '<span title="W0 0.250' in page and page.count('class="bad" data-sound') == 1


def test_boundary_errors_compare_what_matches() -> None:
    assert match(["A", "R", "K"], ["A", "K"]) == [(0, 0), (2, 1)]
    truth = single_phones([["AA R", 0.1, 0.3], ["K", 0.3, 0.4]])
    assert truth == [("AA", 0.1, None), ("R", None, 0.3), ("K", 0.3, 0.4)]
    found = [("AA", 0.12, 0.2), ("R", 0.2, 0.31), ("T", 0.31, 0.4)]
    assert errors(truth, found) == pytest.approx([0.02, 0.01])  # type: ignore[arg-type]
    result = figures([0.02, -0.01, 0.06])
    assert (result["boundaries"], result["mean"], result["median"], result["within_20ms"]) == (3, 30.0, 20.0, 66.67)
    with pytest.raises(KdError, match="no boundary"):
        figures([])


def test_the_command_lists_runs_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    kdtool([])
    listing = capsys.readouterr().out
    assert all(name in listing for name in COMMANDS)
    with pytest.raises(UsageError, match="no command 'aling'"):
        kdtool(["aling"])
    with pytest.raises(UsageError, match="the output folder are needed"):
        kdtool(["align", "--model", "x", "y"])
