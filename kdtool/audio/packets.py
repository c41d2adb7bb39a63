"""FLAC and Ogg.  In: a file's bytes.  Out: its layout: the announced length, and whether the file ends early.

libsndfile reads a cut Ogg file silently to its last complete page, and cannot read a FLAC stream of unknown length.
"""

import struct
import zlib

from kdtool.audio.layout import Broken, Layout, Window

TAILS = (1 << 15, 1 << 21)  # bytes at the end in which the last FLAC frame is searched
TOTAL = (1 << 36) - 1
SIZES = (0, 192, *(576 << n for n in range(4)), 0, 0, *(256 << n for n in range(8)))  # samples of a FLAC frame by code
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def flac(data: Window) -> Layout:
    """Native FLAC: the frames are numbered, so the last one gives the audio's length."""
    start, size = data.skip_id3(0), data.size
    info = data.get(start + 8, 34)
    if data.get(start, 4) != b"fLaC" or len(info) < 34:
        raise Broken("cannot be decoded: its FLAC header is cut; fetch it again")
    block, low = struct.unpack(">H", info[:2])[0], int.from_bytes(info[10:18], "big")
    total, rate = low & TOTAL, low >> 44
    found = _last_sample(data, start + 42, block, low >> 36 & 0xFF)
    if total:
        return Layout("FLAC", last=size, held=size, found=found, promised=total)
    if found is None:
        raise Broken("cannot be decoded: it holds no whole FLAC frame; fetch it again")
    patched = (low | min(found, TOTAL)).to_bytes(8, "big")
    return Layout("FLAC", last=size, held=size, found=found, patches=((start + 18, patched),)) if rate else Layout("FLAC", last=size)


def _last_sample(data: Window, first: int, block: int, stream: int) -> int | None:
    """The sample after the last frame; None if no frame is found near the end. stream: 8 bits of channels and depth."""
    for length in TAILS:
        tail = data.get(max(first, data.size - length), length)
        at = len(tail)
        while (at := tail.rfind(b"\xff", 0, at)) >= 0:
            if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9") and (end := frame_end(tail[at : at + 16], block, stream)) is not None:
                return end
        if length >= data.size - first:
            break
    return None


def frame_end(head: bytes, block: int, stream: int) -> int | None:
    """The sample after the frame that begins here; None if none does (by its checksum)."""
    if len(head) < 6 or head[3] & 1 or head[3] >> 1 & 7 == 3:
        return None
    channels = head[3] >> 4
    if channels > 10 or (channels < 8 and channels != stream >> 5 & 7):
        return None
    ones = f"{head[4]:08b}0".index("0")  # the number is coded as in UTF-8
    more = head[5 : 4 + max(1, ones)]
    code, at = head[2] >> 4, 5 + len(more)
    wide = {6: 1, 7: 2}.get(code, 0)  # bytes that hold the block's size
    size = int.from_bytes(head[at : at + wide], "big") + 1 if wide else SIZES[code]
    at += wide + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if ones in (1, 8) or any(byte & 0xC0 != 0x80 for byte in more) or size == 0 or head[2] & 15 == 15:
        return None
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    number = head[4] & 0x7F >> ones
    for byte in more:
        number = number << 6 | byte & 0x3F
    return number + size if head[1] & 1 else number * block + size


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
    return value


def page_checksum(page: bytes) -> bytes:
    """The four bytes that a page's head holds at 22: Ogg's CRC is zlib's with reversed bits, from 0, not inverted."""
    whole = page[:22] + bytes(4) + page[26:]
    crc = zlib.crc32(whole.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_TURNED)


def ogg(data: Window) -> Layout:
    """Vorbis or Opus in Ogg: pages are numbered, and the last one is marked."""
    at = lost = 0
    cut, ended, kind, serial, expected, size = "", False, "Ogg", b"", -1, data.size
    while at < size:
        head = data.get(at, 27)
        if head[:4] != b"OggS":
            again = data.find(b"OggS", at, size)
            lost += (size if again < 0 else again) - at
            at = size if again < 0 else again
            continue
        table = data.get(at + 27, head[26]) if len(head) == 27 else b""
        whole = 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or at + whole > size:
            cut = f"of its last page it holds {size - at} of {whole} bytes" + " and more" * (len(table) < (head[26:27] or b"\1")[0])
            break
        if head[5] & 2:
            if ended or (serial and head[14:18] != serial):
                raise Broken("holds several streams, of which only one is read; convert it: ffmpeg -i IN -ac 1 -ar 16000 OUT.wav")
            serial = head[14:18]
            kind = "Opus" if data.get(at + 28, 8) == b"OpusHead" else "Ogg Vorbis"
        if head[22:26] != page_checksum(data.get(at, whole)):
            raise Broken(f"is damaged: its Ogg page at byte {at} does not match its checksum, and would be left out; fetch it again")
        number = int.from_bytes(head[18:22], "little")
        if expected not in (-1, number):
            raise Broken(f"lacks pages {expected} to {number - 1} of its Ogg stream; fetch it again")
        expected, ended = number + 1, bool(head[5] & 4)
        at += whole
    notes = ["its stream has no end mark, so the file may lack its end; its format does not say how long it was"] * (not ended and not cut)
    notes += [f"{lost:,} bytes of it are no Ogg pages"] * (lost > 0)
    return Layout(kind, last=size, held=size - lost, cut=cut, notes=tuple(notes))
