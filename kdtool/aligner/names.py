"""What the files that are made are called.  In: names from outside.  Out: a name for each that is safe in tables and on any disk.

Nearly every name stays as it is. Another one is given to: a part with control characters or an end of line; a part that is too
long for a file name once .TextGrid is added; a name that some disk takes for one that comes before it (A.wav beside a.wav, one
accent written in two ways), where one output would replace the other; a name whose output is a folder's (a beside a.json/b).
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kdtool.aligner.items import Item
from kdtool.core.names import is_plain

SUFFIXES = (".TextGrid", ".json")
LONGEST_SUFFIX = max(map(len, SUFFIXES))
TEMPORARY = 64  # bytes that a path grows by while its file is written


def with_output_names(items: Iterable[Item], folder: Path) -> list[Item]:
    """The items with safe names; `given` is the name from outside where it had to change. folder: where the outputs will lie."""
    items = list(items)
    names = output_names((i.name for i in items), folder)
    recordings = output_names(sorted({i.recording for i in items if i.recording}), folder)
    return [
        replace(
            i, name=names[i.name], given="" if names[i.name] == i.name else i.name, recording=recordings.get(i.recording, ""),
            speaker="/".join(_part(part, len(part.encode())) for part in i.speaker.split("/")),
        )
        for i in items
    ]  # fmt: skip


def output_names(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Name of the output by the name from outside, in the given order; no two that a disk could take for one."""
    most = os.pathconf(folder, "PC_NAME_MAX") - LONGEST_SUFFIX
    room = os.pathconf(folder, "PC_PATH_MAX") - len(os.fsencode(os.path.abspath(folder))) - TEMPORARY
    safe = {name: _fitting(name, most, room) for name in names}
    folders = {_folded(str(p)) for name in safe.values() for p in PurePosixPath(name).parents}
    taken: set[str] = set()
    for name, own in safe.items():
        if _folded(own) in taken or any(_folded(own + suffix) in folders for suffix in SUFFIXES):
            own = safe[name] = _marked(own, name, most)
        taken.add(_folded(own))
    return safe


def _fitting(name: str, most: int, room: int) -> str:
    """The name with parts of at most `most` bytes, `room` bytes in all."""
    parts = [_part(part, most) for part in name.split("/")]
    fitting = "/".join(parts)
    return fitting if len(fitting.encode()) <= room else _marked(parts[-1], name, min(most, room))


def _part(part: str, most: int) -> str:
    safe = "".join(c if is_plain(c) else "_" for c in part)
    return part if safe == part and len(part.encode()) <= most else _marked(safe, part, most)


def _marked(safe: str, name: str, most: int) -> str:
    """The safe name with a mark that only this name from outside has, its last part cut to `most` bytes."""
    head, slash, last = safe.rpartition("/")
    mark = "~" + _digest(name)
    return head + slash + last.encode()[: most - len(mark)].decode(errors="ignore") + mark


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


def _folded(name: str) -> str:
    """Equal for two names that some disk takes for one: capitals, and how an accent is written, do not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def ctm_names(names: Iterable[str]) -> dict[str, str]:
    """For each name one that a CTM can hold, which cannot quote: no blanks, no ';' first (a comment); no two the same."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = "_".join(name.split())
        plain = "_" + plain[1:] if plain.startswith(";") else plain
        found[name] = f"{plain}~{_digest(name)}" if plain in taken else plain
        taken.add(found[name])
    return found
