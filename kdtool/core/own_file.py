"""Single files that a tool writes outside a step's folder.  In: a path and a text.  Out: the file; a user's file there is kept.

A previous file moves to FILE.backup.N, unless the tool wrote it: `.FILE.made` beside it holds the digest of the tool's
last version. A file of a step's output is never replaced. A kill in between may leave an extra backup, never a missing one.
"""

import itertools
import os
import re
import stat
import sys
from pathlib import Path

from kdtool.core.digest import RECORD, read_record
from kdtool.core.errors import UsageError
from kdtool.core.tables import open_text
from kdtool.core.tensors import file_digest

NOTE = re.compile(r"[0-9a-f]{32,}")


def write_own_text(path: Path, text: str) -> None:
    """Write a file atomically; a file that is not the tool's is kept beside it, and named on the terminal. UsageError as `check_file`."""
    check_file(path)
    if path.exists() and not path.is_file():  # a terminal, a pipe
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return
    path = Path(os.path.realpath(path))
    if path.is_file() and path.read_bytes() == text.encode():
        return
    keep_previous(path)
    with open_text(path, "w") as f:
        f.write(text)
    note_own(path)


def check_file(path: Path) -> None:
    """UsageError when a tool must not write this file."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, and a file would be written there; choose another name")
    place = Path(os.path.realpath(path))
    for folder in place.parents:
        record = read_record(folder) if (folder / RECORD).is_file() else None
        if record and str(place.relative_to(folder)) in {*record["outputs"], *record.get("others", {}), RECORD}:
            raise UsageError(f"{path}: belongs to what a step made in {folder} ('{record.get('name')}'); choose another name")


def keep_previous(path: Path) -> Path | None:
    """Move a file that the tool did not write to FILE.backup.N; returns its new path, None if nothing moved."""
    if not os.path.lexists(path) or is_own(path):
        return None
    if stat.S_ISREG(path.lstat().st_mode) and path.stat().st_size == 0:
        return None
    for number in itertools.count(1):
        backup = path.with_name(f"{path.name}.backup.{number}")
        try:
            os.close(os.open(backup, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the name is ours now
        except FileExistsError:
            continue
        os.replace(path, backup)
        print(f"note: {path} was not as this tool wrote it; what was there is kept in {backup}", file=sys.stderr)
        return backup
    return None


def note_own(path: Path) -> None:
    """Record that the tool wrote this file, as it is now. If a user's file has the note's name, it stays and nothing is recorded."""
    if os.path.lexists(mark_of(path)) and not NOTE.fullmatch(_noted(path)):
        return
    with open_text(mark_of(path), "w") as f:
        f.write(file_digest(path) + "\n")


def remove_own(path: Path) -> None:
    """Delete a file that the tool wrote, with its note; any other file stays."""
    if is_own(path):
        path.unlink()
        mark_of(path).unlink()


def is_own(path: Path) -> bool:
    """Whether a file is the tool's last version."""
    return path.is_file() and not path.is_symlink() and _noted(path) == file_digest(path)


def mark_of(path: Path) -> Path:
    """Path of the note that holds the digest of the tool's last version."""
    return path.with_name(f".{path.name}.made")


def _noted(path: Path) -> str:
    try:
        return mark_of(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
