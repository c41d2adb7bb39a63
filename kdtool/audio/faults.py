"""Faults of audio files.  In: lengths.  Out: the error raised everywhere, and printed notes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from kdtool.core.errors import KdError

CONVERT = "ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"
NOTES = 5  # printed notes


class AudioFault(KdError):
    """An unusable audio file; the message names the file and says what to do."""


def length(samples: int, rate: int) -> str:
    """'48,000 samples (3.00 s)'."""
    return f"{samples:,} samples ({samples / rate:.2f} s)" if rate > 0 else f"{samples:,} samples"


def tell_audio(notes: Iterable[tuple[str, str]]) -> None:
    """Print notes about files that are used nevertheless: (file, note)."""
    found = sorted(set(notes))
    print(*(f"note: {path}: {note}" for path, note in found[:NOTES]), sep="\n", end="\n" * bool(found), file=sys.stderr)
    if len(found) > NOTES:
        print(f"note: the like of {len(found) - NOTES} more audio files", file=sys.stderr)


def truncated(path: Path, held: str, announced: str) -> AudioFault:
    """A file that holds less than it announces."""
    return AudioFault(f"{path} is truncated: it holds {held}, its header announces {announced}; fetch it again")


def undecodable(path: Path, kind: str, error: Exception) -> AudioFault:
    """libsndfile's error about a file, without libsndfile's name for it."""
    said = " ".join(str(error).split())
    said = said.split(": ", 1)[1] if said.startswith("Error opening ") and ": " in said else said
    return AudioFault(f"{path} cannot be decoded ({kind}: {said.rstrip('.')}); fetch it again, or convert it: {CONVERT}")
