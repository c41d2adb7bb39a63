"""Keeps a user's changes to a finished output when the step runs again.  In: the old folder.  Out: a numbered backup.

    exp/tri/  the new output        exp/.tri.backup.1/  the user's files of the old one, under their old names

A file is the toolkit's if the folder's record lists it with this content; everything else is the user's: changed results,
notes, files in log/, hidden files, links. A nested step's folder has a separate record; a copy of one (under another name than
in its record) is the user's. Files are moved one by one and the record is moved last, so a kill at any moment loses nothing.
"""

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.digest import NOT_CONTENT, RECORD, Stats, read_record, stat_digest
from kdtool.core.errors import KdError
from kdtool.core.lock import is_lock
from kdtool.core.ownership import is_work, shown
from kdtool.core.parts import clear
from kdtool.core.state import KEY
from kdtool.core.tensors import file_digest

HELPER = re.compile(r"\.(.+)\.(?:old|work)")


@dataclass
class Sorted:
    """Files below a folder: the user's, and the toolkit's in the order of deletion."""

    theirs: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    unsure: int = 0  # number of the user's files that may be logs, which older records do not list


def sort_files(folder: Path) -> Sorted:
    """Sort the files below a step's folder by owner; links are never followed."""
    found = Sorted()
    _sort_step(folder, "", found)
    # The files that identify a folder as ours are deleted last.
    found.ours.sort(key=lambda name: (os.path.basename(name) in (RECORD, KEY), -name.count(os.sep)))
    return found


def retire(name: str, old: Path, out: Path) -> None:
    """Remove the old output: the user's files move to a backup beside `out`, which is named; the rest is deleted."""
    kept: list[str] = []
    unsure = 0
    backup: Path | None = None
    if os.path.lexists(old) and (old.is_symlink() or not old.is_dir()):  # the folder was replaced meanwhile
        backup, kept = _new_backup(out), [out.name]
        os.rename(old, backup / out.name)
    while os.path.lexists(old):  # repeat if files were added meanwhile
        found = sort_files(old)
        for file in found.theirs:
            backup = backup or _new_backup(out)
            (backup / file).parent.mkdir(parents=True, exist_ok=True)
            os.rename(old / file, backup / file)
        kept += found.theirs
        unsure += found.unsure
        for file in found.ours:
            if file != RECORD:
                (old / file).unlink(missing_ok=True)
        for place, _, _ in os.walk(old, topdown=False):
            if place != str(old) and not os.listdir(place):
                os.rmdir(place)
        if os.listdir(old) in ([RECORD], []):
            (old / RECORD).unlink(missing_ok=True)
            old.rmdir()
    if backup:
        what = "1 file that you changed or added is" if len(kept) == 1 else f"{len(kept)} files that you changed or added are"
        logs = f"; {unsure} of them may be its own logs, which its older record does not list" if unsure else ""
        print(f"{name}: {what} kept in {backup} ({shown(kept)}){logs}", flush=True)


def remove_work(work: Path) -> None:
    """Delete an interrupted run's folder; its key is deleted last, as it identifies the folder as ours."""
    clear(work, lambda name: name == KEY)
    (work / KEY).unlink(missing_ok=True)
    work.rmdir()


def other_stats(work: Path, outputs: Stats) -> Stats:
    """Relative name -> [size, mtime_ns, digest] of a step's files that are not output: logs, options, versions."""
    names = (str((Path(place) / n).relative_to(work)) for place, _, files in os.walk(work) for n in files)
    return {n: stat_digest(work / n, {}, n) for n in sorted(names) if n not in outputs and n not in (KEY, RECORD)}


@dataclass(frozen=True)
class _Made:
    """Evidence of who made a folder's files."""

    listed: dict[str, Any] = field(default_factory=dict)  # name -> [size, mtime_ns, digest]
    when: int = 0  # time of the record, by the file system's clock
    logs: bool = True  # logs, options and versions are listed, too; older records list outputs only
    everything: bool = False  # a nested step's interrupted folder

    def has(self, path: Path, name: str) -> bool:
        """Whether the toolkit made this file as it is. Files unmodified since the record are not read again."""
        if self.everything or name == RECORD or (path.name.startswith(".") and path.name.endswith(".lock") and is_lock(path)):
            return True
        size, mtime, digest = self.listed.get(name, (-1, 0, ""))
        try:
            now = path.stat()
            if not stat.S_ISREG(now.st_mode) or now.st_size != size:
                return False
            return (now.st_mtime_ns == mtime and now.st_ctime_ns <= self.when) or file_digest(path) == digest
        except OSError:  # a broken link or an unreadable file
            return False


def _sort_step(folder: Path, above: str, found: Sorted) -> None:
    record = read_record(folder)
    helper = HELPER.fullmatch(folder.name)
    if above and record and record.get("place", folder.name) != (helper[1] if helper else folder.name):
        record = None  # a copy kept by the user
    made = None
    if record:
        listed = {**record["outputs"], **record.get("others", {})}
        made = _Made(listed, (folder / RECORD).stat().st_ctime_ns, "others" in record)
    _sort_below(folder, folder, above, made, found)


def _sort_below(step: Path, folder: Path, above: str, made: _Made | None, found: Sorted) -> None:
    """Sort the files below a step's folder; without `made` all of them are the user's."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            path, name = Path(entry.path), str(Path(entry.path).relative_to(step))
            if not entry.is_dir(follow_symlinks=False):
                ours = made is not None and made.has(path, name)
                (found.ours if ours else found.theirs).append(above + name)
                found.unsure += made is not None and not ours and not made.logs and name.split(os.sep, 1)[0] in NOT_CONTENT
            elif made and (path / RECORD).exists():
                _sort_step(path, f"{above}{name}{os.sep}", found)
            else:
                left = made and HELPER.fullmatch(entry.name) and is_work(path)
                _sort_below(step, path, above, _Made(everything=True) if left else made, found)


def _new_backup(out: Path) -> Path:
    """A new folder .NAME.backup.N beside the output."""
    taken = re.compile(rf"\.{re.escape(out.name)}\.backup\.(\d+)")
    numbers = [int(m[1]) for n in os.listdir(out.parent) if (m := taken.fullmatch(n))]
    for number in range(1 + max(numbers, default=0), 1000 + len(numbers)):
        with suppress(FileExistsError):
            backup = out.with_name(f".{out.name}.backup.{number}")
            backup.mkdir()
            return backup
    raise KdError(f"{out}: no free name for a backup beside it; move the backups (.{out.name}.backup.*) away")
