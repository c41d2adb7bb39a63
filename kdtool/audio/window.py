"""Access to the bytes of a file of any size.  In: an open file.  Out: slices and searches, one block in memory at a time.

Not memory-mapped: a file that shrinks meanwhile, or a failing network disk, would kill the whole process.
"""

from __future__ import annotations

from typing import BinaryIO

BLOCK = 1 << 18


class Window:
    """The bytes of `file`, which has `size` bytes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.start, self.block, self.step = 0, b"", 1 << 12

    def get(self, at: int, count: int) -> bytes:
        """`count` bytes from `at`, fewer at the end."""
        if not self.start <= at <= at + count <= self.start + len(self.block):
            self.file.seek(at)
            self.start, self.block = at, self.file.read(max(count, self.step))
            self.step = min(2 * self.step, BLOCK)  # small blocks for a header, large ones for a scan
        return self.block[at - self.start : at - self.start + count]

    def find(self, mark: bytes, at: int, last: int) -> int:
        """Position of `mark` between `at` and `last`; -1 if missing."""
        while at < last:
            part = self.get(at, min(BLOCK, last - at))
            if not part or (found := part.find(mark)) >= 0:
                return at + found if part else -1
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
