"""Position of the audio in a file, and its bytes.  In: an open file, what a header says.  Out: a layout; what the decoder reads.

libsndfile trusts either the header or the file's length, depending on the format, and never says which. So each format's
header is also read here: announced length, present length, and the changes needed for the decoder to read exactly the audio.
A wrong header is corrected in what the decoder reads, not on the disk. No file is memory-mapped: one that shrinks meanwhile, or a
failing network disk, would kill the whole process.
"""

import os
from dataclasses import dataclass
from typing import BinaryIO, Literal

BLOCK = 1 << 18
Patches = tuple[tuple[int, bytes], ...]


class Broken(Exception):
    """What is wrong with a header; '{path} ' is put before the message."""


@dataclass(frozen=True)
class Layout:
    """One file.

    Attributes:
        kind: name of the format, for people.
        first, last: the bytes that the decoder sees, `last` exclusive.
        held, announced: bytes of audio in the file and according to its header; announced None: the header does not say (a stream
            whose length was never written, or a format without a length).
        found, promised: like held and announced, in samples, for formats that count them (FLAC, MP3).
        extra: bytes after the announced audio that do not belong to the format; zeros: all of them are 0.
        cut: how a file without a length shows that its end is missing.
        prefix, patches: bytes shown to the decoder before `first`, and instead of others (offset in the file, bytes).
        raw: (rate, subtype) of headerless mono audio.
        notes: notes for the user about a usable file.
    """

    kind: str
    last: int
    first: int = 0
    held: int = 0
    announced: int | None = None
    found: int | None = None
    promised: int | None = None
    extra: int = 0
    zeros: bool = False
    cut: str = ""
    prefix: bytes = b""
    patches: Patches = ()
    raw: tuple[int, str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def lacks(self) -> bool:
        """Whether the file holds less than its header announces."""
        return self.announced is not None and self.announced > self.held


class Window:
    """Access to the bytes of a file of any size, one block in memory at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.start, self.block, self.step = 0, b"", 1 << 12

    def get(self, at: int, count: int) -> bytes:
        """`count` bytes from `at`, fewer at the end."""
        if not self.start <= at <= at + count <= self.start + len(self.block):
            self.file.seek(at)
            self.start, self.block = at, self.file.read(max(count, self.step))
            self.step = min(2 * self.step, BLOCK)  # small blocks for a header, large ones for a scan
        return self.block[at - self.start : at - self.start + count]

    def number(self, at: int, order: Literal["little", "big"] = "little", count: int = 4) -> int:
        """The unsigned number in `count` bytes from `at`."""
        return int.from_bytes(self.get(at, count), order)

    def find(self, mark: bytes, at: int, last: int) -> int:
        """Position of `mark` between `at` and `last`; -1 if missing."""
        while at < last:
            part = self.get(at, min(BLOCK, last - at))
            if not part or (place := part.find(mark)) >= 0:
                return at + place if part else -1
            at += max(1, len(part) - len(mark) + 1)
        return -1

    def skip_id3(self, at: int) -> int:
        """Position after the ID3v2 tags at `at`."""
        while (head := self.get(at, 10))[:3] == b"ID3" and len(head) == 10:
            size = 0
            for byte in head[6:]:
                size = size << 7 | byte & 127
            at += 10 + size + (10 if head[5] & 16 else 0)
        return at

    def is_zero(self, at: int, last: int) -> bool:
        """Whether all bytes from `at` to `last` are 0."""
        while at < last:
            part = self.get(at, min(BLOCK, last - at))
            if not part or part.strip(b"\0"):
                return not part
            at += len(part)
        return True


class Overlay:
    """The file object that libsndfile reads: the layout's prefix, then its bytes of `file` with its patches applied."""

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self.file, self.layout = file, layout
        self.size = len(layout.prefix) + max(0, layout.last - layout.first)
        self.at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Like any file's."""
        self.at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence])
        return self.at

    def tell(self) -> int:
        """Like any file's."""
        return self.at

    def read(self, count: int) -> bytes:
        """At most `count` bytes from the current position."""
        prefix, count = self.layout.prefix, max(0, min(count, self.size - self.at))
        data = bytearray(prefix[self.at : self.at + count])
        if (start := len(data)) < count:
            place = self.layout.first + self.at + start - len(prefix)  # in the file
            try:
                self.file.seek(place)
                data += self.file.read(count - start)
            except OSError:  # libsndfile's callback would only print it; fewer bytes are a reported fault
                return b""
            for offset, new in self.layout.patches:
                low, high = max(offset, place), min(offset + len(new), place + len(data) - start)
                if low < high:
                    data[start + low - place : start + high - place] = new[low - offset : high - offset]
        self.at += len(data)
        return bytes(data)

    def readinto(self, buffer: bytearray) -> int:
        """The same into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
