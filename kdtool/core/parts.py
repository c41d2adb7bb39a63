"""Keeps the outputs of an array's finished jobs when the step fails.  In: a step's work folder.  Out: their files, in place again.

A successful job is recorded in `log/.jobs/ARRAY/done.J.json` with the digests of its files; ARRAY is the digest of all
the array's commands. When the step is run again with the same inputs, options and code (`run_step` compares them),
`salvage` empties the work folder except for those files, and `Parts.take` puts them back after comparing their content again.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, write_json
from kdtool.core.tensors import file_digest

JOBS = ".jobs"


class Parts:
    """The finished jobs of one array; `folder` holds the notes, `work` the files."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work = folder, work

    def record(self, job: int, made: Iterable[Path]) -> None:
        """Record that a job is done and its files; FileNotFoundError if they are not there (yet)."""
        made = list(made)
        if missing := [path for path in made if not path.exists()]:
            raise FileNotFoundError(errno.ENOENT, "a job that went well has not made it", str(missing[0]))
        files = [f for path in made for f in (sorted(path.rglob("*")) if path.is_dir() else [path]) if f.is_file()]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._places(job)[0], {str(f.relative_to(self.work)): file_digest(f) for f in files})

    def take(self, job: int) -> bool:
        """Restore the files of a finished job that `salvage` kept; False if there are none or one was altered."""
        note, kept = self._places(job)
        names = self._names(note)
        good = bool(names) and all((kept / n).is_file() and file_digest(kept / n) == digest for n, digest in names.items())
        if good:
            _move(kept, self.work, names)
        else:
            note.unlink(missing_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        return good

    def keep(self) -> None:
        """Move the files of all finished jobs away, beside the notes."""
        for note in sorted(self.folder.glob("done.*.json")):
            _move(self.work, self._places(int(note.name.split(".")[1]))[1], self._names(note))

    def _places(self, job: int) -> tuple[Path, Path]:
        """A job's note, and where its files are kept."""
        return self.folder / f"done.{job}.json", self.folder / f"kept.{job}"

    def _names(self, note: Path) -> dict[str, Any]:
        """Name in the work folder -> digest; empty if the note is missing, damaged or names files outside."""
        try:
            noted = read_json(note)
        except KdError:
            return {}
        inside = isinstance(noted, dict) and not any(os.path.isabs(n) or ".." in Path(n).parts for n in noted)
        return noted if inside else {}


def _move(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source / name, target / name)


def salvage(work: Path, keep: Iterable[str]) -> None:
    """Empty a failed step's work folder except for the files of its finished jobs and the names in `keep`."""
    jobs = work / "log" / JOBS
    for folder in sorted(jobs.iterdir()) if jobs.is_dir() else []:
        Parts(folder, work).keep()
        clear(folder, lambda name: name.startswith(("done.", "kept.")))
    clear(work, lambda name: name in {"log", *keep})
    if (work / "log").is_dir():
        clear(work / "log", lambda name: name == JOBS)


def forget(work: Path) -> None:
    """Remove the notes."""
    shutil.rmtree(work / "log" / JOBS, ignore_errors=True)


def clear(folder: Path, stays: Callable[[str], bool]) -> None:
    """Delete what is in a folder except for the names that stay."""
    for entry in folder.iterdir():
        if stays(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
