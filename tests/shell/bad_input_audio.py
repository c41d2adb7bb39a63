"""Audio files that cannot be read completely, one case each for the import and the aligner; the treatment of all kinds is in
egs/kaldi_dir/README.md's table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad_input_changes import Case, Change
from bad_input_kaldi import spoil
from sound_files import FOREIGN, TONE, aiff_behind_its_end, make, sphere_with_shorten, wav

NAN = np.where(np.arange(len(TONE)) == 4321, np.nan, TONE)
Bytes = Callable[[Path], bytes]


def cut(kind: str, share: float = 0.6) -> Bytes:
    """The beginning of a sound file."""

    def data(path: Path) -> bytes:
        whole = make(path, kind)
        return whole[: int(share * len(whole))]

    return data


def hole(path: Path) -> bytes:
    """An Ogg file in the last page of which some bytes are 0."""
    whole = make(path, "ogg")
    return whole[:-100] + bytes(50) + whole[-50:]


def alone(data: Bytes, suffix: str = ".wav") -> Change:
    """A folder with this audio and its text, to align."""

    def change(world: Path) -> None:
        (world / "wavs").mkdir()
        path = world / "wavs" / f"a{suffix}"
        path.write_bytes(data(path))
        path.with_suffix(".txt").write_text("ABBA KA\n")

    return change


def among(data: Bytes) -> Change:
    """A Kaldi folder with this audio among others."""

    return spoil(lambda kaldi: (kaldi / "audio" / "a-1.wav").write_bytes(data(kaldi / "audio" / "a-1.wav")))


LENGTHS = ["is truncated: it holds 4,782 samples (0.30 s) in 9,564 bytes, its header announces 8,000 samples (0.50 s) in 16,000"]
FILES: list[tuple[str, Bytes, list[str]]] = [
    ("WAV that ends early", lambda p: wav()[:9608], LENGTHS),
    ("float WAV that ends early", cut("float.wav"), ["is truncated", "its header announces 8,000 samples (0.50 s) in 32,000"]),
    ("AIFF that ends early", cut("aiff"), ["is truncated", "its header announces 8,000 samples (0.50 s) in 16,000"]),
    ("CAF that ends early", cut("caf", 0.8), ["is truncated", "its header announces 8,000 samples (0.50 s) in 16,000"]),
    ("sphere that ends early", cut("sph"), ["is truncated", "its header announces 8,000 samples (0.50 s) in 16,000"]),
    ("ADPCM that ends early", cut("ima.wav"), ["is truncated: it holds", "its header announces"]),
    ("FLAC that ends early", cut("flac"), ["is truncated", "its header announces 8,000 samples (0.50 s)"]),
    ("Ogg Vorbis that ends early", cut("ogg"), ["is truncated", "of its last page it holds"]),
    ("MP3 that ends early", cut("mp3"), ["is truncated: it holds", "its header announces"]),
    ("Ogg Vorbis with a hole", hole, ["is damaged: its Ogg page at byte", "does not match its checksum"]),
    ("MP3 files of two rates joined", lambda p: make(p, "mp3") + make(p, "mp3", rate=44100), ["changes from 16000 to 44100 Hz"]),
    ("WAV with more audio than it announces", lambda p: wav(8000), ["holds more than it announces: it announces 4,000 samples (0.25 s), "
                                                                    "behind which lie 8,000 bytes more", "-ignore_length 1"]),
    ("two WAV files joined", lambda p: wav() + wav(), ["holds more than it announces: it announces 8,000 samples (0.50 s)", "head -c"]),
    ("NaN in a float WAV", lambda p: make(p, "float.wav", NAN), ["not a number (NaN): sample 4,321 of channel 0, both from 0 (0.270 s)"]),
    ("float WAV that was not scaled", lambda p: make(p, "float.wav", 32768 * TONE), ["float samples up to 1", "not scaled", "volume="]),
    ("WAV without samples", lambda p: wav(signal=TONE[:0]), ["holds no audio (0 samples behind its header)"]),
    ("AIFF stream that begins behind its end", aiff_behind_its_end, ["holds no audio (0 samples behind its header)"]),
    ("WAV of 1 Hz", lambda p: make(p, rate=1), ["has 1 Hz by its header, 1000 to 192000 are read"]),
    ("M4A named .wav", lambda p: FOREIGN["M4A"], ["is MP4, M4A or MOV (AAC), which is not read", "ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"]),
    ("WMA named .wav", lambda p: FOREIGN["WMA"], ["is WMA or WMV (ASF), which is not read", "ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"]),
    ("sphere with Shorten", lambda p: sphere_with_shorten(), ["is compressed with Shorten", "sph2pipe -f wav IN OUT.wav"]),
    ("web page named .wav", lambda p: b"<!DOCTYPE html><html>", ["is a web page or XML, not audio", "fetch the audio again"]),
    ("Git LFS pointer", lambda p: b"version https://git-lfs.github.com/spec/v1\noid", ["is a Git LFS pointer", "git lfs pull"]),
    ("samples without a header", lambda p: (TONE * 32767).astype("<i2").tobytes(), ["which no known audio format does", "sox -t raw"]),
]  # fmt: skip
CASES = [
    *(Case("file to align", name, "aligner", alone(data), ["a.wav", *words]) for name, data, words in FILES),
    Case("file to align", "M4A", "aligner", alone(lambda p: FOREIGN["M4A"], ".m4a"), ["a.m4a is MP4, M4A or MOV", "convert it: ffmpeg"]),
    Case("file to align", "raw samples", "aligner", alone(lambda p: TONE.tobytes(), ".raw"), ["a.raw (.raw) has no header", "sox -t raw"]),
    *(Case("recording to import", name, "import", among(data), ["a-1: ", "a-1.wav", *words]) for name, data, words in FILES),
]  # fmt: skip
