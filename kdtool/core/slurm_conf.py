"""Maps resources to options of sbatch.  In: a slurm.conf of this toolkit (KD_SLURM_CONF, default utils/slurm.conf).  Out: arguments.

Its lines ('#' starts a comment; words are split as in a shell, without evaluating anything):
    command sbatch OPTIONS          options of every job, such as --partition or --account
    default NAME=VALUE              default resource of a job (NAME: mem, gpu, time)
    option NAME=VALUE [OPTIONS]     options for that value
    option NAME=* [OPTIONS]         options for every other value; $0 in them is the value
"""

import os
import shlex
from pathlib import Path

from kdtool.core.array import Needs, checked
from kdtool.core.errors import UsageError

NAMES = ("mem", "gpu", "time")
# Options set by the backend, and options that would break the tracking of jobs.
RESERVED = {"--array", "-a", "--output", "-o", "--error", "-e", "--input", "-i", "--job-name", "-J", "--wait", "-W", "--wrap", "--parsable",
       "--export", "--chdir", "-D", "--open-mode", "--requeue", "--no-requeue", "--test-only"}  # fmt: skip


def sbatch_options(needs: Needs) -> list[str]:
    """Options of sbatch for a job with these needs; UsageError names a bad line or a missing one."""
    path = Path(os.environ.get("KD_SLURM_CONF") or Path(__file__).resolve().parents[2] / "utils" / "slurm.conf")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: cannot be read ({e}); KD_SLURM_CONF must name a file like utils/slurm.conf") from e
    options: list[str] = []
    default: dict[str, str] = {}
    option: dict[tuple[str, str], list[str]] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as e:
            raise UsageError(f"{where}: {line!r}: {e}") from e
        if reserved := [w for w in words[1:] if w.split("=")[0] in RESERVED]:
            raise UsageError(f"{where}: {reserved[0]}: this option is the toolkit's own; take it out")
        name, _, value = words[1].partition("=") if len(words) > 1 else ("", "", "")
        if words[:2] == ["command", "sbatch"]:
            options += words[2:]
        elif words[:1] == ["default"] and name in NAMES and value and len(words) == 2:
            mem, gpu, time = (value if name == n else None for n in NAMES)
            checked(mem, gpu, time, [f"{where}: {n}" for n in NAMES], Needs())
            default[name] = value
        elif words[:1] == ["option"] and name in NAMES and value:
            option[name, value] = words[2:]
        elif words:
            raise UsageError(f"{where}: {shlex.join(words)!r}: expected is 'command sbatch OPTIONS', 'default NAME=VALUE' or "
                             f"'option NAME=VALUE OPTIONS' with NAME one of {', '.join(NAMES)}")  # fmt: skip
    given = {"mem": f"{needs.mem}M" if needs.mem else "", "gpu": str(needs.gpu or ""), "time": needs.time}
    for need, amount in ((n, given[n] or default.get(n)) for n in NAMES):
        if amount is not None:
            chosen = option.get((need, amount), option.get((need, "*")))
            if chosen is None:
                raise UsageError(f"{path}: a job needs {need}={amount}, and there is no line 'option {need}=*'; add one")
            options += [w.replace("$0", amount) for w in chosen]
    return options
