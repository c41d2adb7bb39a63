"""Locks.  In: a lock file's path.  Out: a lock, held until released or the process ends; or an error that names the holder.

The kernel's flock decides who holds it, so a dead process holds nothing; the file's text identifies the holder. Where flock does not
work across machines (NFS mounted without locks), a file FILE.owner made by link(2) replaces it: a dead process on
this machine is recognised by its pid and start time; one on another machine counts as alive until somebody removes the file.
Clocks need not be synchronised.
"""

import contextlib
import errno
import fcntl
import getpass
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from kdtool.core.children import started, system_text
from kdtool.core.errors import KdError, UsageError

Owner = dict[str, Any]
FIELDS = {"host", "boot", "pid", "start", "user", "command", "since"}
NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
MOUNTED_WITHOUT = {"nolock", "local_lock=all", "local_lock=flock", "localflock"}
BOOT, MOUNTS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/mountinfo")
SIGNATURE = b'{"host": "'
GRACE = 10.0  # seconds for a killed run's last children to end


class Lock:
    """`with Lock(path, "what"):` one process at a time; the file is removed on release."""

    def __init__(self, path: Path, what: str, wait: float = 0.0) -> None:
        self.path, self.what, self.wait = path, what, wait

    def __enter__(self) -> "Lock":
        while True:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                acquire(self.path, self.fd, myself(), what=self.what, wait=self.wait)
            except BaseException:
                os.close(self.fd)
                raise
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self.fd), os.stat(self.path)):
                    return self
            os.close(self.fd)  # the last owner removed the file meanwhile

    def __exit__(self, *_: object) -> None:
        if _read(owner_file(self.path)):
            owner_file(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


def acquire(path: Path, fd: int, owner: Owner, *, what: str, wait: float = 0.0) -> None:
    """Take the lock on an open file; wait at most `wait` seconds. KdError names the process that holds it."""
    begin, printed = time.monotonic(), False
    take = _take_by_link if flock_is_local(path) else _take_by_flock
    while (holder := take(path, fd, owner)) is not None:
        living = holder and is_alive(holder) is not False
        if time.monotonic() - begin >= (wait if living else max(wait, GRACE)):
            raise KdError(f"{what} is in use by {describe(path, holder)}; wait for it (--wait-lock SECONDS lets this run wait), or end it")
        if not printed and wait > 0:
            printed = True
            print(f"{what} is in use by {describe(path, holder)}; waiting up to {wait:g} s", file=sys.stderr, flush=True)
        time.sleep(0.1)


def holder_of(path: Path) -> str:
    """Describe the holder of a lock; '' if no live process holds it. Does not touch the lock."""
    for place in (path, owner_file(path)):
        owner = _read(place)
        if owner and is_alive(owner) is not False:
            return describe(path, owner)
    return ""


def is_lock(path: Path) -> bool:
    """Whether a lock's files are absent, empty or signed by us: any others belong to another program, or the user."""
    places = [p for p in (path, owner_file(path)) if os.path.lexists(p)]
    # A full disk may have cut a signature short.
    return all(p.is_file() and not p.is_symlink() and SIGNATURE.startswith(p.read_bytes()[: len(SIGNATURE)]) for p in places)


def owner_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def myself(pid: int | None = None, command: str | None = None) -> Owner:
    """The identity of this process (or of `pid`)."""
    pid = pid or os.getpid()
    words = " ".join((command or shlex.join(sys.orig_argv)).split())
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        user = str(os.getuid())
    return {
        "host": platform.node(), "boot": system_text(BOOT), "pid": pid, "start": started(pid), "user": user,
        "command": words[:300], "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }  # fmt: skip


def is_alive(owner: Owner) -> bool | None:
    """Whether a lock's owner is alive; None if this machine cannot tell."""
    if owner.get("host") != platform.node():
        return None
    return bool(owner.get("boot") == system_text(BOOT) and owner.get("start") and started(int(owner["pid"])) == owner["start"])


def describe(path: Path, owner: Owner) -> str:
    """Describe the owner, and what to do if that machine no longer runs it."""
    if not owner:
        return "another process"
    text = f"{owner['command']} (pid {owner['pid']} on {owner['host']}, user {owner['user']}, since {owner['since']})"
    alive = is_alive(owner)
    if alive is None:
        return f"{text}; if nothing runs there any more, remove {owner_file(path) if owner_file(path).exists() else path}"
    children = [] if alive else _users_of(path)
    return text + (f", which is gone, but its children are not: pid {', '.join(map(str, children))}" if children else "")


def flock_is_local(path: Path, mounts: str | None = None) -> bool:
    """Whether flock on the file's mount is local to this machine, or missing."""
    place, best, options = os.path.realpath(path), "", set[str]()
    for line in (system_text(MOUNTS) if mounts is None else mounts).splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if len(point) >= len(best) and (point == "/" or (place + "/").startswith(point + "/")):
            best, options = point, {*left.split()[5].split(","), *right.split()[-1].split(",")}
    return bool(options & MOUNTED_WITHOUT)


def _take_by_flock(path: Path, fd: int, owner: Owner) -> Owner | None:
    """None if taken, else its owner ({} if nobody has signed yet)."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(path)
    except OSError as e:
        if e.errno in NO_FLOCK:
            return _take_by_link(path, fd, owner)
        raise
    # An unsigned lock still locks; the step's own writes report a full disk and the lost file.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, _line(owner), 0)
    return None


def _take_by_link(path: Path, _fd: int, owner: Owner) -> Owner | None:
    """The same without flock."""
    return _sign(owner_file(path), _line(owner))


def _sign(place: Path, line: bytes) -> Owner | None:
    """Create the file `place` atomically: link(2) fails if the name exists, also on NFS. None, or the owner who was first."""
    temporary = place.with_name(f"{place.name}.{platform.node()}.{os.getpid()}")
    temporary.write_bytes(line)
    try:
        os.link(temporary, place)
        return None
    except FileExistsError:
        if os.stat(temporary).st_nlink == 2:  # the link was made, but the answer was lost on the network and the request repeated
            return None
        holder = _read(place)
    finally:
        temporary.unlink()
    if is_alive(holder) is not False:
        return holder
    # The owner is dead: remove its file, under a lock for removers, or a second one would remove the file of the next owner.
    remover = place.with_name(f"{place.name}.x")
    if _sign(remover, line) is None:
        try:
            if _read(place) == holder:
                place.unlink()
        finally:
            remover.unlink()
    return holder


def _line(owner: Owner) -> bytes:
    return json.dumps(owner, ensure_ascii=False).encode() + b"\n"


def _read(path: Path) -> Owner:
    """The owner that signed a file; {} if none."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and set(owner) >= FIELDS else {}


def _users_of(path: Path) -> list[int]:
    """Processes that have the file open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to another user
            if os.path.samefile(link, path):
                found.add(int(link.parts[2]))
    return sorted(found - {os.getpid(), os.getppid()})


def main() -> None:
    """FILE FD PID WAIT WHAT COMMAND...: take the lock for the shell with this PID, which has FILE open as FD."""
    path, fd, pid, wait, what, *command = sys.argv[1:]
    try:
        seconds = float(wait)
    except ValueError as e:
        raise UsageError(f"--wait-lock {wait}: seconds are expected") from e
    if not is_lock(Path(path)):
        raise UsageError(f"{path}: is no lock of this toolkit, but would be used as one; choose another --work, or move it away")
    acquire(Path(path), int(fd), myself(int(pid), shlex.join(command)), what=what, wait=seconds)


if __name__ == "__main__":
    from kdtool.core.cli import cli_main

    cli_main(main)
