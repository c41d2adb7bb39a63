"""Formats with one header followed by audio.  In: a file's bytes.  Out: its layout.

libsndfile reads most of them to the end of the file, whatever length the header announces.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from kdtool.audio.layout import Broken, Layout, Patches, Window

SHORTEN = "is compressed with Shorten, which is not read; convert it: sph2pipe -f wav IN OUT.wav"
GSM_FRAME = 33  # bytes of GSM 6.10


def _plain(data: Window, kind: str, start: int, announced: int | None, patches: Patches = (), size: int | None = None) -> Layout:
    """A layout of audio from `start`; bytes after the announced end are hidden from the decoder."""
    size = data.size if size is None else size
    room = max(0, size - start)
    held = room if announced is None else min(room, announced)
    zeros = room > held and data.is_zero(start + held, size)
    return Layout(kind, last=start + held, held=held, announced=announced, extra=room - held, zeros=zeros, patches=patches)


def au(data: Window) -> Layout:
    """Sun AU, both byte orders; a length of 0 or 0xFFFFFFFF means unknown."""
    head = data.get(0, 24)
    if len(head) < 24:
        raise Broken("cannot be decoded: its header is cut; fetch it again")
    order = ">" if head[:4] == b".snd" else "<"
    start, announced = struct.unpack(f"{order}2I", head[4:12])
    streamed = announced >= 0xFFFF0000 or (announced == 0 and data.size > start)
    held = min(max(0, data.size - start), 0xFFFFFFFF)  # unknown: libsndfile then reads to the end
    patches = ((8, struct.pack(f"{order}I", held)),) if announced in (0, 0xFFFFFFFF) or announced > held else ()
    return _plain(data, "AU", start, None if streamed else announced, patches)


def nist(data: Window) -> Layout:
    """NIST sphere without Shorten."""
    text = data.get(0, 1 << 14)
    length = re.match(rb"NIST_1A\n\s*(\d+)\n", text)
    if not length or b"end_head" not in text:
        raise Broken("cannot be decoded: its NIST header is cut; fetch it again")
    fields = dict(re.findall(rb"(?m)^(\w+) -(?:i|r|s\d+) (.*)$", text[: text.index(b"end_head")]))
    if b"shorten" in fields.get(b"sample_coding", b""):
        raise Broken(SHORTEN)
    if int(length[1]) != 1024:
        raise Broken(f"has a NIST header of {int(length[1])} bytes, only 1024 are read; convert it: sph2pipe -f wav IN OUT.wav")
    values = {name: int(value) for name, value in fields.items() if value.strip().isdigit()}
    channels = values.get(b"channel_count", 1)
    announced = values.get(b"sample_count", 0) * channels * values.get(b"sample_n_bytes", 0) or None
    if announced and channels > 1 and data.size - 1024 == announced // channels:  # counted over all channels
        announced //= channels
    return _plain(data, "NIST sphere", 1024, announced)


def voc(data: Window) -> Layout:
    """Creative VOC of one block; libsndfile reads the heads of further blocks as audio."""
    at = int.from_bytes(data.get(20, 2), "little")
    while True:
        block = data.get(at, 16)
        if len(block) < 4:
            raise Broken("cannot be decoded: it has no sound block; fetch it again")
        behind = at + 4 + int.from_bytes(block[1:4], "little")
        if block[0] in (1, 9):
            break
        at = behind
    start = at + (6 if block[0] == 1 else 16)
    after = data.get(behind, 1)
    if after not in (b"", b"\0"):
        raise Broken("is a VOC file of several blocks, which is not read; convert it: sox IN OUT.wav")
    layout = _plain(data, "VOC", start, behind - start, size=min(data.size, behind))
    return Layout("VOC", last=layout.last + len(after), held=layout.held, announced=layout.announced)


def mat4(data: Window) -> Layout:
    """Matlab 4, as libsndfile writes it: the rate, then a matrix of samples."""
    head = data.get(0, 128)
    order = "<" if head[:4] == b"\0\0\0\0" else ">"
    try:
        name = struct.unpack(f"{order}I", head[16:20])[0]
        kind, rows, columns, _, length = struct.unpack(f"{order}5I", head[28 + name :][:20])
    except struct.error as e:
        raise Broken("cannot be decoded: its header is cut; fetch it again") from e
    unit = rows * {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}.get(kind % 100 // 10, 0)
    return _plain(data, "MAT4", 48 + name + length, columns * unit)


def mat5(data: Window) -> Layout:
    """Matlab 5, as libsndfile writes it: the rate, then a matrix of samples: flags, dimensions, name, data."""
    at = 136 + data.number(132) + 8
    for _ in range(3):
        length = data.number(at + 4)
        at += 8 if data.number(at) >> 16 else 8 + length + -length % 8
    return _plain(data, "MAT5", at + 8, data.number(at + 4))


def htk(data: Window) -> Layout | None:
    """HTK waveforms: number of samples, their period in 100 ns, 2 bytes each, kind 0; None for anything else."""
    head = data.get(0, 12)
    samples, period, width, kind = struct.unpack(">IIHH", head) if len(head) == 12 else (0, 0, 0, 1)
    if (width, kind) != (2, 0) or not 50 <= period <= 2500:
        return None
    layout = _plain(data, "HTK", 12, 2 * samples)
    return replace(layout, patches=((0, struct.pack(">I", layout.held // 2)),), last=12 + layout.held // 2 * 2)


def gsm(data: Window) -> Layout | None:
    """GSM 6.10 without a header: 33 bytes per frame of 20 ms, each beginning with 0xD; None for anything else."""
    if data.size < 3 * GSM_FRAME or any(byte >> 4 != 0xD for byte in data.get(0, 100 * GSM_FRAME)[::GSM_FRAME]):
        return None
    part = data.size % GSM_FRAME
    cut = (f"its last frame is cut ({part} of {GSM_FRAME} bytes)",) if part else ()
    return Layout("GSM 6.10", last=data.size - part, held=data.size - part, raw=(8000, "GSM610"), notes=cut)


ENDLESS = {b" paf": "PAF", b"fap ": "PAF", b"PVF1": "PVF", b"\x64\xa3": "IRCAM", b"\0\1\xa3\x64": "IRCAM", b"\0\2\xa3\x64": "IRCAM"}
BY_MARK: tuple[tuple[bytes, Callable[[Window], Layout]], ...] = (
    (b".snd", au), (b"dns.", au), (b"NIST_1A", nist), (b"Creative Voice File", voc), (b"MATLAB 5.0 MAT-file", mat5),
    (b"\0\0\0\0\1\0\0\0\1\0\0\0", mat4), (b"\0\0\3\xe8\0\0\0\1\0\0\0\1", mat4),
    # Audio Visual Research; Akai MPC 2000; Psion Series 3; FastTracker instruments: the audio's first byte and its length
    (b"2BIT", lambda d: _plain(d, "AVR", 128, d.number(26, "big") * (2 if d.number(12, "big", 2) else 1) * (d.number(14, "big", 2) // 8))),
    (b"\x01\x04", lambda d: _plain(d, "MPC2K", 42, d.number(30) * (4 if d.get(21, 1) == b"\1" else 2))),
    (b"ALawSoundFile", lambda d: _plain(d, "WVE", 32, d.number(18, "big"))),
    (b"Extended Instrument: ", lambda d: _plain(d, "XI", 338, d.number(298) or None)),
    # without a length: the audio extends to the end of the file
    *((mark, partial(lambda kind, d: Layout(kind, last=d.size), kind)) for mark, kind in ENDLESS.items()),
)  # fmt: skip
