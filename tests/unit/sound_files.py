"""Audio files of all kinds, made here: a tone with noise, whole, streamed, cut and spoilt."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import soundfile

from kdtool.audio.mpeg import frame

RATE, SAMPLES = 16000, 8000
NOISE = 0.01 * np.random.default_rng(0).standard_normal(SAMPLES)
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / RATE) + NOISE).astype("float32")
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
# suffix -> (format, coding, largest difference of a sample); those of which libsndfile writes no more than it was given
EXACT = {
    "wav": ("WAV", "PCM_16", 1e-4), "u8.wav": ("WAV", "PCM_U8", 1e-2), "24.wav": ("WAV", "PCM_24", 1e-6), "32.wav": ("WAV", "PCM_32", 1e-6),
    "float.wav": ("WAV", "FLOAT", 0.0), "double.wav": ("WAV", "DOUBLE", 0.0), "ulaw.wav": ("WAV", "ULAW", 0.02),
    "alaw.wav": ("WAV", "ALAW", 0.02), "x.wav": ("WAVEX", "PCM_16", 1e-4), "rf64": ("RF64", "PCM_16", 1e-4), "w64": ("W64", "PCM_24", 1e-4),
    "aiff": ("AIFF", "PCM_16", 1e-4), "float.aifc": ("AIFF", "FLOAT", 0.0), "caf": ("CAF", "PCM_16", 1e-4),
    "alac.caf": ("CAF", "ALAC_16", 1e-4),
    "au": ("AU", "PCM_16", 1e-4), "s8.au": ("AU", "PCM_S8", 1e-2), "sph": ("NIST", "PCM_16", 1e-4), "flac": ("FLAC", "PCM_16", 1e-4),
    "voc": ("VOC", "PCM_16", 1e-4), "avr": ("AVR", "PCM_16", 1e-4), "svx": ("SVX", "PCM_16", 1e-4), "mat": ("MAT5", "PCM_16", 1e-4),
    "mat4": ("MAT4", "FLOAT", 0.0), "snd": ("MPC2K", "PCM_16", 1e-4), "htk": ("HTK", "PCM_16", 1e-4), "ogg": ("OGG", "VORBIS", 0.2),
    "opus": ("OGG", "OPUS", 0.3), "mp3": ("MP3", "MPEG_LAYER_III", 0.2),
}  # fmt: skip
BLOCKS = {"ima.wav": ("WAV", "IMA_ADPCM", 0.3), "ms.wav": ("WAV", "MS_ADPCM", 0.3), "gsm.wav": ("WAV", "GSM610", 0.4),
          "ima.w64": ("W64", "IMA_ADPCM", 0.3)}  # fmt: skip
OPEN = {"pvf": ("PVF", "PCM_16", 1e-4), "paf": ("PAF", "PCM_16", 1e-4), "ircam": ("IRCAM", "PCM_16", 1e-4)}  # without a length
ALL = {**EXACT, **BLOCKS, **OPEN}


def make(path: Path, kind: str = "wav", signal: np.ndarray = TONE, rate: int = RATE) -> bytes:
    """Write a file of a kind of `ALL`; its bytes."""
    form, coding, _ = ALL[kind]
    soundfile.write(path, signal, rate, format=form, subtype=coding)
    return path.read_bytes()


def wav(length: int | None = None, riff: int | None = None, tail: bytes = b"", signal: np.ndarray = TONE) -> bytes:
    """A 16-bit WAV whose header says other lengths, and with something behind the audio."""
    data = np.rint(signal * 32767).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    size = len(data) if length is None else length
    whole = 36 + len(data) + len(tail) if riff is None else riff
    return b"RIFF" + struct.pack("<I", whole) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + data + tail


def streamed(kind: str, data: bytes) -> bytes:
    """The file as a program writes it that cannot go back."""
    b = bytearray(data)
    at = b.find({"w64": b"data", "caf": b"data", "rf64": b"data", "aiff": b"SSND"}.get(kind, b"data"))
    if kind == "rf64":
        b[28:36] = b"\xff" * 8
    elif kind == "w64":
        b[at + 16 : at + 24] = b"\xff" * 7 + b"\x7f"
    elif kind == "caf":
        b[at + 4 : at + 12] = b"\xff" * 8
    elif kind == "aiff":
        b[4:8] = b[22:26] = b[at + 4 : at + 8] = bytes(4)
    elif kind == "au":
        b[8:12] = b"\xff" * 4
    elif kind == "flac":
        b[21], b[22:26] = b[21] & 0xF0, bytes(4)
    elif kind == "mp3":  # without the header frame that says the number of frames
        head = frame(data[:4])
        assert head is not None
        del b[: head.size]
    return bytes(b)


def aiff_behind_its_end(path: Path) -> bytes:
    """An AIFF stream whose audio would begin behind the end of the file."""
    data = bytearray(streamed("aiff", make(path, "aiff")))
    at = data.index(b"SSND") + 8
    data[at : at + 4] = b"\0\xff\0\0"
    return bytes(data)


def sphere_with_shorten() -> bytes:
    """A header as that of WSJ and Switchboard."""
    head = b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nsample_rate -i 16000\nend_head\n"
    return head.ljust(1024) + b"ajkg" + bytes(500)


FOREIGN = {
    "M4A": b"\0\0\0\x1cftypM4A " + bytes(80), "MOV": b"\0\0\0\x14ftypqt  " + bytes(80), "AAC": b"\xff\xf1\x60\x40" + bytes(80),
    "WMA": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(80), "AMR": b"#!AMR\n" + bytes(80), "WebM": b"\x1a\x45\xdf\xa3" + bytes(80),
    "AVI": b"RIFF\0\0\0\0AVI LIST" + bytes(80), "AC-3": b"\x0b\x77" + bytes(80), "WavPack": b"wvpk" + bytes(80),
    "Speex": b"OggS\0\x02" + bytes(20) + b"\x01\x50Speex   " + bytes(80),
    "FLAC in Ogg": b"OggS\0\x02" + bytes(20) + b"\x01\x33\x7fFLAC\1\0" + bytes(80),
}  # fmt: skip
