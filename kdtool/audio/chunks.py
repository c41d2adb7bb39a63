"""Formats made of chunks: WAV (RIFF, RIFX, RF64, BW64), W64, AIFF, CAF, 8SVX.  In: a file's bytes.  Out: its layout.

Programs that cannot seek back (writing to a pipe) leave a length of 0, or one near 2 GB, 4 GB or 2^63 bytes: the audio then extends to
the end of the file, minus complete chunks at the end.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from kdtool.audio.layout import Broken, Layout, Window
from kdtool.audio.mpeg import mpeg_layout

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
    """How a format writes chunks. name: bytes of a chunk's name; sizes: struct format of its size; align: chunks begin at multiples of
    it; inclusive: the size includes the chunk's head; endless: a size below 0 means 'to the end of the file'."""

    name: int
    sizes: str
    align: int
    inclusive: bool = False
    endless: bool = False

    @property
    def head(self) -> int:
        """Number of bytes before a chunk's content."""
        return self.name + struct.calcsize(self.sizes)

    def content(self, head: bytes) -> int | None:
        """Number of bytes of the content; None if these bytes cannot begin a chunk."""
        if len(head) < self.head or (self.name == 16 and head[4:16] != GUID) or not all(32 <= c < 127 for c in head[:4]):
            return None
        size: int = struct.unpack(self.sizes, head[self.name :])[0]
        size -= self.head if self.inclusive else 0
        return size if size >= 0 or self.endless else None


WAV, RIFX, W64, CAF = Style(4, "<I", 2), Style(4, ">I", 2), Style(16, "<q", 8, inclusive=True), Style(4, ">q", 1, endless=True)


def chunks(data: Window, at: int, style: Style) -> Iterator[tuple[bytes, int, int]]:
    """(first four bytes of the name, first byte of the content, its size according to the header) from `at` on."""
    while True:
        size = style.content(data.get(at, style.head))
        if size is None and style.align == 2:  # a chunk of odd size without its padding byte
            size = style.content(data.get(at := at - 1, style.head))
        if size is None:
            return
        yield data.get(at, 4), at + style.head, size
        if size < 0:
            return
        at += style.head + size + -size % style.align


def places(data: Window, at: int, style: Style, *names: bytes) -> dict[bytes, tuple[int, int]]:
    """First byte and announced size of the named chunks up to the last one, which holds the audio. Raises Broken: the last one is
    missing."""
    table = {}
    for name, place, size in chunks(data, at, style):
        table[name] = place, size
        if name == names[-1]:
            return {name: table.get(name, (0, 0)) for name in names}
    raise Broken(f"cannot be decoded: it has no {names[-1].decode()} chunk; fetch it again")


def all_chunks(data: Window, at: int, last: int, style: Style) -> bool:
    """Whether only complete chunks lie between `at` and `last`; a second audio chunk does not count."""
    while last - at > 3:  # fewer bytes are padding, not a chunk
        size = style.content(head := data.get(at, style.head))
        if size is None or size < 0 or head[:4] in AUDIO:
            return False
        at += style.head + size
        if at == last:
            return True
        at += -size % style.align
    return at <= last


def behind_stream(data: Window, start: int, last: int, style: Style) -> int:
    """Start of the chunks after audio of unknown length; `last` if there are none."""
    low = max(start, last - TAIL)
    marks = re.finditer(b"(?=" + b"|".join(BEHIND) + b")", data.get(low, max(0, last - low)))
    return next((low + m.start() for m in marks if all_chunks(data, low + m.start(), last, style)), last)


def _measured(data: Window, base: Layout, start: int, announced: int, style: Style, unknown: bool) -> Layout:
    """The layout with the audio's length and the bytes after it; `unknown`: `announced` is no length."""
    size, room = data.size, max(0, data.size - start)
    if unknown or (announced == 0 and room and not all_chunks(data, start, size, style)):
        last = behind_stream(data, start, size, style)
        return replace(base, held=max(0, last - start), announced=None, last=last)
    held = min(announced, room)
    layout = replace(base, held=held, announced=announced)
    behind, pad = start + held, -held % style.align
    if behind == size or all_chunks(data, behind, size, style) or all_chunks(data, behind + pad, size, style):
        return layout
    if data.get(behind + pad, 4) in BEHIND:  # the audio is complete
        return replace(layout, notes=("what its file says behind the audio is cut",))
    return replace(layout, last=behind, extra=size - behind, zeros=data.is_zero(behind, size))


def _streamed(announced: int) -> bool:
    return any(low <= announced <= high for low, high in UNKNOWN_32)


