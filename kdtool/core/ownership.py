"""Decides whether a step may write to its output's place.  In: a step.  Out: UsageError if not; nothing is touched.

A step writes into a folder that is absent, empty, or was made by the same step: its record says so. Anything else
belongs to the user, including a hidden helper (.X.work, .X.old, .X.lock) that the toolkit did not make. An output must not be,
contain or lie inside an input, except for the toolkit's nesting (data/train/mfcc in data/train, a step's folder).
A damaged record beside an env.json of the toolkit counts as ours: the step runs, and the whole folder becomes a backup.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdtool.core.digest import RECORD, read_record
from kdtool.core.errors import KdError, UsageError
from kdtool.core.lock import is_lock
from kdtool.core.names import printable
from kdtool.core.state import KEY, Step, hidden, kind_of
from kdtool.core.tables import read_json

SHOWN, COUNTED = 3, 1000
TORN_KEY = re.compile(rf"\.{re.escape(KEY)}\.\d+(\.\d+)?")  # a run was killed while it wrote its key
ELSEWHERE = "choose another output folder"


def check_output(step: Step) -> None:
    """UsageError unless the step may write to its output and its hidden helpers."""
    out = real(step.out) if step.out.is_symlink() else step.out
    _check_place(out)
    _check_inputs(step, out)
    if fault := fault_of(out, step):
        raise UsageError(f"{out}: {fault}; {ELSEWHERE}, or move away what is there")
    work, old, lock = (hidden(out, kind) for kind in ("work", "old", "lock"))
    if not is_work(work) and (found := listing(work)):
        raise UsageError(f"{work}: holds {found} and no {KEY}, so no step made it, but {out.name} would be made there; {ELSEWHERE}, "
                         "or move it away")  # fmt: skip
    if fault := fault_of(old, step):
        raise UsageError(f"{old}: {fault}, but the output before is kept there for a moment; {ELSEWHERE}, or move away what is there")
    if not is_lock(lock):
        raise UsageError(f"{lock}: is no lock of this toolkit, but would be used as one; {ELSEWHERE}, or move it away")


def check_unasked(out: Path) -> None:
    """The same for a step whose inputs are not known yet: any step's folder passes, the step checks again."""
    out = real(out) if out.is_symlink() else out
    _check_place(out)
    if fault := fault_of(out, None):
        raise UsageError(f"{out}: {fault}; {ELSEWHERE}, or move away what is there")


def fault_of(folder: Path, step: Step | None) -> str:
    """Why a folder is not the step's (None: any step's), '' if it is, or is absent or empty."""
    if not os.path.lexists(folder):
        return ""
    if folder.is_symlink() or not folder.is_dir():
        return "is not a folder"
    with os.scandir(folder) as entries:
        if next(entries, None) is None:
            return ""
    record = read_record(folder)
    if record is None:
        return "" if _is_damaged(folder, step) else f"holds {listing(folder)}, which no step of this toolkit made"
    if step is not None and not _is_of_kind(record, step):
        return f"was made by another step ('{record.get('name')}', not '{step.name}')"
    return ""


def is_work(folder: Path) -> bool:
    """Whether a folder was left by an interrupted step, or does not exist."""
    if not os.path.lexists(folder):
        return True
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = os.listdir(folder)
    return all(TORN_KEY.fullmatch(n) for n in names) or read_record(folder) is not None or isinstance(_json(folder / KEY), dict)


def listing(folder: Path) -> str:
    """Some of the files below a folder and their number, for a message; '' if there are none."""
    if not os.path.lexists(folder):
        return ""
    if folder.is_symlink() or not folder.is_dir():
        return f"'{folder.name}'"
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        links = [n for n in folders if os.path.islink(os.path.join(place, n))]
        found += [os.path.relpath(os.path.join(place, n), folder) for n in sorted([*files, *links])]
        if len(found) >= COUNTED:
            break
    if not found:
        return f"folders ({shown(sorted(os.listdir(folder)))})"
    count = f"{COUNTED} or more files" if len(found) >= COUNTED else f"{len(found)} file{'s' * (len(found) > 1)}"
    return f"{count} ({shown(found)})"


def shown(names: Sequence[str]) -> str:
    """The first few of some names, on one line, even if not UTF-8."""
    return printable(", ".join(names[:SHOWN])) + (", .." if len(names) > SHOWN else "")


def real(path: Path | str) -> Path:
    """The path with links resolved."""
    return Path(os.path.realpath(path))


def _check_place(out: Path) -> None:
    place = real(out)
    home = os.environ.get("HOME")
    for what, kept in (("the folder that you stand in", real(".")), ("your home folder", real(home) if home else None)):
        if kept is not None and (place == kept or place in kept.parents):
            raise UsageError(f"{out}: {'is' if place == kept else 'contains'} {what}; name a folder inside it, or {ELSEWHERE}")
    above = next(folder for folder in (*place.parents, Path("/")) if os.path.lexists(folder))
    if not above.is_dir():
        raise UsageError(f"{out}: {above} is a file, so no folder can be made below it; {ELSEWHERE}, or move it away")
    if os.path.ismount(place):
        raise UsageError(f"{out}: is a whole file system, which cannot be put in place by renaming; name a folder inside it")


def _check_inputs(step: Step, out: Path) -> None:
    """UsageError when the output is, contains or lies inside an input."""
    place = real(out)
    replaced = {str(place), str(hidden(place, "work")), str(hidden(place, "old"))}
    folders: dict[str, str] = {}  # many inputs lie in one folder
    for name, path in step.inputs.items():
        above, last = os.path.split(path)
        if os.path.islink(path) or last in ("", ".", ".."):
            source = os.path.realpath(path)
        else:
            if above not in folders:
                folders[above] = os.path.realpath(above or ".")
            source = os.path.join(folders[above], last)
        for folder in replaced:
            if source == folder or source.startswith(folder + os.sep):
                how = "is the same as" if source == folder else "contains"
                raise UsageError(f"{out} {how} {path}, the input {name}: what is read would be replaced; {ELSEWHERE}")
        # A folder without a record counts by all its files: an output inside would change it while it is made.
        if str(place).startswith(source.rstrip(os.sep) + os.sep) and os.path.isdir(source) and not os.path.exists(f"{source}/{RECORD}"):
            raise UsageError(f"{out} lies inside {path}, the input {name}, which has no record ({RECORD}): writing there would change "
                             "that input; give an output folder outside of it, or copy the input again with its record")  # fmt: skip


def _is_of_kind(record: dict[str, Any], step: Step) -> bool:
    """Whether the record is of this kind of step; older records only have the name."""
    if "kind" in record:
        return bool(record["kind"] == step.kind)
    return kind_of(str(record.get("name") or "?")) == kind_of(step.name)


def _is_damaged(folder: Path, step: Step | None) -> bool:
    """Whether the step made the folder but its record is damaged: truncated by a crash, or edited."""
    if not (folder / RECORD).is_file() or (folder / RECORD).is_symlink():
        return False
    made, record = _json(folder / "env.json"), _json(folder / RECORD)
    if step is not None and isinstance(record, dict) and "name" in record and not _is_of_kind(record, step):
        return False
    return isinstance(made, dict) and {"python", "packages", "git"} <= made.keys()


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except (KdError, OSError):
        return None
