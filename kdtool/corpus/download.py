"""Downloads.  In: a URL and a checksum.  Out: the file, whole and checked, or an error that says what to do.

An interrupted download continues where it stopped. A file is checked before it gets its name; a user's file at its place is kept
or refused. Only plain files and folders below the expected one are taken from an archive.
"""

import errno
import hashlib
import os
import socket
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdtool.core.errors import KdError, UsageError
from kdtool.core.keep import remove_work
from kdtool.core.own_file import keep_previous, mark_of, note_own
from kdtool.core.ownership import is_work, listing
from kdtool.core.state import KEY
from kdtool.core.tables import write_json

ATTEMPTS = 4
TIMEOUT_SECONDS = 60
HOW = "--base-url"  # the option that names a mirror


def file_sum(path: Path, algorithm: str) -> str:
    """MD5 or SHA256 of a file, in hex digits."""
    digest = hashlib.md5(usedforsecurity=False) if algorithm == "MD5" else hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(url: str, target: Path, wanted: str, how: str = HOW) -> None:
    """Download `url` to `target` unless it is there; `target`.part is the part that an interrupted run left.

    Args:
        wanted: its MD5, or its SHA256 if it has 64 digits.
        how: the option that names a mirror, for messages.

    Raises:
        KdError: the server cannot be reached or has no such file, or its file is another one.
    """
    algorithm = "SHA256" if len(wanted) == 64 else "MD5"
    if target.exists() and file_sum(target, algorithm) == wanted:
        return
    part = target.with_name(target.name + ".part")
    size = remote_size(url, how)
    wrong: list[str] = []
    fault = ""
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if not part.exists():
            mark_of(part).touch()  # started here, so it may be removed here
        if have:
            print(f"{target.name}: {have} of {size if size is not None else 'unknown'} bytes are here", file=sys.stderr)
        if size is None or have < size:
            fault = continue_download(url, part, how)
            have = part.stat().st_size if part.exists() else 0
        if not have or (size is not None and have < size):
            continue  # cut off: the next attempt asks for the rest
        found = file_sum(part, algorithm)
        if found == wanted:
            keep_previous(target)
            os.replace(part, target)
            note_own(target)
            mark_of(part).unlink(missing_ok=True)
            return
        # Complete but wrong: a damaged file, or a server that cannot resume and sent everything after the first part.
        if mark_of(part).exists():
            part.unlink()
            mark_of(part).unlink()
        else:
            keep_previous(part)
        wrong.append(found)
        if len(wrong) == 2:
            raise KdError(f"{url}: {algorithm} {found}, expected {wanted}; the server's file is damaged or another one, "
                          f"name a mirror by {how}")  # fmt: skip
    raise KdError(f"{url}: {fault or 'the server ends the transfer too early'}; what came is kept, run the same command again to go on, "
                  f"name a mirror by {how}, or give your own copy by --corpus")  # fmt: skip


def check_unpacked(folder: Path, mark: str, work: Path) -> None:
    """UsageError when the target of an archive, or the hidden folder where it is unpacked, holds something that no download made.

    Args:
        folder: where the archive's content goes; the file `mark` in it says that it is complete.
    """
    there = folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists()
    if there or (os.path.lexists(folder) and not folder.is_dir()):
        what = f"holds {listing(folder)}" if there else "is not a folder"
        raise UsageError(f"{folder}: {what} but no {mark}, so no download made it; give your own copy by --corpus, or another folder")
    if not is_work(work):
        raise UsageError(f"{work}: holds {listing(work)}, but the archive would be unpacked there; choose another folder, or move it away")


@contextmanager
def unpacked(archive: Path, work: Path, top: str, inside: str) -> Iterator[Path]:
    """The archive's content in the hidden folder `work`, which is removed at the end; see `check_members` for top and inside. Raises
    KdError: the archive is damaged, or holds unexpected members."""
    from lhotse.utils import safe_extract

    if work.exists():
        remove_work(work)
    work.mkdir(parents=True)
    write_json(work / KEY, {"archive": archive.name})
    try:
        with tarfile.open(archive) as tar:
            check_members(archive, tar.getmembers(), top, inside)
            safe_extract(tar, path=work)
    except (tarfile.TarError, EOFError) as e:
        raise KdError(f"{archive}: cannot be unpacked ({e}); remove it and run the same command again") from e
    yield work
    remove_work(work)


def remote_size(url: str, how: str) -> int | None:
    """The file's length in bytes according to the server, None if not given; KdError when the server or the file does not exist."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
    except urllib.error.HTTPError as e:
        if e.code in (405, 501):  # the server does not support HEAD
            return None
        raise KdError(f"{url}: the server answers {e.code} {e.reason}; check {how}") from e
    except ValueError as e:
        raise UsageError(f"{url} is not an address ({e}); check {how}") from e
    except OSError as e:
        raise KdError(f"{url}: {getattr(e, 'reason', None) or e}; check the network, name a mirror by {how}, "
                      "or give your own copy by --corpus") from e  # fmt: skip


def continue_download(url: str, part: Path, how: str) -> str:
    """Download the rest of `part`; '' or why it stopped early."""
    os.environ.setdefault("TQDM_MININTERVAL", "10")  # one line per ten seconds: readable in a log file
    from lhotse.utils import resumable_download

    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        resumable_download(url, filename=part)
    except urllib.error.HTTPError as e:
        raise KdError(f"{url}: the server answers {e.code} {e.reason}; check {how}") from e
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or getattr(e, "filename", None):  # the disk, not the network
            raise
        return str(getattr(e, "reason", None) or e)
    return ""


def check_members(archive: Path, members: list[tarfile.TarInfo], top: str, inside: str) -> None:
    """KdError unless the archive holds only files and folders below `top`, some of them below `inside` (top/..)."""
    for member in members:
        steps = Path(member.name).parts
        if not (member.isfile() or member.isdir()) or not steps or steps[0] != top or ".." in steps:
            raise KdError(f"{archive}: holds {member.name!r}, which is not a file or folder below {top}/; do not use this archive")
    if not any(m.name.startswith(f"{inside}/") for m in members):
        raise KdError(f"{archive}: holds no {inside}/; do not use this archive")
