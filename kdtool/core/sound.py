"""Writing audio so that a full disk is told as one.  In: samples.  Out: the file, whole, or the system's own error.

libsndfile says 'System error' whatever the system said, and says nothing of what fails when a file is closed.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from kdtool.core.errors import KdError, name_file
from kdtool.core.tables import whole_file

PROBE = 1 << 16  # bytes; a disk that does not take so many is full


class _Watched:
    """A file for libsndfile that keeps the first error: one that is raised in a callback would only be printed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def _ask(self, call: Callable[..., int], *arguments: Any) -> int:
        try:
            return 0 if self.error else call(*arguments)
        except OSError as e:
            self.error = e
            return 0

    def write(self, data: bytes) -> int:
        return self._ask(self._file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:  # writes what is held back
        return self._ask(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._ask(self._file.tell)

    def read(self, size: int) -> bytes:
        raise AssertionError("libsndfile reads what it writes")


def write_sound(path: Path, blocks: Iterable[Any], rate: int, channels: int = 1, *, subtype: str = "PCM_16", kind: str = "WAV") -> None:
    """Write samples, (N,) or (N, channels) a block; an error of `blocks` passes through.

    Raises:
        OSError: the disk is full, say; it names the file.
        KdError: libsndfile refuses the samples.
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
        except Exception as e:  # of a short write soundfile raises what it likes; the system's error is the cause
            if watched.error:
                raise watched.error from e
            if isinstance(e, soundfile.LibsndfileError):
                said = " ".join(str(e).split())
                raise KdError(f"{path}: audio that cannot be written ({said}); is the rate {rate} Hz right?") from e
            raise
        if watched.error:
            raise watched.error


def write_fault(file: Path) -> OSError | None:
    """Why another program may not have written all of `file`: the disk is full, or files may not be that large; None otherwise."""
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
