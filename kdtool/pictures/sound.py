"""Pictures of sound without a graphics library.  In: samples.  Out: PNG bytes of a spectrogram, an SVG path of a waveform."""

from __future__ import annotations

import itertools
import struct
import zlib

import numpy as np

RANGE_DB = 60.0
HOP, WINDOW, TOP_HZ = 0.004, 0.012, 8000
BANDS = 96  # rows of the picture


def png(grey: np.ndarray) -> bytes:
    """An 8-bit greyscale PNG; grey: uint8 (rows, columns), the first row on top."""
    rows, columns = grey.shape
    raw = np.concatenate([np.zeros((rows, 1), np.uint8), grey], axis=1).tobytes()  # a filter byte before each row

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Grey levels, dark is loud: uint8 (BANDS, columns), low frequencies at the bottom, one column per HOP seconds.

    Short windows, as phoneticians use: glottal pulses and releases show. Levels are from the file's loudest point
    down to RANGE_DB below.
    """
    hop, size = max(1, round(HOP * rate)), round(WINDOW * rate)
    emphasised = np.diff(samples.astype(np.float64), prepend=0.0)
    padded = np.pad(emphasised, size // 2)
    columns = max(1, (len(padded) - size) // hop + 1)
    index = np.arange(size)[None] + hop * np.arange(columns)[:, None]
    power = np.abs(np.fft.rfft(padded[index] * np.hanning(size), 512)) ** 2
    top = min(TOP_HZ, rate / 2)
    edges = np.linspace(0, top / rate * 512, BANDS + 1)
    bands = np.stack([power[:, int(a) : max(int(b), int(a) + 1)].mean(axis=1) for a, b in itertools.pairwise(edges)])
    level = 10 * np.log10(bands + 1e-12)
    return np.asarray(255 - 255 * np.clip((level - level.max()) / RANGE_DB + 1, 0, 1))[::-1].astype(np.uint8)


def waveform(samples: np.ndarray, width: int, height: float) -> str:
    """Data of an SVG path: the range of the samples in each of `width` columns, scaled to the loudest one."""
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    scale = 0.5 * height / max(float(np.abs(samples).max()), 1e-9)
    parts = []
    for x, (a, b) in enumerate(itertools.pairwise(edges)):
        piece = samples[a : max(b, a + 1)]
        low, high = float(piece.min()), float(piece.max())
        parts.append(f"M{x} {0.5 * height - scale * high:.1f}V{0.5 * height - scale * low + 0.3:.1f}")
    return "".join(parts)
