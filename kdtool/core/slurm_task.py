"""One task of a Slurm array.  In: the array's folder, the task's number.  Out: the job's log and output, then its status file.

The job's command comes from a file, not through any shell. The status file is written last, atomically, by this process only:
if it is missing, Slurm ended the task. Inside the job KD_BACKEND is local: its own jobs stay in its allocation.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from kdtool.core.children import held_back, start
from kdtool.core.tables import whole_file

SPEC = "spec.json"


def write_synced(path: Path, value: Any) -> None:
    """One JSON document, synced to disk before it gets its name; text that is not UTF-8 survives."""
    with whole_file(path) as f:
        f.write(json.dumps(value).encode("ascii"))
        f.flush()
        os.fsync(f.fileno())


def main(place: str, number: str) -> int:
    """Run job `number`; returns its exit status, 128 + the signal if one killed it."""
    folder = Path(place)
    try:
        spec = json.loads((folder / SPEC).read_text(encoding="ascii"))
    except OSError as e:
        print(f"{folder / SPEC}: {e.strerror}: whoever waited for this array is gone, or the folder is not shared with "
              f"{socket.gethostname()}", file=sys.stderr)  # fmt: skip
        return 1
    job = spec["jobs"][number]
    os.chdir(spec["cwd"])
    os.environ["KD_BACKEND"] = "local"
    began = time.time()
    try:
        with open(folder / f"stdout.{number}", "wb") as output, held_back():
            child = start(job["command"], Path(job["log"]), output)
        status = child.wait()
    except OSError as e:
        with open(job["log"], "a", encoding="utf-8") as log:
            log.write(f"{e.filename}: {e.strerror}\n")
        status = 127
    write_synced(folder / f"status.{number}", {"status": status, "host": socket.gethostname(), "seconds": round(time.time() - began, 1)})
    return status if status >= 0 else 128 - status
