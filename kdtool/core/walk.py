"""All files below a folder.  In: a folder.  Out: their paths; what is behind a link counts, what may not be read is an error.

Path.rglob and os.walk pass over folders that are links, and over those that may not be read, without a word: utterances would
be lost with them, and a change there would not be seen.
"""

from __future__ import annotations

import os
from pathlib import Path

from kdtool.core.errors import KdError


def files_below(folder: Path, *, hidden: bool = True) -> list[Path]:
    """All files at any depth, sorted; a link whose target is not there is no file.

    Args:
        hidden: with files and folders whose name begins with a dot.

    Raises:
        KdError: a link leads back to a folder that it lies in.
        OSError: a folder may not be read.
    """
    return sorted(_below(folder, hidden, frozenset()))


def _below(folder: Path, hidden: bool, above: frozenset[str]) -> list[Path]:
    real = os.path.realpath(folder)
    if real in above:
        raise KdError(f"{folder}: a link to a folder that it lies in ({real}), so there is no end to what is below; remove the link")
    found: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and not hidden:
                continue
            if entry.is_dir():
                found += _below(folder / entry.name, hidden, above | {real})
            elif entry.is_file():
                found.append(folder / entry.name)
    return found