def wav(data: Window) -> Layout:
    """RIFF, RIFX, RF64 and BW64."""
    head = data.get(0, 12)
    style, order = (RIFX, ">") if head[:4] == b"RIFX" else (WAV, "<")
    if len(head) < 12 or head[8:] != b"WAVE":
        raise Broken(f"is a {head[:4].decode()} file but no WAV: it cannot be decoded")
    name = {b"RF64": "RF64", b"BW64": "RF64"}.get(head[:4], "WAV")
    (ds64, _), (fmt_at, fmt_size), (at, announced) = places(data, 12, style, b"ds64", b"fmt ", b"data").values()
    fmt = data.get(fmt_at, min(fmt_size, 40))
    tag = _codec(fmt, order)
    in_ds64 = name == "RF64" and announced == 0xFFFFFFFF and ds64 > 0
    announced = int.from_bytes(data.get(ds64 + 8, 8), "little") if in_ds64 else announced
    unknown = announced >= UNKNOWN_64 if in_ds64 else _streamed(announced)
    layout = _measured(data, Layout(f"{name} {CODECS.get(tag, '')}".strip(), last=data.size), at, announced, style, unknown)
    if tag == 0x55:
        stream = mpeg_layout(data, at, at + layout.held, "MP3 in WAV")
        return replace(stream, announced=layout.announced, held=layout.held, extra=layout.extra, zeros=layout.zeros)
    if layout.announced is not None and not layout.lacks:
        return layout
    if layout.held > 0xFFFFFFFF and not in_ds64 and order == "<":
        return replace(layout, first=at, prefix=_rf64(fmt, layout.held))
    short = struct.pack(f"{order}I", min(layout.held, 0xFFFFFFFF))
    return replace(layout, patches=((ds64 + 8, struct.pack("<Q", layout.held)),) if in_ds64 else ((at - 4, short),))


def _rf64(fmt: bytes, held: int) -> bytes:
    """A header for more than 4 GB of audio."""
    fmt += b"\0" * (len(fmt) % 2)
    ds64 = struct.pack("<IQQQI", 28, held + 72 + len(fmt), held, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVEds64" + ds64 + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data\xff\xff\xff\xff"


def _codec(fmt: bytes, order: str) -> int:
    """The codec that a fmt chunk names."""
    if len(fmt) < 16:
        raise Broken("cannot be decoded: its fmt chunk is cut or missing; fetch it again")
    tag: int = struct.unpack(f"{order}H", fmt[:2])[0]
    return struct.unpack(f"{order}H", fmt[24:26])[0] if tag == 0xFFFE and len(fmt) >= 26 else tag


def w64(data: Window) -> Layout:
    """Sony Wave64; libsndfile reads it to the end of the file, whatever length it announces."""
    (fmt_at, fmt_size), (at, announced) = places(data, 40, W64, b"fmt ", b"data").values()
    tag = _codec(data.get(fmt_at, min(fmt_size, 40)), "<")
    base = Layout(f"W64 {CODECS.get(tag, '')}".strip(), last=data.size)
    layout = _measured(data, base, at, announced, W64, announced >= UNKNOWN_64 - 24)
    return replace(layout, last=at + layout.held, patches=((at - 8, struct.pack("<q", layout.held + 24)),))


def aiff(data: Window) -> Layout:
    """AIFF and AIFF-C; 8SVX."""
    kind = data.get(8, 4)
    if kind in (b"8SVX", b"16SV"):
        ((at, announced),) = places(data, 12, RIFX, b"BODY").values()
        layout = _measured(data, Layout("8SVX", last=data.size), at, announced, RIFX, unknown=False)
        return replace(layout, last=at + layout.held)
    if kind not in (b"AIFF", b"AIFC"):
        raise Broken("is an IFF file without audio; fetch it again, or convert it")
    (common_at, common_size), (at, announced) = places(data, 12, RIFX, b"COMM", b"SSND").values()
    common = data.get(common_at, min(common_size, 22))
    if len(common) < 18:
        raise Broken("cannot be decoded: its COMM chunk is cut or missing; fetch it again")
    channels, _, bits = struct.unpack(">HIH", common[:8])
    pcm = len(common) < 22 or common[18:22] in PCM_AIFF
    offset = data.number(at, "big")
    unit = channels * ((bits + 7) // 8) if pcm else 0
    unknown = _streamed(announced) or announced == 0
    layout = _measured(data, Layout("AIFF", last=data.size), at + 8 + offset, max(0, announced - 8 - offset), RIFX, unknown)
    patches = [(at - 4, struct.pack(">I", min(layout.held + 8 + offset, 0xFFFFFFFF)))]
    if unit and layout.announced is None:
        patches.append((common_at + 2, struct.pack(">I", layout.held // unit)))
    return replace(layout, patches=tuple(patches)) if unknown or layout.lacks else layout


def caf(data: Window) -> Layout:
    """Apple's CAF."""
    ((at, announced),) = places(data, 8, CAF, b"data").values()
    layout = _measured(data, Layout("CAF", last=data.size), at + 4, max(0, announced - 4), CAF, announced < 0)
    patched = ((at - 8, struct.pack(">q", layout.held + 4)),)
    return replace(layout, patches=patched) if announced < 0 or layout.lacks else layout


BY_MARK: tuple[tuple[bytes, Callable[[Window], Layout]], ...] = (
    (b"RIFF", wav), (b"RIFX", wav), (b"RF64", wav), (b"BW64", wav), (b"riff\x2e\x91\xcf\x11", w64), (b"FORM", aiff), (b"caff", caf),
)  # fmt: skip
