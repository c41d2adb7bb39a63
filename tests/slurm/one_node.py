"""A real Slurm on one node, for tests.  In: nothing.  Out: the environment for its commands; gone when its owner is.

`OneNode` starts this file as a keeper process, which starts munged, slurmctld and slurmd with a private configuration in a
temporary folder, and ends them and all that they started when its standard input is closed: the tests' end, whatever it is.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MUNGE_FILES = {"key-file": "munge.key", "pid-file": "pid", "seed-file": "seed", "socket": "socket"}
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MEMORY = 32000  # MB that the node says it has, whatever it has
CONF = """
ClusterName=kd
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
MinJobAge={min_job_age}
InactiveLimit=0
OverTimeLimit=0
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES DefMemPerCPU=500 MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class OneNode:
    """Context manager: a running cluster; `env` is what its commands need."""

    def __init__(self, min_job_age: int = 300) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kd-slurm-"))
        self.folder.chmod(0o755)
        self.min_job_age = min_job_age
        self.env = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> OneNode:
        _write_config(self.folder, self.min_job_age)
        command = [sys.executable, __file__, str(self.folder)]
        # In a new session: a signal to the tests' group must not hit the keeper before it has tidied up.
        self.keeper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        limit = time.monotonic() + 240
        while "idle" not in (said := self.call("sinfo", "-h", "-o", "%T")):
            if time.monotonic() > limit or self.keeper.poll() is not None:
                logs = "\n".join(f"{log}:\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(self.folder.glob("*.log")))
                self.__exit__()
                raise RuntimeError(f"no Slurm: sinfo says {said!r}\n{logs}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.keeper.stdin
        self.keeper.stdin.close()
        self.keeper.wait(30)

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


def _write_config(folder: Path, min_job_age: int) -> None:
    ports = []
    for s in [socket.socket(), socket.socket()]:  # both are open before one is closed: two different ports
        s.bind(("127.0.0.1", 0))
        ports.append(s)
    numbers = [s.getsockname()[1] for s in ports]
    for s in ports:
        s.close()
    values = {"ctld_port": numbers[0], "node_port": numbers[1], "user": getpass.getuser(), "folder": folder, "memory": MEMORY,
              "host": socket.gethostname().split(".")[0], "min_job_age": min_job_age}  # fmt: skip
    (folder / "slurm.conf").write_text(CONF.format(**values))
    key = folder / "munge" / "munge.key"
    for part in ("state", "spool", "munge"):
        (folder / part).mkdir(mode=0o755)
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)


def keep(folder: Path) -> None:
    """The keeper: start the daemons, wait until standard input ends, then end every process that came of them."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # Slurm's step daemons leave their parent; they come to this process then
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)

    def prepare() -> None:
        for stop in STOPS:
            signal.signal(stop, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # munged refuses to be root
        munge = pwd.getpwnam("munge")
        for path in (folder / "munge", folder / "munge" / "munge.key"):
            os.chown(path, munge.pw_uid, munge.pw_gid)
        user = {"user": munge.pw_uid, "group": munge.pw_gid, "extra_groups": []}
    files = [f"--{option}={folder}/munge/{name}" for option, name in MUNGE_FILES.items()]
    env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    with open(folder / "daemons.log", "wb") as log:
        for command, more in ((["munged", "--foreground", *files], user), (["slurmctld", "-D"], {}), (["slurmd", "-D"], {})):
            # One thread, so code between fork and exec is safe.
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, preexec_fn=prepare, **more)  # noqa: PLW1509
    while not select.select([0], [], [], 1.0)[0]:
        _reap()
    while children := _children():
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
        _reap()
    shutil.rmtree(folder)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _children() -> list[int]:
    """All descendants."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {p for p, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
