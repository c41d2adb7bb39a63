"""Formats made of chunks: WAV (RIFF, RIFX, RF64, BW64), W64, AIFF, CAF, 8SVX.  In: an open file.  Out: its layout.

Programs that cannot seek back (writing to a pipe) leave a length of 0, or one near 2 GB, 4 GB or 2^63 bytes: the audio then extends to
the end of the file, minus complete chunks at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from kdtool.audio.layout import Broken, Layout
from kdtool.audio.mpeg import mpeg_layout
from kdtool.audio.window import Window

UNKNOWN_32 = ((0x7F000000, 0x7F000100), (0x7FFF0000, 0x80000100), (0xFFFF0000, 0xFFFFFFFF))  # sox (AIFF; WAV), arecord, ffmpeg
UNKNOWN_64 = 1 << 62
TAIL = 1 << 16  # bytes at the end in which chunks after streamed audio are searched
BEHIND = (b"LIST", b"id3 ", b"ID3 ", b"cue ", b"fact", b"bext", b"_PMX", b"iXML", b"INFO", b"smpl", b"PEAK")
AUDIO = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b"data", b"SSND", b"BODY")
GUID = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # the end of each chunk's name in W64
CODECS = {
    0x02: "Microsoft ADPCM", 0x06: "A-law", 0x07: "mu-law", 0x11: "IMA ADPCM", 0x22: "TrueSpeech", 0x31: "GSM 6.10", 0x42: "G.723.1",
    0x45: "G.726", 0x55: "MP3", 0x64: "G.726", 0x83: "G.729", 0xFF: "AAC", 0x160: "WMA", 0x161: "WMA", 0x162: "WMA", 0x1610: "AAC",
    0x2000: "AC-3", 0x566F: "Vorbis", 0x674F: "Vorbis", 0x704F: "Opus", 0xA109: "Speex",
}  # fmt: skip
PCM_AIFF = (b"NONE", b"sowt", b"twos", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64", b"raw ", b"ulaw", b"ULAW", b"alaw", b"ALAW")


@dataclass(frozen=True)
class Style:
    """How a format writes chunks.

    Attributes:
        name: bytes of a chunk's name; sizes: struct format of its size; align: chunks begin at multiples of it.
        inclusive: the size includes the chunk's head.
    """

    name: int
    sizes: str
    align: int
    inclusive: bool = False

    @property
    def head(self) -> int:
        """Number of bytes before a chunk's content."""
        return self.name + struct.calcsize(self.sizes)

    def content(self, head: bytes) -> int:
        """Number of bytes of the content."""
        size: int = struct.unpack(self.sizes, head[self.name :])[0]
        return size - self.head if self.inclusive else size

    def plausible(self, head: bytes) -> bool:
        """Whether these bytes can begin a chunk."""
        if len(head) < self.head or (self.name == 16 and head[4:16] != GUID):
            return False
        return all(32 <= c < 127 for c in head[:4])


WAV, RIFX, W64, CAF = Style(4, "<I", 2), Style(4, ">I", 2), Style(16, "<q", 8, inclusive=True), Style(4, ">q", 1)


