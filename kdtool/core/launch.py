"""Launches independent steps in parallel.  In: NAME=a,b,c, NAME=1:N or NAME=@FILE, a log and a command.  Out: one run per value.

`utils/launch.sh --max-jobs 2 SYS=ce,hmt exp/log/student_SYS.log steps/train_student.sh conf/SYS.yaml exp/SYS` runs the
command once per value, with the name replaced in each argument; no shell evaluates anything.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.array import Needs, checked, overridden
from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError, UsageError
from kdtool.core.jobs import run_commands
from kdtool.core.own_file import check_file, keep_previous, note_own
from kdtool.core.tables import read_lines

USAGE = ("usage: utils/launch.sh [--max-jobs N] [--mem SIZE] [--gpu N] [--time LIMIT] NAME=1:N|NAME=a,b,c|NAME=@FILE LOG COMMAND "
         "[ARGUMENT ...]")  # fmt: skip
HELP = """
Runs COMMAND once per value. NAME (capital letters) is replaced by the value in LOG and in every argument, unless a letter or digit
is next to it:
    utils/launch.sh JOB=1:4 exp/log/part.JOB.log my_command --part JOB exp/part.JOB
runs 'my_command --part 1 exp/part.1' and so on, each with a separate log (standard error; standard output is passed on).
An existing log that this launcher did not write is kept as LOG.backup.1 (2, ..).
The arguments do not pass through a shell. NAME=@FILE takes the values from a text file, one per line. KD_BACKEND says where jobs
run: local (default) or slurm.

  --max-jobs N   largest number of parallel jobs (default: 2); locally never more than cores and free memory allow
  --mem SIZE     memory of one job, such as 500M or 4G       } default: KD_JOB_MEM, KD_JOB_GPU and KD_JOB_TIME from the
  --gpu N        GPUs of one job (slurm only)                } environment; utils/slurm.conf says which options of
  --time LIMIT   time limit of one job, such as 8:00:00 (slurm only)  } sbatch they become

After a failure no other job is started; the message names the failed ones. A job that is a step says 'up to date' when
the command is run again; any other command runs again, because its inputs are not known.

exit status: 0 all jobs succeeded, 1 a job failed, 2 wrong usage (nothing was started), 130 interrupted"""


@dataclass(frozen=True)
class Launch:
    """The commands and logs of one call; `at_once` run in parallel."""

    name: str
    commands: list[list[str]]
    logs: list[Path]
    at_once: int
    needs: Needs


def expand(argv: Sequence[str]) -> Launch:
    """Parse the command line; UsageError if it is malformed."""
    options = {"--max-jobs": "2"}
    rest = list(argv)
    while rest[:1] and rest[0] in ("--max-jobs", "--mem", "--gpu", "--time"):
        if len(rest) < 2:
            raise UsageError(f"{rest[0]} wants a value\n{USAGE}")
        options[rest[0]] = rest[1]
        rest = rest[2:]
    if not re.fullmatch(r"[1-9]\d*", options["--max-jobs"]):
        raise UsageError(f"--max-jobs wants a number of at least 1\n{USAGE}")
    needs = checked(options.get("--mem"), options.get("--gpu"), options.get("--time"), ("--mem", "--gpu", "--time"), overridden(Needs()))
    match = re.fullmatch(r"([A-Z]+)=(.+)", rest[0]) if rest else None
    if not match or len(rest) < 3:
        raise UsageError(USAGE)
    name, values = match[1], _values(match[2])
    log, *command = (re.split(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", a) for a in rest[1:])  # a folder may be called SYSTEMS
    commands = [[v.join(parts) for parts in command] for v in values]
    logs = [Path(v.join(log)) for v in values]
    if len(set(logs)) != len(logs):
        raise UsageError(f"the log {rest[1]} must contain {name}, or the jobs would share it")
    return Launch(f"{name}={match[2]}", commands, logs, int(options["--max-jobs"]), needs)


def main() -> None:
    if sys.argv[1:2] in (["--help"], ["-h"]):
        print(USAGE + HELP)
        return
    launch = expand(sys.argv[1:])
    for log in launch.logs:
        check_file(log)
    for log in launch.logs:
        keep_previous(log)
    try:
        run_commands(launch.commands, launch.logs, name=launch.name, at_once=launch.at_once, needs=launch.needs)
    finally:
        for log in filter(Path.is_file, launch.logs):
            note_own(log)


def _values(text: str) -> list[str]:
    if text.startswith("@"):
        if not (listed := [line.strip() for line in read_lines(text[1:]) if line.strip()]):
            raise KdError(f"{text[1:]}: no value in it; make the list again")
        return listed
    span = re.fullmatch(r"(\d+):(\d+)", text)
    if not span:
        return text.split(",")
    if int(span[1]) > int(span[2]):
        raise UsageError(f"{text}: the first number is larger than the last\n{USAGE}")
    return [str(i) for i in range(int(span[1]), int(span[2]) + 1)]


if __name__ == "__main__":
    cli_main(main)
