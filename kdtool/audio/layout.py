"""Position of the audio in a file.  In: what a header says.  Out: a layout, from which the decoder is opened.

libsndfile trusts either the header or the file's length, depending on the format, and never says which. So each format's
header is also read here: announced length, present length, and the changes needed for the decoder to read exactly the audio.
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

    def plain(self, size: int) -> bool:
        """Whether the decoder sees the file unchanged."""
        return not (self.prefix or self.patches or self.first) and self.last >= size


class Broken(Exception):
    """What is wrong with a header; '{path} ' is put before the message."""
