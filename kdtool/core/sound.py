"""Writes audio and reports a full disk as such.  In: samples.  Out: the file, complete, or the system's error.

libsndfile says 'System error' for every error of the system, and ignores errors on closing a file.
"""

import errno
import os
import resource
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import IO, Any

from kdtool.core.errors import KdError, name_file
from kdtool.core.tables import whole_file

PROBE = 1 << 16  # bytes; a disk with less free space is full


class _Watched:
    """A file for libsndfile that keeps the first error: errors raised in a callback would only be printed."""

    def __init__(self, file: IO[bytes]) -> None:
        self.error: OSError | None = None
        self.write, self.seek, self.tell = (partial(self._ask, call) for call in (file.write, file.seek, file.tell))  # seek flushes

    def _ask(self, call: Callable[..., int], *arguments: Any) -> int:
        try:
            return 0 if self.error else call(*arguments)
        except OSError as e:
            self.error = e
            return 0

    def read(self, size: int) -> bytes:
        raise AssertionError("libsndfile reads what it writes")


def write_sound(path: Path, blocks: Iterable[Any], rate: int, channels: int = 1, *, subtype: str = "PCM_16", kind: str = "WAV") -> None:
    """Write samples, (N,) or (N, channels) per block; an error of `blocks` passes through.

    Raises OSError with the file's name, for example on a full disk; KdError if libsndfile refuses the samples.
    """
    import soundfile

    with whole_file(path) as file:
        watched = _Watched(file)
        try:
            with soundfile.SoundFile(watched, "w", rate, channels, subtype, format=kind) as out:
                for block in blocks:
                    out.write(block)
                    if watched.error:
                        break
        except Exception as e:  # soundfile may raise anything on a short write; the system's error is the cause
            if watched.error:
                raise watched.error from e
            if isinstance(e, soundfile.LibsndfileError):
                reason = " ".join(str(e).split())
                raise KdError(f"{path}: audio that cannot be written ({reason}); is the rate {rate} Hz right?") from e
            raise
        if watched.error:
            raise watched.error


def write_fault(file: Path) -> OSError | None:
    """Why another program may have failed to write all of `file`: the disk is full, or the file-size limit is reached; else None."""
    limit, size = resource.getrlimit(resource.RLIMIT_FSIZE)[0], file.stat().st_size if file.exists() else 0
    if limit != resource.RLIM_INFINITY and size >= limit:
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    probe = file.with_name(f".probe.{os.getpid()}.{file.name[:100]}")
    try:
        probe.write_bytes(bytes(PROBE))
    except OSError as e:
        name_file(e, file)
        return e
    finally:
        probe.unlink(missing_ok=True)
    return None
