"""Where the audio of a file lies.  In: what a header says.  Out: a layout, from which the decoder is opened.

libsndfile believes headers, or the length of the file, differently for each format, and never says which. So each format's
header is read here too: how much it announces, how much there is, and what has to be changed for the decoder to read just that.
"""

from __future__ import annotations

from dataclasses import dataclass

Patches = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Layout:
    """One file.

    Attributes:
        kind: name of the format, for people.
        first, last: the bytes that the decoder sees, `last` exclusive.
        held, announced: bytes of audio in the file and by its header; announced None: the header does not say (a stream that
            could not go back to write it, or a format without a length).
        found, promised: the same as held and announced in samples, for formats that count them (FLAC, MP3).
        extra: bytes behind the announced audio that are no part of the format; zeros: all of them are 0.
        cut: how a file without a length shows that its end is missing.
        prefix, patches: bytes that the decoder sees before `first`, and instead of others (offset in the file, bytes).
        raw: (rate, subtype) of headerless mono audio.
        notes: what a user should know though the file can be used.
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

    def plain(self, size: int) -> bool:
        """Whether the decoder sees the file as it is."""
        return not (self.prefix or self.patches or self.first) and self.last >= size


class Broken(Exception):
    """What is wrong with a header, in words: '{path} ' goes before them."""
