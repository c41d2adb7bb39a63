"""Formats with one header followed by audio.  In: an open file.  Out: its layout.

libsndfile reads most of them to the end of the file, whatever length the header announces.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

from kdtool.audio.layout import Broken, Layout, Patches
from kdtool.audio.window import Window

SHORTEN = "is compressed with Shorten, which is not read; convert it: sph2pipe -f wav IN OUT.wav"
GSM_FRAME = 33  # bytes of GSM 6.10


def _plain(file: BinaryIO, size: int, kind: str, start: int, announced: int | None, patches: Patches = ()) -> Layout:
    """A layout of audio from `start`; bytes after the announced end are hidden from the decoder."""
    room = max(0, size - start)
    held = room if announced is None else min(room, announced)
    zeros = room > held and Window(file, size).is_zero(start + held, size)
    return Layout(kind, last=start + held, held=held, announced=announced, extra=room - held, zeros=zeros, patches=patches)


def au(file: BinaryIO, size: int) -> Layout:
    """Sun AU, both byte orders; a length of 0 or 0xFFFFFFFF means unknown."""
    file.seek(0)
    head = file.read(24)
    if len(head) < 24:
        raise Broken("cannot be decoded: its header is cut; fetch it again")
    order = ">" if head[:4] == b".snd" else "<"
    start, announced = struct.unpack(f"{order}2I", head[4:12])
    streamed = announced >= 0xFFFF0000 or (announced == 0 and size > start)
    held = min(max(0, size - start), 0xFFFFFFFF)  # unknown: libsndfile then reads to the end
    patches = ((8, struct.pack(f"{order}I", held)),) if announced in (0, 0xFFFFFFFF) or announced > held else ()
    return _plain(file, size, "AU", start, None if streamed else announced, patches)


def nist(file: BinaryIO, size: int) -> Layout:
    """NIST sphere without Shorten."""
    file.seek(0)
    text = file.read(1 << 14)
    length = re.match(rb"NIST_1A\n\s*(\d+)\n", text)
    if not length or b"end_head" not in text:
        raise Broken("cannot be decoded: its NIST header is cut; fetch it again")
    fields = dict(re.findall(rb"(?m)^(\w+) -(?:i|r|s\d+) (.*)$", text[: text.index(b"end_head")]))
    if b"shorten" in fields.get(b"sample_coding", b""):
        raise Broken(SHORTEN)
    if int(length[1]) != 1024:
        raise Broken(f"has a NIST header of {int(length[1])} bytes, only 1024 are read; convert it: sph2pipe -f wav IN OUT.wav")
    unit = _number(fields, b"channel_count", 1) * _number(fields, b"sample_n_bytes", 0)
    count = _number(fields, b"sample_count", 0)
    channels = _number(fields, b"channel_count", 1)
    announced = count * unit if count and unit else None
    if announced and channels > 1 and size - 1024 == announced // channels:  # counted over all channels
        announced //= channels
    return _plain(file, size, "NIST sphere", 1024, announced)


def _number(fields: dict[bytes, bytes], name: bytes, missing: int) -> int:
    value = fields.get(name, b"").strip()
    return int(value) if value.isdigit() else missing


def voc(file: BinaryIO, size: int) -> Layout:
    """Creative VOC of one block; libsndfile reads the heads of further blocks as audio."""
    file.seek(0)
    head = file.read(26)
    at = int.from_bytes(head[20:22], "little")
    while True:
        file.seek(at)
        block = file.read(16)
        if len(block) < 4:
            raise Broken("cannot be decoded: it has no sound block; fetch it again")
        length = int.from_bytes(block[1:4], "little")
        if block[0] in (1, 9):
            break
        at += 4 + length
    start = at + (6 if block[0] == 1 else 16)
    behind = at + 4 + length
    file.seek(behind)
    after = file.read(1)
    if after not in (b"", b"\0"):
        raise Broken("is a VOC file of several blocks, which is not read; convert it: sox IN OUT.wav")
    layout = _plain(file, min(size, behind), "VOC", start, behind - start)
    return Layout("VOC", last=layout.last + len(after), held=layout.held, announced=layout.announced)


def avr(file: BinaryIO, size: int) -> Layout:
    """Audio Visual Research."""
    file.seek(0)
    head = file.read(128)
    unit = (2 if head[12:14] != b"\0\0" else 1) * (int.from_bytes(head[14:16], "big") // 8)
    return _plain(file, size, "AVR", 128, int.from_bytes(head[26:30], "big") * unit)


def mpc2k(file: BinaryIO, size: int) -> Layout:
    """Akai MPC 2000."""
    file.seek(0)
    head = file.read(42)
    unit = 2 * (1 + (head[21:22] == b"\1"))
    return _plain(file, size, "MPC2K", 42, int.from_bytes(head[30:34], "little") * unit)


def wve(file: BinaryIO, size: int) -> Layout:
    """Psion Series 3."""
    file.seek(18)
    return _plain(file, size, "WVE", 32, int.from_bytes(file.read(4), "big"))


def xi(file: BinaryIO, size: int) -> Layout:
    """FastTracker instrument."""
    file.seek(298)
    announced = int.from_bytes(file.read(4), "little")
    return _plain(file, size, "XI", 338, announced or None)


def mat4(file: BinaryIO, size: int) -> Layout:
    """Matlab 4, as libsndfile writes it: the rate, then a matrix of samples."""
    file.seek(0)
    head = file.read(128)
    order = "<" if head[:4] == b"\0\0\0\0" else ">"
    try:
        name = struct.unpack(f"{order}I", head[16:20])[0]
        kind, rows, columns, _, length = struct.unpack(f"{order}5I", head[28 + name :][:20])
    except struct.error as e:
        raise Broken("cannot be decoded: its header is cut; fetch it again") from e
    unit = rows * {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}.get(kind % 100 // 10, 0)
    return _plain(file, size, "MAT4", 48 + name + length, columns * unit)


def mat5(file: BinaryIO, size: int) -> Layout:
    """Matlab 5, as libsndfile writes it: the rate, then a matrix of samples: flags, dimensions, name, data."""
    data = Window(file, size)
    at = 136 + int.from_bytes(data.get(132, 4), "little") + 8
    for _ in range(3):
        kind, length = int.from_bytes(data.get(at, 4), "little"), int.from_bytes(data.get(at + 4, 4), "little")
        at += 8 if kind >> 16 else 8 + length + -length % 8
    return _plain(file, size, "MAT5", at + 8, int.from_bytes(data.get(at + 4, 4), "little"))


def whole(kind: str) -> Callable[[BinaryIO, int], Layout]:
    """A format without a length: its audio extends to the end of the file."""

    def layout(_file: BinaryIO, size: int) -> Layout:
        return Layout(kind, last=size)

    return layout


def htk(file: BinaryIO, size: int) -> Layout | None:
    """HTK waveforms: number of samples, their period in 100 ns, 2 bytes each, kind 0; None for anything else."""
    file.seek(0)
    head = file.read(12)
    samples, period, width, kind = struct.unpack(">IIHH", head) if len(head) == 12 else (0, 0, 0, 1)
    if (width, kind) != (2, 0) or not 50 <= period <= 2500:
        return None
    layout = _plain(file, size, "HTK", 12, 2 * samples)
    return replace(layout, patches=((0, struct.pack(">I", layout.held // 2)),), last=12 + layout.held // 2 * 2)


def gsm(file: BinaryIO, size: int) -> Layout | None:
    """GSM 6.10 without a header: 33 bytes per frame of 20 ms, each beginning with 0xD; None for anything else."""
    if size < 3 * GSM_FRAME:
        return None
    file.seek(0)
    data = file.read(100 * GSM_FRAME)
    if any(data[at] >> 4 != 0xD for at in range(0, len(data), GSM_FRAME)):
        return None
    part = size % GSM_FRAME
    cut = (f"its last frame is cut ({part} of {GSM_FRAME} bytes)",) if part else ()
    return Layout("GSM 6.10", last=size - part, held=size - part, raw=(8000, "GSM610"), notes=cut)


BY_MARK: tuple[tuple[bytes, Callable[[BinaryIO, int], Layout]], ...] = (
    (b".snd", au), (b"dns.", au), (b"NIST_1A", nist), (b"Creative Voice File", voc), (b"2BIT", avr), (b"\x01\x04", mpc2k),
    (b"ALawSoundFile", wve), (b"Extended Instrument: ", xi), (b"MATLAB 5.0 MAT-file", mat5), (b"\0\0\0\0\1\0\0\0\1\0\0\0", mat4),
    (b"\0\0\3\xe8\0\0\0\1\0\0\0\1", mat4), (b" paf", whole("PAF")), (b"fap ", whole("PAF")), (b"PVF1", whole("PVF")),
    (b"\x64\xa3", whole("IRCAM")), (b"\0\1\xa3\x64", whole("IRCAM")), (b"\0\2\xa3\x64", whole("IRCAM")),
)  # fmt: skip
