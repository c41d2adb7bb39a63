"""MPEG audio (MP3, MP2, MP1).  In: a file's bytes.  Out: its layout, with the samples that its frames hold and announce.

Without a Xing header libsndfile estimates the length from the first frame's bit rate, and stops reading there: of a file of
variable rate it reads a part. So the frames are counted, and the decoder is shown a Xing header with their number.
"""

from dataclasses import dataclass

from kdtool.audio.faults import CONVERT
from kdtool.audio.layout import Broken, Layout, Window

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version: 1, 2, 2.5
KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SEARCH = 1 << 16  # bytes in which the first frame must begin, and in which frames go on after a disturbance
LAME = 36  # bytes of a LAME tag
DECODER_DELAY = 529  # samples that mpg123 drops of a file with a header
TAGS = (b"APETAGEX", b"LYRICSBEGIN")
ID3V1 = 128  # bytes of a tag at the end


@dataclass(frozen=True)
class Frame:
    """One frame: bytes, samples, Hz, layer, MPEG version's code, channels, bytes of Layer III's side information, where it begins."""

    size: int
    samples: int
    rate: int
    layer: int
    version: int
    channels: int
    side_bytes: int
    side: int

    def fits(self, other: "Frame") -> bool:
        """Whether both can be of one stream."""
        return (self.rate, self.layer, self.version) == (other.rate, other.layer, other.version)


def frame(head: bytes) -> Frame | None:
    """The frame that begins with these four bytes; None when none can."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbps, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or kbps in (0, 15) or rate == 3:
        return None
    hertz, padding = RATES[version][rate], head[2] >> 1 & 1
    bits = KBPS[1 if version == 3 else 2, layer][kbps - 1] * 1000
    samples = {1: 384, 2: 1152, 3: 1152 if version == 3 else 576}[layer]
    size = (12 * bits // hertz + padding) * 4 if layer == 1 else samples // 8 * bits // hertz + padding
    channels = 1 if head[3] >> 6 == 3 else 2
    side_bytes = {(3, 2): 32, (3, 1): 17}.get((version, channels), 17 if channels == 2 else 9)
    return Frame(size, samples, hertz, layer, version, channels, side_bytes, 4 if head[1] & 1 else 6)  # 6: behind a checksum


def first_frame(data: Window, at: int, last: int, like: Frame | None = None) -> int:
    """The first place from `at` on at which two frames (of `like`'s stream) follow each other, or one ends the file; -1 for none."""
    end = min(last, at + SEARCH)
    while (at := data.find(b"\xff", at, end)) >= 0:
        one = frame(data.get(at, 4))
        if one and (like is None or one.fits(like)):
            after = at + one.size
            two = frame(data.get(after, 4) if after + 4 <= last else b"")
            if after == last or (two and one.fits(two)):
                return at
        at += 1
    return -1


def mpeg_layout(data: Window, first: int, last: int, kind: str = "") -> Layout:
    """The layout of the stream from byte `first` to `last`. Raises Broken: it is none."""
    if last <= first:
        raise Broken("is empty")
    begin = first_frame(data, data.skip_id3(first), last)
    head = frame(data.get(begin, 4)) if begin >= 0 else None
    if head is None:
        raise Broken("cannot be decoded: it holds no MPEG audio frames; fetch it again")
    # The first frame may be a header that says how many frames follow: 0 if it does not know.
    body, at = data.get(begin, head.size), head.side + head.side_bytes
    promised = None
    if head.layer == 3 and body[at : at + 4] in (b"Xing", b"Info"):
        promised = int.from_bytes(body[at + 8 : at + 12], "big") if body[at + 7 : at + 8] and body[at + 7] & 1 else 0
    elif head.layer == 3 and body[36:40] == b"VBRI":
        promised = int.from_bytes(body[50:54], "big")
    begin += 0 if promised is None else head.size
    count, cut, lost = _count(data, begin, last, head)
    notes = [f"{lost:,} bytes of it are no MPEG audio"] * (lost > 0)
    if cut and not promised:
        notes.append(f"its last frame is cut ({cut} bytes), so its end may be missing; its format does not say how long it was")
    if promised == count + 1:  # some encoders count the header too
        promised = count
    prefix = _xing(head, count) if not promised and head.layer == 3 else b""
    return Layout(kind or f"MP{head.layer}", first=begin if prefix else first, last=last, held=last - begin, found=count * head.samples,
                  prefix=prefix, promised=promised * head.samples if promised else None, notes=tuple(notes))  # fmt: skip


def _count(data: Window, at: int, last: int, like: Frame) -> tuple[int, int, int]:
    """(whole frames, bytes of the last one when it is cut, bytes that belong to no frame). Tags between frames are passed over. Raises
    Broken: frames of another kind follow, as where two files were joined."""
    count = lost = 0
    while at < last:
        one = frame(data.get(at, 4))
        if one and one.fits(like):
            if at + one.size > last:
                return count, last - at, lost
            count += 1
            at += one.size
            continue
        two = frame(data.get(at + one.size, 4)) if one else None
        if one and two and one.fits(two):
            raise Broken(f"changes from {like.rate} to {one.rate} Hz, or its kind of MPEG, at byte {at}, behind {count * like.samples} "
                         f"samples (were two files joined?); convert each of them: {CONVERT}")  # fmt: skip
        tag = data.get(at, 11)
        if tag.startswith((b"ID3", b"TAG")):  # at the end, or where two files were joined
            at = data.skip_id3(at) if tag.startswith(b"ID3") else at + ID3V1
            continue
        if data.is_zero(at, last):
            break
        again = first_frame(data, at, last, like)
        if again < 0 and tag.startswith(TAGS):
            break
        if again < 0:
            return count, last - at if last - at < 4 else 0, lost + (last - at if last - at >= 4 else 0)
        lost += again - at
        at = again
    return count, 0, lost


def _xing(like: Frame, count: int) -> bytes:
    """Two frames of the same stream: a header that says how many frames follow, and a silent one.

    Where there is such a header, the decoder drops its own delay at the beginning; so that the audio stays where other
    programs show it, it is told to drop one frame's samples in all, and these are silent.
    """
    body, at = bytearray(_empty_frame(like, LAME + 12)), 4 + like.side_bytes
    body[at : at + 12] = b"Xing" + (1).to_bytes(4, "big") + (count + 1).to_bytes(4, "big")
    body[at + 12 : at + 21] = b"LAME3.100"
    body[at + 33 : at + 36] = ((like.samples - DECODER_DELAY) << 12).to_bytes(3, "big")
    return bytes(body) + _empty_frame(like, 0)


def _empty_frame(like: Frame, room: int) -> bytes:
    """A frame of zeros with at least `room` bytes behind its side information."""
    for code in range(1, 15):
        rate = RATES[like.version].index(like.rate)
        head = bytes([0xFF, 0xE0 | like.version << 3 | 1 << 1 | 1, code << 4 | rate << 2, 0xC0 if like.channels == 1 else 0])
        made = frame(head)
        if made and made.size >= 4 + like.side_bytes + room:
            return head + bytes(made.size - 4)
    raise Broken("cannot be decoded: its MPEG frames are too small; convert it")