def chunks(file: BinaryIO, at: int, style: Style) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte of the content, its size according to the header) from `at` on; ends where no chunk can begin."""
    while True:
        file.seek(at)
        head = file.read(style.head)
        if not style.plausible(head) and style.align == 2:  # a chunk of odd size without its padding byte
            file.seek(at := at - 1)
            head = file.read(style.head)
        if not style.plausible(head) or (size := style.content(head)) < 0:
            return
        yield head[: style.name], at + style.head, size
        at += style.head + size + -size % style.align


def all_chunks(file: BinaryIO, at: int, last: int, style: Style) -> bool:
    """Whether only complete chunks lie between `at` and `last`; a second audio chunk does not count."""
    while last - at > 3:  # fewer bytes are padding, not a chunk
        file.seek(at)
        head = file.read(style.head)
        if not style.plausible(head) or head[:4] in AUDIO or (size := style.content(head)) < 0:
            return False
        at += style.head + size
        if at == last:
            return True
        at += -size % style.align
    return at <= last


def behind_stream(file: BinaryIO, start: int, last: int, style: Style) -> int:
    """Start of the chunks after audio of unknown length; `last` if there are none."""
    low = max(start, last - TAIL)
    file.seek(low)
    tail = file.read(last - low)
    places = sorted({at for name in BEHIND for at in _all(tail, name)})
    return next((low + at for at in places if all_chunks(file, low + at, last, style)), last)


def _all(data: bytes, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def _measured(file: BinaryIO, size: int, base: Layout, start: int, announced: int, style: Style, unknown: bool) -> Layout:
    """The layout with the audio's length and the bytes after it; `unknown`: `announced` is no length."""
    room = max(0, size - start)
    if unknown or (announced == 0 and room and not all_chunks(file, start, size, style)):
        last = behind_stream(file, start, size, style)
        return replace(base, held=last - start, announced=None, last=last)
    held = min(announced, room)
    layout = replace(base, held=held, announced=announced)
    behind, pad = start + held, -held % style.align
    if behind == size or all_chunks(file, behind, size, style) or all_chunks(file, behind + pad, size, style):
        return layout
    file.seek(behind + pad)
    if file.read(4) in BEHIND:  # the audio is complete
        return replace(layout, notes=("what its file says behind the audio is cut",))
    return replace(layout, last=behind, extra=size - behind, zeros=Window(file, size).is_zero(behind, size))


def _streamed(announced: int) -> bool:
    return any(low <= announced <= high for low, high in UNKNOWN_32)


def wav(file: BinaryIO, size: int) -> Layout:
    """RIFF, RIFX, RF64 and BW64."""
    file.seek(0)
    head = file.read(12)
    style, order = (RIFX, ">") if head[:4] == b"RIFX" else (WAV, "<")
    if len(head) < 12 or head[8:] != b"WAVE":
        raise Broken(f"is a {head[:4].decode()} file but no WAV: it cannot be decoded")
    name = {b"RF64": "RF64", b"BW64": "RF64"}.get(head[:4], "WAV")
    long, fmt, long_at = 0, b"", 0
    for chunk, at, announced in chunks(file, 12, style):
        if chunk == b"ds64":
            file.seek(at)
            long, long_at = int.from_bytes(file.read(16)[8:16], "little"), at + 8
        elif chunk == b"fmt ":
            file.seek(at)
            fmt = file.read(min(announced, 40))
        elif chunk == b"data":
            break
    else:
        raise Broken("cannot be decoded: it has no data chunk; fetch it again")
    tag = _codec(fmt, order)
    in_ds64 = name == "RF64" and announced == 0xFFFFFFFF and long_at > 0
    announced = long if in_ds64 else announced
    unknown = announced >= UNKNOWN_64 if in_ds64 else _streamed(announced)
    base = Layout(f"{name} {CODECS.get(tag, '')}".strip(), last=size)
    layout = _measured(file, size, base, at, announced, style, unknown)
    if tag == 0x55:
        stream = mpeg_layout(file, at, at + layout.held, "MP3 in WAV")
        return replace(stream, announced=layout.announced, held=layout.held, extra=layout.extra, zeros=layout.zeros)
    if layout.announced is not None and layout.announced <= layout.held:
        return layout
    if layout.held > 0xFFFFFFFF and not in_ds64 and order == "<":
        return replace(layout, first=at, prefix=_rf64(fmt, layout.held))
    short = struct.pack(f"{order}I", min(layout.held, 0xFFFFFFFF))
    return replace(layout, patches=((long_at, struct.pack("<Q", layout.held)),) if in_ds64 else ((at - 4, short),))


def _rf64(fmt: bytes, held: int) -> bytes:
    """A header for more than 4 GB of audio."""
    ds64 = struct.pack("<QQQI", held + 72 + len(fmt), held, 0, 0)
    parts = ((b"ds64", ds64), (b"fmt ", fmt + b"\0" * (len(fmt) % 2)))
    body = b"".join(name + struct.pack("<I", len(content)) + content for name, content in parts)
    return b"RF64\xff\xff\xff\xffWAVE" + body + b"data\xff\xff\xff\xff"


def _lacks(layout: Layout) -> bool:
    return layout.announced is not None and layout.announced > layout.held


def _codec(fmt: bytes, order: str) -> int:
    """The codec that a fmt chunk names."""
    if len(fmt) < 16:
        raise Broken("cannot be decoded: its fmt chunk is cut or missing; fetch it again")
    tag: int = struct.unpack(f"{order}H", fmt[:2])[0]
    return struct.unpack(f"{order}H", fmt[24:26])[0] if tag == 0xFFFE and len(fmt) >= 26 else tag


