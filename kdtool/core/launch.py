"""Launcher for steps that do not depend on each other.  In: NAME=a,b,c or JOB=1:N, a log and a command.  Out: all of them run.

`utils/launch.sh --max-jobs 2 SYS=ce,hmt exp/log/student_SYS.log steps/train_student.sh conf/SYS.yaml exp/SYS` runs the
command once for each value, with the name replaced in each argument; nothing is evaluated by a shell.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.cli import cli_main
from kdtool.core.errors import UsageError
from kdtool.core.jobs import run_commands

USAGE = "usage: utils/launch.sh [--max-jobs N] NAME=a,b,c|NAME=1:N LOG COMMAND [ARGUMENT ...]"


@dataclass(frozen=True)
class Launch:
    """The commands and logs of one call, `at_once` of them side by side."""

    name: str
    commands: list[list[str]]
    logs: list[Path]
    at_once: int


def expand(argv: Sequence[str]) -> Launch:
    """The command line as commands; UsageError when it is none."""
    at_once, argv = 2, list(argv)
    if argv[:1] == ["--max-jobs"]:
        if len(argv) < 2 or not argv[1].isdigit() or int(argv[1]) < 1:
            raise UsageError(f"--max-jobs wants a number of at least 1\n{USAGE}")
        at_once, argv = int(argv[1]), argv[2:]
    match = re.fullmatch(r"([A-Z]+)=(.+)", argv[0]) if argv else None
    if not match or len(argv) < 3:
        raise UsageError(USAGE)
    name, values = match[1], _values(match[2])
    commands = [[a.replace(name, v) for a in argv[2:]] for v in values]
    logs = [Path(argv[1].replace(name, v)) for v in values]
    if len(set(logs)) != len(logs):
        raise UsageError(f"the log {argv[1]} must contain {name}, or the jobs would share it")
    return Launch(f"{name}={match[2]}", commands, logs, at_once)


def main() -> None:
    argv = sys.argv[1:]
    if argv[:1] in (["--help"], ["-h"]):
        print(USAGE)
        return
    launch = expand(argv)
    run_commands(launch.commands, launch.logs, name=launch.name, at_once=launch.at_once)


def _values(text: str) -> list[str]:
    span = re.fullmatch(r"(\d+):(\d+)", text)
    if span:
        return [str(i) for i in range(int(span[1]), int(span[2]) + 1)]
    return text.split(",")


if __name__ == "__main__":
    cli_main(main)
