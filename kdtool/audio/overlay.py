"""A file as shown to the decoder.  In: an open file, its layout.  Out: a file object for libsndfile.

A streamed header is corrected in what the decoder reads, not on the disk.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from kdtool.audio.layout import Layout


class Overlay:
    """The layout's prefix, then its bytes of `file` with its patches applied."""

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self.file, self.first, self.prefix, self.patches = file, layout.first, layout.prefix, layout.patches
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
        count = max(0, min(count, self.size - self.at))
        data = bytearray(self.prefix[self.at : self.at + count])
        place = self.first + self.at + len(data) - len(self.prefix)  # in the file
        if len(data) < count:
            start = len(data)
            try:
                self.file.seek(place)
                data += self.file.read(count - start)
            except OSError:  # libsndfile's callback would only print it; fewer bytes are a reported fault
                return b""
            for offset, new in self.patches:
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