def w64(file: BinaryIO, size: int) -> Layout:
    """Sony Wave64; libsndfile reads it to the end of the file, whatever length it announces."""
    fmt = b""
    for chunk, at, announced in chunks(file, 40, W64):
        if chunk[:4] == b"fmt ":
            file.seek(at)
            fmt = file.read(min(announced, 40))
        elif chunk[:4] == b"data":
            break
    else:
        raise Broken("cannot be decoded: it has no data chunk; fetch it again")
    tag = _codec(fmt, "<")
    base = Layout(f"W64 {CODECS.get(tag, '')}".strip(), last=size)
    layout = _measured(file, size, base, at, announced, W64, announced >= UNKNOWN_64 - 24)
    return replace(layout, last=at + layout.held, patches=((at - 8, struct.pack("<q", layout.held + 24)),))


def aiff(file: BinaryIO, size: int) -> Layout:
    """AIFF and AIFF-C."""
    file.seek(0)
    head = file.read(12)
    if head[8:] in (b"8SVX", b"16SV"):
        return _svx(file, size)
    if head[8:] not in (b"AIFF", b"AIFC"):
        raise Broken("is an IFF file without audio; fetch it again, or convert it")
    common, common_at = b"", 0
    for chunk, at, announced in chunks(file, 12, RIFX):
        if chunk == b"COMM":
            file.seek(at)
            common, common_at = file.read(min(announced, 22)), at
        elif chunk == b"SSND":
            break
    else:
        raise Broken("cannot be decoded: it has no SSND chunk; fetch it again")
    if len(common) < 18:
        raise Broken("cannot be decoded: its COMM chunk is cut or missing; fetch it again")
    channels, _, bits = struct.unpack(">HIH", common[:8])
    pcm = len(common) < 22 or common[18:22] in PCM_AIFF
    file.seek(at)
    offset = int.from_bytes(file.read(4), "big")
    start = at + 8 + offset
    unit = channels * ((bits + 7) // 8) if pcm else 0
    unknown = _streamed(announced) or announced == 0
    layout = _measured(file, size, Layout("AIFF", last=size), start, max(0, announced - 8 - offset), RIFX, unknown)
    patches = [(at - 4, struct.pack(">I", min(layout.held + 8 + offset, 0xFFFFFFFF)))]
    if unit and layout.announced is None:
        patches.append((common_at + 2, struct.pack(">I", layout.held // unit)))
    return replace(layout, patches=tuple(patches)) if unknown or _lacks(layout) else layout


def _svx(file: BinaryIO, size: int) -> Layout:
    for chunk, at, announced in chunks(file, 12, RIFX):
        if chunk == b"BODY":
            layout = _measured(file, size, Layout("8SVX", last=size), at, announced, RIFX, unknown=False)
            return replace(layout, last=at + layout.held)
    raise Broken("cannot be decoded: it has no BODY chunk; fetch it again")


def caf(file: BinaryIO, size: int) -> Layout:
    """Apple's CAF."""
    found = next(((at, announced) for chunk, at, announced in _caf_chunks(file) if chunk == b"data"), None)
    if found is None:
        raise Broken("cannot be decoded: it has no data chunk; fetch it again")
    at, announced = found
    unknown = announced < 0
    layout = _measured(file, size, Layout("CAF", last=size), at + 4, max(0, announced - 4), CAF, unknown)
    patched = ((at - 8, struct.pack(">q", layout.held + 4)),)
    return replace(layout, patches=patched) if unknown or _lacks(layout) else layout


def _caf_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    at = 8
    while True:
        file.seek(at)
        head = file.read(12)
        if not CAF.plausible(head):
            return
        size = CAF.content(head)
        yield head[:4], at + 12, size
        if size < 0:
            return
        at += 12 + size


BY_MARK: tuple[tuple[bytes, Callable[[BinaryIO, int], Layout]], ...] = (
    (b"RIFF", wav), (b"RIFX", wav), (b"RF64", wav), (b"BW64", wav), (b"riff\x2e\x91\xcf\x11", w64), (b"FORM", aiff), (b"caff", caf),
)  # fmt: skip
