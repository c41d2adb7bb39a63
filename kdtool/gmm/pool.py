"""Worker processes that keep their part of the data in memory over many training iterations.

In: a class and each shard's arguments. Out: the results of method calls, in the order of the shards. The number of
shards does not depend on the number of processes, so sums over shards are the same for every `--nj`.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from kdtool.core.children import die_with_parent
from kdtool.core.errors import KdError


class ShardPool:
    """`nj` processes; process w holds shards w, w + nj, ... Use as a context manager: leaving it ends the processes.

    Raises:
        KdError: a worker raised one (passed on with its message), or died.
    """

    def __init__(self, shard_class: type, arguments: Sequence[tuple[Any, ...]], nj: int) -> None:
        self.num_shards = len(arguments)
        self.nj = max(1, min(nj, self.num_shards))
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._workers = []
        for w in range(self.nj):
            here, there = context.Pipe()
            mine = {s: arguments[s] for s in range(w, self.num_shards, self.nj)}
            worker = context.Process(target=_serve, args=(there, shard_class, mine), daemon=True)
            worker.start()
            there.close()
            self._pipes.append(here)
            self._workers.append(worker)

    def __enter__(self) -> "ShardPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            if kind is not None:
                worker.terminate()
            worker.join(10)
            if worker.is_alive():
                worker.kill()
                worker.join()

    def call(self, method: str, *args: Any) -> list[Any]:
        """Call `method(*args)` on every shard; results in the order of the shards."""
        for pipe in self._pipes:
            try:
                pipe.send((method, args))
            except OSError:
                continue  # the worker is gone: receiving from it reports that
        results: dict[int, Any] = {}
        errors = []
        for w, pipe in enumerate(self._pipes):
            try:
                ok, answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                self._workers[w].join(1)
                errors.append(f"a worker process died (exit status {self._workers[w].exitcode}); out of memory? try --nj 1")
                continue
            if ok:
                results.update(answer)
            else:
                errors.append(answer)
        if errors:
            raise KdError(errors[0])
        return [results[s] for s in range(self.num_shards)]

    def total(self, method: str, *args: Any) -> Any:
        """The sum of the shards' statistics (kdtool.gmm.em.Sums), in the order of the shards."""
        first, *others = self.call(method, *args)
        for one in others:
            first.add(one)
        return first


def _serve(pipe: Connection, shard_class: type, arguments: dict[int, tuple[Any, ...]]) -> None:
    """A worker's loop: answer calls until the parent closes the pipe or dies."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    shards: dict[int, Any] | None = None
    while True:
        try:
            method, args = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if shards is None:
                shards = {s: shard_class(*a) for s, a in arguments.items()}
            answer: tuple[bool, Any] = (True, {s: getattr(shard, method)(*args) for s, shard in shards.items()})
        except KdError as e:
            answer = (False, str(e))
        except Exception:
            answer = (False, f"worker process: {traceback.format_exc()}")
        try:
            pipe.send(answer)
        except OSError:
            return
