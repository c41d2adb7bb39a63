"""Backend `local`: an array's jobs as child processes.  In: an array.  Out: its logs; the failed jobs with their signals.

At most as many jobs run in parallel as requested, as there are cores, and as fit into free memory by the array's estimate.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from kdtool.core.array import Array, Failure
from kdtool.core.children import held_back, start, stop
from kdtool.core.limits import cores, free_memory, memory_kills
from kdtool.core.progress import Watch


def jobs_at_once(array: Array, jobs: int) -> int:
    """Number of jobs to run in parallel; prints a note if memory limits it more than cores do."""
    useful = min(array.at_once, cores(), max(jobs, 1))
    if not array.needs.mem:
        return useful
    free = free_memory()
    fitting = max(1, free // array.needs.mem)
    if fitting < useful:
        print(f"note: {array.name}: {fitting} instead of {useful} jobs at once, since each may take {array.needs.mem} MB and {free} MB "
              "are free (KD_JOB_MEM overrides the estimate)", file=sys.stderr)  # fmt: skip
    return min(useful, fitting)


def run(array: Array, todo: Sequence[int], ended: Callable[[int], None]) -> dict[int, Failure]:
    """Run the jobs `todo`; after a failure running jobs finish and no new one starts: the cause should not scroll away."""
    at_once, kills = jobs_at_once(array, len(todo)), memory_kills()
    waiting = list(todo)
    running: dict[int, subprocess.Popen[bytes]] = {}
    failed: dict[int, Failure] = {}
    watch = Watch(array.name, array.logs, len(todo))
    try:
        while (waiting and not failed) or running:
            while waiting and not failed and len(running) < at_once:
                index = waiting.pop(0)
                with held_back():
                    running[index] = start(array.commands[index], array.logs[index])
            for index, child in list(running.items()):
                if (status := child.poll()) is not None:
                    del running[index]
                    if status:
                        failed[index] = failure(status, array.needs.mem, kills)
                    else:
                        watch.done += 1
                        ended(index)
            watch.look(running)
            time.sleep(0.02)
    finally:
        watch.clear()
        stop(list(running.values()))
    return failed


def failure(status: int, mem: int, kills: int) -> Failure:
    """Describe an exit status; `kills`: the kernel's previous count of kills for memory."""
    if status > 0:
        return Failure(f"exit status {status}")
    if status != -9:
        return Failure(f"signal {-status}")
    if memory_kills() > kills:
        return Failure("signal 9, killed by the kernel for memory", [
            f"the machine ran out of memory ({free_memory()} MB are free now, the estimate for a job is {mem or 'unknown'} MB): "
            "run fewer jobs at once (--nj), or raise the estimate, as in KD_JOB_MEM=4G, so that fewer start side by side",
        ])  # fmt: skip
    return Failure("signal 9", ["somebody killed it: the kernel counts no kill for memory here, but a container's host may have done one"])
