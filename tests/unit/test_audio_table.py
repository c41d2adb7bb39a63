"""Each row of the table of audio files in egs/kaldi_dir/README.md, by files of that kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sound_files import (
    ALL,
    BLOCKS,
    EXACT,
    FOREIGN,
    LIST,
    OPEN,
    RATE,
    SAMPLES,
    TONE,
    aiff_behind_its_end,
    make,
    sphere_with_shorten,
    streamed,
    wav,
)

from kdtool.aligner.audio import stage
from kdtool.audio.faults import AudioFault
from kdtool.audio.reader import check, header, read
from kdtool.core.errors import KdError
from kdtool.corpus.utterance import Limits, check_audio

README = Path(__file__).resolve().parents[2] / "egs" / "kaldi_dir" / "README.md"
TABLE = README.read_text(encoding="utf-8").split("| audio file | what is done |\n|---|---|\n")[1].split("\n\n")[0]
ROWS = [line.split(" | ")[0].removeprefix("| ") for line in TABLE.strip().split("\n")]
Row = Callable[[Path], None]
CHECKS: dict[str, Row] = {}


def row(begin: str) -> Callable[[Row], Row]:
    """Names the row of the table, by its first words, that a function checks."""

    def name(test: Row) -> Row:
        (what,) = [r for r in ROWS if r.startswith(begin)]
        CHECKS[what] = test
        return test

    return name


def same(path: Path, difference: float, samples: int = SAMPLES) -> None:
    """The file is read whole, and holds the tone."""
    sound, (found, rate) = check(path), read(path)
    assert (sound.samples, sound.rate, rate, found.dtype, found.shape) == (samples, RATE, RATE, np.float32, (1, samples))
    assert header(path).samples == samples and not sound.notes
    length = min(samples, SAMPLES)
    assert np.abs(found[0, :length] - TONE[:length]).max() <= difference


def refused(path: Path, data: bytes, *words: str) -> None:
    """Every way to read the file is refused with these words."""
    path.write_bytes(data)
    for way in (check, read):
        with pytest.raises(AudioFault) as told:
            way(path)
        assert str(told.value).startswith(f"{path} ") and all(word in str(told.value) for word in words), told.value
    assert check_audio(path, Limits(sampling_rate=None, mono=False))[0] == str(told.value)
    with pytest.raises(KdError) as told:
        stage(path, path.with_name("staged.wav"), RATE, None)
    assert all(word in str(told.value) for word in words), told.value


def noted(path: Path, data: bytes, *words: str, samples: int = SAMPLES) -> None:
    """The file is read, with one note."""
    path.write_bytes(data)
    sound = check(path)
    assert sound.samples == samples and len(sound.notes) == 1 and all(word in sound.notes[0] for word in words), sound


@row("integers of 8")
def integers(folder: Path) -> None:
    for kind in ("u8.wav", "s8.au", "wav", "24.wav", "32.wav"):
        make(folder / kind, kind)
        same(folder / kind, EXACT[kind][2])


@row("float of 32")
def floats(folder: Path) -> None:
    for kind in ("float.wav", "double.wav", "float.aifc"):
        make(folder / kind, kind)
        same(folder / kind, 0.0)
    noted(folder / "a", make(folder / "b", "float.wav", 4 * TONE), "its float samples reach 1.3", "above full scale")
    assert np.array_equal(read(folder / "a")[0][0], 4 * TONE)


@row("float with a peak")
def unscaled(folder: Path) -> None:
    refused(folder / "a", make(folder / "b", "float.wav", 32768 * TONE), "float samples up to 1", "not scaled", "volume=1/32768")


@row("a sample that is NaN")
def not_finite(folder: Path) -> None:
    for value, word in ((np.nan, "not a number (NaN)"), (np.inf, "infinite"), (-np.inf, "infinite")):
        signal = np.stack([TONE, TONE], axis=1)
        signal[4000:, 1] = value
        refused(folder / "a", make(folder / "b", "float.wav", signal), word, "sample 4,000 of channel 1", "0.250 s")


@row("mu-law")
def codecs(folder: Path) -> None:
    for kind in ("ulaw.wav", "alaw.wav"):
        make(folder / kind, kind)
        same(folder / kind, EXACT[kind][2])
    for kind in BLOCKS:
        make(folder / kind, kind)
        same(folder / kind, BLOCKS[kind][2], header(folder / kind).samples)
        assert 0 <= header(folder / kind).samples - SAMPLES < 2048


@row("WAV, RF64")
def formats(folder: Path) -> None:
    for kind in EXACT:
        for name in ("a.bin", "a.au", "a.gsm", "a.wav", "a"):  # libsndfile itself goes by some of these
            make(folder / name, kind)
            same(folder / name, EXACT[kind][2])
    soundfile.write(folder / "a.raw", TONE, 8000, format="RAW", subtype="GSM610")
    (folder / "a.raw").rename(folder / "g")
    assert (check(folder / "g").samples, check(folder / "g").rate, check(folder / "g").kind) == (8000, 8000, "GSM 6.10")


@row("a streamed header")
def streams(folder: Path) -> None:
    for length in (0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF):
        for riff in (0, 0x7FFFF024, 0xFFFFFFFF):
            for tail in (b"", LIST):
                (folder / "a").write_bytes(wav(length, riff, tail))
                same(folder / "a", 1e-4)
    for kind in ("rf64", "w64", "caf", "aiff", "au"):
        (folder / "a").write_bytes(streamed(kind, make(folder / "b", kind)))
        same(folder / "a", 1e-4)


@row("a header that announces more")
def cut(folder: Path) -> None:
    for kind in [k for k in (*EXACT, *BLOCKS) if ALL[k][0] not in ("FLAC", "OGG", "MP3")]:
        data = make(folder / "b", kind)
        refused(folder / "a", data[: len(data) * 6 // 10], "is truncated", " s) in ", "announces")
    refused(folder / "a", wav(20000), "it holds 8,000 samples (0.50 s) in 16,000 bytes, its header announces 10,000 samples (0.62 s)")


@row("a header that announces less")
def more(folder: Path) -> None:
    (folder / "a").write_bytes(wav(tail=LIST))
    same(folder / "a", 1e-4)
    refused(folder / "a", wav(8000), "announces 4,000 samples (0.25 s)", "8,000 bytes more", "4,000 samples (0.25 s)", "-ignore_length 1",
            "head -c 8044 ")  # fmt: skip
    refused(folder / "a", wav() + wav(), "holds more than it announces")
    noted(folder / "a", wav(tail=bytes(20000)), "announces 8,000 samples (0.50 s)", "20,000 bytes more", "left out")
    noted(folder / "a", wav(tail=b"TAG" + b"x" * 125), "128 bytes more (as many as 64 samples (0.00 s))")
    for kind in ("w64", "sph", "au", "aiff", "caf", "avr"):
        refused(folder / "a", make(folder / "b", kind) + b"more of it" * 1000, "holds more than it announces", "announces 8,000 samples")


@row("FLAC that ends")
def cut_flac(folder: Path) -> None:
    data = make(folder / "b", "flac")
    for part in (0.3, 0.6, 0.99):
        refused(folder / "a", data[: int(part * len(data))], "is truncated", "announces 8,000 samples (0.50 s)", "fetch it again")


@row("FLAC whose encoder")
def streamed_flac(folder: Path) -> None:
    data = streamed("flac", make(folder / "b", "flac"))
    (folder / "a").write_bytes(data)
    same(folder / "a", 1e-4)
    refused(folder / "a", data[: len(data) * 6 // 10], "truncated or damaged", "can be decoded")


@row("Ogg that ends")
def cut_ogg(folder: Path) -> None:
    for kind in ("ogg", "opus"):
        data = make(folder / "b", kind)
        refused(folder / "a", data[: len(data) * 9 // 10], "is truncated", "can be decoded", "of its last page it holds")
    refused(folder / "a", data + data, "holds several streams")
    data = make(folder / "b", "opus", np.tile(TONE, 8))  # several pages of audio
    pages = data.split(b"OggS")
    refused(folder / "a", b"OggS".join([*pages[:3], *pages[4:]]), "lacks pages 2 to 2")
    hole = pages[3][:500] + bytes(50) + pages[3][550:]
    refused(folder / "a", b"OggS".join([*pages[:3], hole, *pages[4:]]), "Ogg page at byte", "does not match its checksum")


@row("Ogg without")
def open_ogg(folder: Path) -> None:
    signal = np.tile(TONE, 8)  # several pages
    data = make(folder / "b", "opus", signal)
    sound = header(folder / "b")
    (folder / "a").write_bytes(data[: data.rindex(b"OggS")])
    found = check(folder / "a")
    assert 0 < found.samples < sound.samples and "no end mark" in found.notes[0]


@row("MP3 with a")
def cut_mp3(folder: Path) -> None:
    data = make(folder / "b", "mp3")
    refused(folder / "a", data[: len(data) // 2], "is truncated: it holds", "its header announces", "samples")


@row("MP3 files joined")
def joined_mp3(folder: Path) -> None:
    data = make(folder / "b", "mp3")
    tag = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    for between in (b"", tag, b"TAG" + bytes(125), b"TAG" + bytes(125) + tag):
        refused(folder / "a", data + between + data, "holds more than it announces", "were two files joined?")
    for between in (b"", tag):
        other = make(folder / "b", "mp3", rate=44100)
        refused(folder / "a", data + between + other, "changes from 16000 to 44100 Hz", "were two files joined?")
    open_end = streamed("mp3", data)
    (folder / "a").write_bytes(open_end + tag + open_end)
    (folder / "b").write_bytes(open_end)
    assert check(folder / "a").samples == 2 * check(folder / "b").samples


@row("MP3 without")
def open_mp3(folder: Path) -> None:
    data = streamed("mp3", make(folder / "b", "mp3", np.concatenate([0 * TONE, 3 * TONE, 0.1 * TONE])))  # of variable rate
    frames = -(-3 * SAMPLES // 576)
    (folder / "a").write_bytes(data)
    sound = check(folder / "a")
    assert sound.samples % 576 == 0 and frames <= sound.samples // 576 <= frames + 3 and not sound.notes
    whole = read(folder / "a")[0]
    assert np.abs(read(folder / "a", 9000, 12000)[0] - whole[:, 9000:12000]).max() < 1e-6
    noted(folder / "a", data[:-5], "its last frame is cut", "its end may be missing", samples=sound.samples - 576)


@row("PVF, PAF")
def without_length(folder: Path) -> None:
    for kind in OPEN:
        make(folder / "a", kind)
        same(folder / "a", 1e-4)


@row("NIST sphere with")
def shorten(folder: Path) -> None:
    refused(folder / "a", sphere_with_shorten(), "compressed with Shorten", "sph2pipe -f wav IN OUT.wav")


@row("M4A")
def foreign(folder: Path) -> None:
    for name, data in FOREIGN.items():
        refused(folder / "a.wav", data, name, "which is not read; convert it: ffmpeg -i IN -ac 1 -ar 16000 OUT.wav")
    refused(folder / "a.m4a", bytes(100), "(.m4a) is not read; convert it: ffmpeg")


@row("no header")
def headerless(folder: Path) -> None:
    for suffix in (".raw", ".pcm", ".vox"):
        refused(folder / f"a{suffix}", TONE.tobytes(), "has no header that says its rate", "sox -t raw -r RATE")


@row("text, a web page")
def no_audio(folder: Path) -> None:
    kinds = {b"hello world" * 9: "begins with 68 65 6c 6c", b"<!DOCTYPE html>": "web page", b"\x1f\x8b\x08" + bytes(50): "gzip file",
             b"version https://git-lfs.github.com/spec/v1\n": "Git LFS pointer", b"PK\x03\x04" + bytes(50): "zip file"}  # fmt: skip
    for data, word in kinds.items():
        for suffix in ("wav", "au", "gsm", "mp3"):
            refused(folder / f"a.{suffix}", data, word)


@row("0 bytes")
def nothing(folder: Path) -> None:
    refused(folder / "a", b"", "is empty (0 bytes)")
    refused(folder / "a", wav(signal=TONE[:0]), "holds no audio")
    refused(folder / "a", wav(signal=TONE[:0], tail=LIST), "holds no audio")
    refused(folder / "a", aiff_behind_its_end(folder / "b"), "holds no audio")


@row("all samples equal")
def silent(folder: Path) -> None:
    for level in (0.0, 0.5):
        make(folder / "a", "float.wav", np.full(SAMPLES, level))
        assert check(folder / "a").constant
        assert "is silent (all 8000 samples are equal)" in check_audio(folder / "a", Limits())[0]
        with pytest.raises(KdError, match="is silent"):
            stage(folder / "a", folder / "staged.wav", RATE, None)


@row("less than 0.1 s")
def short(folder: Path) -> None:
    make(folder / "a", "wav", TONE[:1000])
    assert "has 1000 samples, less than 0.1 s" in check_audio(folder / "a", Limits())[0]
    assert stage(folder / "a", folder / "staged.wav", RATE, None).samples == 1000
    make(folder / "a", "wav", TONE[:400])
    with pytest.raises(KdError, match=r"400 samples at 16000 Hz, less than 0\.03 s"):
        stage(folder / "a", folder / "staged.wav", RATE, None)


@row("a rate below")
def rates(folder: Path) -> None:
    for rate in (1, 200, 400000):
        refused(folder / "a", make(folder / "b", "wav", rate=rate), f"has {rate} Hz by its header, 1000 to 192000 are read")
    data = bytearray(wav())
    data[24:28] = bytes(4)
    refused(folder / "a", bytes(data), "cannot be decoded")
    make(folder / "a", "wav", rate=6000)
    assert "has 6000 Hz, less than 8000" in check_audio(folder / "a", Limits(sampling_rate=None))[0]


@row("several channels")
def channels(folder: Path) -> None:
    signal = np.stack([TONE, 0.5 * TONE, *([0 * TONE] * 30)], axis=1)
    soundfile.write(folder / "a.wav", signal, RATE, subtype="FLOAT")
    assert check(folder / "a.wav").channels == 32 and np.array_equal(read(folder / "a.wav")[0], signal.T.astype("float32"))
    for channel, factor in ((0, 1.0), (1, 0.5), (None, 1.5 / 32)):
        stage(folder / "a.wav", folder / "staged.wav", RATE, channel)
        assert np.abs(read(folder / "staged.wav")[0][0] - factor * TONE).max() < 1e-4


@pytest.mark.parametrize("what", ROWS, ids=[f"{what[:30]}" for what in ROWS])
def test_the_row_is_true(what: str, tmp_path: Path) -> None:
    CHECKS[what](tmp_path)


def test_each_check_has_its_row() -> None:
    assert list(CHECKS) == ROWS
