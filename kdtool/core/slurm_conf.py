"""Maps resources to options of sbatch.  In: a slurm.conf of this toolkit (KD_SLURM_CONF, default utils/slurm.conf).  Out: arguments.

Its lines ('#' starts a comment; words are split as in a shell, without evaluating anything):
    command sbatch OPTIONS          options of every job, such as --partition or --account
    default NAME=VALUE              default resource of a job (NAME: mem, gpu, time)
    option NAME=VALUE [OPTIONS]     options for that value
    option NAME=* [OPTIONS]         options for every other value; $0 in them is the value
"""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.array import Needs, checked
from kdtool.core.errors import UsageError

NAMES = ("mem", "gpu", "time")
# Options set by the backend, and options that would break the tracking of jobs.
OWN = {"--array", "-a", "--output", "-o", "--error", "-e", "--input", "-i", "--job-name", "-J", "--wait", "-W", "--wrap", "--parsable",
       "--export", "--chdir", "-D", "--open-mode", "--requeue", "--no-requeue", "--test-only"}  # fmt: skip


@dataclass
class SlurmConf:
    """One file's content."""

    path: Path
    command: list[str] = field(default_factory=list)
    default: dict[str, str] = field(default_factory=dict)
    option: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def options(self, needs: Needs) -> list[str]:
        """Options of sbatch for a job with these needs."""
        given = {"mem": f"{needs.mem}M" if needs.mem else "", "gpu": str(needs.gpu or ""), "time": needs.time}
        found = list(self.command)
        for name, value in ((n, given[n] or self.default.get(n)) for n in NAMES):
            if value is None:
                continue
            words = self.option.get((name, value), self.option.get((name, "*")))
            if words is None:
                raise UsageError(f"{self.path}: a job needs {name}={value}, and there is no line 'option {name}=*'; add one")
            found += [w.replace("$0", value) for w in words]
        return found


def load_conf() -> SlurmConf:
    """The file that KD_SLURM_CONF names; UsageError names a bad line."""
    path = Path(os.environ.get("KD_SLURM_CONF") or Path(__file__).resolve().parents[2] / "utils" / "slurm.conf")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: cannot be read ({e}); KD_SLURM_CONF must name a file like utils/slurm.conf") from e
    conf = SlurmConf(path)
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as e:
            raise UsageError(f"{where}: {line!r}: {e}") from e
        if words:
            _line(conf, words, where)
    return conf


def _line(conf: SlurmConf, words: list[str], where: str) -> None:
    own = [w for w in words[1:] if w.split("=")[0] in OWN]
    if own:
        raise UsageError(f"{where}: {own[0]}: this option is the toolkit's own; take it out")
    name, _, value = words[1].partition("=") if len(words) > 1 else ("", "", "")
    if words[0] == "command" and name == "sbatch":
        conf.command += words[2:]
    elif words[0] == "default" and name in NAMES and value and len(words) == 2:
        mem, gpu, time = (value if name == n else None for n in NAMES)
        checked(mem, gpu, time, [f"{where}: {n}" for n in NAMES], Needs())
        conf.default[name] = value
    elif words[0] == "option" and name in NAMES and value:
        conf.option[name, value] = words[2:]
    else:
        raise UsageError(f"{where}: {shlex.join(words)!r}: expected is 'command sbatch OPTIONS', 'default NAME=VALUE' or "
                         f"'option NAME=VALUE OPTIONS' with NAME one of {', '.join(NAMES)}")  # fmt: skip
