"""Output names.  In: input names.  Out: one name each that is safe in tables and on any disk.

Nearly every name stays as it is. These change: a part with control characters or line ends; a part that is too long for a file name
once .TextGrid is added; a name that some disk cannot distinguish from an earlier one (A.wav beside a.wav, two encodings
of one accent), so that one output would replace the other; a name whose output is a folder's (a beside a.json/b).
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kdtool.aligner.items import Item
from kdtool.core.names import is_plain

SUFFIXES = (".TextGrid", ".json")
TEMPORARY = 64  # bytes added to a path while its file is written


def with_output_names(items: Sequence[Item], folder: Path) -> list[Item]:
    """The items with safe names; `given` holds the original name if it changed. folder: the output folder."""
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
    """Output name by input name, in the given order; distinct on every disk."""
    most = os.pathconf(folder, "PC_NAME_MAX") - max(map(len, SUFFIXES))
    room = os.pathconf(folder, "PC_PATH_MAX") - len(os.fsencode(os.path.abspath(folder))) - TEMPORARY
    safe = {}
    for name in names:
        parts = [_part(part, most) for part in name.split("/")]
        fitting = "/".join(parts)
        safe[name] = fitting if len(fitting.encode()) <= room else _marked(parts[-1], name, min(most, room))
    folders = {_folded(str(p)) for name in safe.values() for p in PurePosixPath(name).parents}
    taken: set[str] = set()
    for name, output in safe.items():
        if _folded(output) in taken or any(_folded(output + suffix) in folders for suffix in SUFFIXES):
            output = safe[name] = _marked(output, name, most)
        taken.add(_folded(output))
    return safe


def _part(part: str, most: int) -> str:
    safe = "".join(c if is_plain(c) else "_" for c in part)
    return part if safe == part and len(part.encode()) <= most else _marked(safe, part, most)


def _marked(safe: str, name: str, most: int) -> str:
    """The safe name with a mark derived from the original name; its last part is cut to `most` bytes."""
    head, slash, last = safe.rpartition("/")
    mark = "~" + _digest(name)
    return head + slash + last.encode()[: most - len(mark)].decode(errors="ignore") + mark


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


def _folded(name: str) -> str:
    """A key that is equal for names that some disk cannot distinguish: ignores case and how accents are encoded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def ctm_names(names: Iterable[str]) -> dict[str, str]:
    """A distinct CTM name per name: no blanks (a CTM cannot quote), no leading ';' (a comment)."""
    table: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = "_".join(name.split())
        plain = "_" + plain[1:] if plain.startswith(";") else plain
        table[name] = f"{plain}~{_digest(name)}" if plain in taken else plain
        taken.add(table[name])
    return table
