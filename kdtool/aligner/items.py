"""What there is to align: an item per audio file with its text, and a fault (name, reason) per file that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One audio file and its text; `name` is its path below the folder without the suffix, or the utterance's id; unique.

    recording: what the audio file is called, '' for `name`; part: first sample and the one behind the last, None for all;
    channel: from 0, None where the user chooses; given: the name from outside, '' where `name` is that.
    """

    name: str
    speaker: str
    audio: Path
    text: str
    recording: str = ""
    part: tuple[int, int] | None = None
    channel: int | None = None
    given: str = ""

    @property
    def called(self) -> str:
        """What the user calls it: for dropped.tsv and messages."""
        return self.given or self.name


Fault = tuple[str, str]
