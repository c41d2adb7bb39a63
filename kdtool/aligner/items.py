"""Types for the aligner's input: an item is an audio file with its text, a fault (name, reason) is a file that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One audio file and its text; `name` is its path below the folder without the suffix, or the utterance's id; unique.

    recording: the audio file's name, '' if it equals `name`; part: first sample and the sample after the last, None for all;
    channel: from 0, None: the user's option; given: the original name, '' if it equals `name`.
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
        """The original name, for dropped.tsv and messages."""
        return self.given or self.name


Fault = tuple[str, str]
