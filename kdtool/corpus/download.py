"""Downloads.  In: a URL and a checksum.  Out: the file, whole and checked, or an error that says what to do.

An interrupted download continues where it stopped. A file is checked before it gets its name; a user's file at its place is kept.
"""

import errno
import hashlib
import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from kdtool.core.errors import KdError, UsageError
from kdtool.core.own_file import keep_previous, mark_of, note_own

ATTEMPTS = 4
TIMEOUT_SECONDS = 60


def file_sum(path: Path, algorithm: str) -> str:
    """MD5 or SHA256 of a file, in hex digits."""
    digest = hashlib.md5(usedforsecurity=False) if algorithm == "MD5" else hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(url: str, target: Path, checksum: str, how: str = "--base-url") -> None:
    """Download `url` to `target` unless it is there; `target`.part is the part that an interrupted run left.

    checksum: MD5, or SHA256 if it has 64 digits; how: the option that names a mirror, for messages. Raises KdError: the server cannot
    be reached or has no such file, or its file is another one.
    """
    algorithm = "SHA256" if len(checksum) == 64 else "MD5"
    if target.exists() and file_sum(target, algorithm) == checksum:
        return
    part = target.with_name(target.name + ".part")
    size = remote_size(url, how)
    wrong, fault = 0, ""
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
        digest = file_sum(part, algorithm)
        if digest == checksum:
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
        wrong += 1
        if wrong == 2:
            raise KdError(f"{url}: {algorithm} {digest}, expected {checksum}; the server's file is damaged or another one, "
                          f"name a mirror by {how}")  # fmt: skip
    raise KdError(f"{url}: {fault or 'the server ends the transfer too early'}; what came is kept, run the same command again to go on, "
                  f"name a mirror by {how}, or give your own copy by --corpus")  # fmt: skip


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
