"""All files below a folder.  In: a folder.  Out: their paths; follows symlinks; reports unreadable folders.

Path.rglob and os.walk silently skip linked folders and unreadable ones: utterances would
be lost with them, and changes there would be missed.
"""

import errno
import os
import stat
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.names import is_utf8

Fault = tuple[Path, str]
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO (named pipe)", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def files_below(folder: Path, *, hidden: bool = True, faults: list[Fault] | None = None) -> list[Path]:
    """All files at any depth, sorted; broken links are not files. `hidden`: also names that begin with a dot.

    `faults` gets (path, what is wrong) of circular links, of unreadable folders, and of non-files: FIFOs, broken links. Without it
    a circular link is a KdError, an unreadable folder an OSError, and the last are skipped.
    """
    return sorted(_below(folder, hidden, frozenset(), faults))


def _below(folder: Path, hidden: bool, above: frozenset[str], faults: list[Fault] | None) -> list[Path]:
    real = os.path.realpath(folder)
    if real in above:
        reason = f"a link to a folder that it lies in ({real}), so there is no end to what is below; remove the link"
        if faults is None:
            raise KdError(f"{folder}: {reason}")
        faults.append((folder, reason))
        return []
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            listed = [entry for entry in entries if hidden or not entry.name.startswith(".")]
    except OSError as e:
        if faults is None:
            raise
        faults.append((folder, f"a folder that may not be read ({e.strerror}); change its permissions, or remove it"))
        return []
    for entry in listed:
        path, is_folder, is_file = folder / entry.name, False, False
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as e:
            if faults is None and e.errno != errno.ELOOP:  # a link to itself is a broken link
                raise
        if is_folder:
            found += _below(path, hidden, above | {real}, faults)
        elif is_file:
            found.append(path)
        elif faults is not None:
            faults.append((path, file_fault(path)))
    return found


def file_fault(path: Path) -> str:
    """'' for a readable file, else what is wrong and what to do, without its name. Never waits for a FIFO."""
    if not is_utf8(str(path)):
        return "its name is not UTF-8 (from an old archive, or another system?); rename it: convmv -f latin1 -t utf8 --notest FILE"
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind != stat.S_IFREG:
            return f"it is {KINDS.get(kind, 'something else')}, not a file; remove it, or put a file there"
        with open(path, "rb"):
            return ""
    except FileNotFoundError:
        if os.path.islink(path):
            return f"a link to {os.readlink(path)}, which is not there; make the link again, or remove it"
        return "no such file; check the path"
    except (OSError, ValueError) as e:  # ValueError: a NUL byte
        return f"it cannot be read ({getattr(e, 'strerror', None) or e}); check its permissions and its name"
