"""The C++ code (both searches, and the posteriors' ``levels.cc``), compiled once per checkout into one library, loaded by ctypes.

In: a graph's arcs and scores as numpy arrays. Out: lattice arcs; for ``viterbi.py`` and ``posteriors/rans.py``, the library.
``utils/setup_env.sh`` compiles, so that compute nodes need no compiler; a changed source is compiled again on first
use. CXX selects another compiler than g++.
"""

import ctypes
import os
import platform
import shlex
import subprocess
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main
from kdtool.core.digest import combine
from kdtool.core.errors import KdError

SOURCES = tuple(Path(__file__).parents[1] / name for name in ("graph/search.cc", "graph/viterbi.cc", "posteriors/levels.cc"))
FOLDER = Path(__file__).resolve().parents[2] / ".venv" / "native"
FLAGS = ("-O3", "-std=c++11", "-shared", "-fPIC")
NO_MEMORY = -(2**63)


def library() -> Path:
    """The compiled library, made if missing; KdError without a compiler or the permission to write.

    Its name depends on sources, flags and machine, not on the compiler: compute nodes may have none.
    """
    texts = [source.read_text(encoding="utf-8") for source in SOURCES]
    made = FOLDER / f"search-{combine([*texts, *FLAGS, platform.machine()])}.so"
    if made.exists():
        return made
    compiler = os.environ.get("CXX") or "g++"
    temporary = made.with_suffix(f".{platform.node()}.{os.getpid()}")  # renamed when complete: other processes may compile it, too
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [*shlex.split(compiler), *FLAGS, "-o", str(temporary), *map(str, SOURCES)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        temporary.replace(made)
    except subprocess.CalledProcessError as e:
        temporary.unlink(missing_ok=True)
        raise KdError(f"{SOURCES[0].parent}: {compiler} says {e.stderr.strip()[-400:]}; name a compiler of C++11 by CXX") from e
    except OSError as e:
        raise KdError(f"{made}: the search cannot be compiled ({e}); install g++ or name a compiler by CXX, and run utils/setup_env.sh "
                      "once where this folder may be written") from e  # fmt: skip
    return made


@cache
def load() -> ctypes.CDLL:
    """The library with the types of its functions; KdError if it cannot be made or loaded."""
    made = library()
    try:
        lib = ctypes.CDLL(str(made))
    except OSError as e:
        raise KdError(f"{made}: does not load ({e}); remove it and run utils/setup_env.sh") from e
    ints, reals, words, longs = (np.ctypeslib.ndpointer(t, 1, flags="C_CONTIGUOUS") for t in (np.int32, np.float32, np.uint16, np.int64))
    scores, number, real = np.ctypeslib.ndpointer(np.float32, 2, flags="C_CONTIGUOUS"), ctypes.c_int64, ctypes.c_float
    total, count, handle = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_int64), ctypes.c_void_p
    types: dict[str, tuple[Any, list[Any]]] = {  # name -> result, arguments
        "search_new": (handle, [number, number, ints, ints, ints, reals]),
        "search_free": (None, [handle]),
        "search_run": (number, [handle, scores, number, number, real, real, number, number]),
        "search_lattice": (None, [handle, ints, ints, ints, ints]),
        "viterbi": (number, [number, ints, ints, reals, number, ints, scores, number, number, ints, total]),
        "levels_encode": (handle, [handle, handle, number, longs, longs, number, number, count, count]),
        "levels_fetch": (None, [handle, words, longs]),
        "levels_decode": (number, [handle, words, number, longs, number, longs, longs, number, number, ints, ints]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(lib, f"kd_{name}")
        function.restype, function.argtypes = result, arguments
    return lib


class NativeSearch:
    """A graph loaded into the search: arcs sorted by source, label pdf + 1, -1 on the arcs into the last state."""

    def __init__(self, src: np.ndarray, dst: np.ndarray, label: np.ndarray, score: np.ndarray, *, num_pdfs: int) -> None:
        """Arrays int32 (A,) three times and float32 (A,); they are copied. KdError if they are no such graph, or for want of memory."""
        sizes = {len(src), len(dst), len(label), len(score)}
        if len(sizes) != 1 or not len(src) or np.any(np.diff(src) < 0) or min(src[0], dst.min()) < 0:
            raise KdError(f"graph: arrays of {sorted(sizes)} arcs, unsorted or with states below 0; make the graph again")
        if label.max() > num_pdfs or label.min() < -1 or np.any(label == 0):
            raise KdError(f"graph: labels {label.min()} to {label.max()} for {num_pdfs} pdfs; others are refused; make the graph again")
        self.num_pdfs, self._lib = num_pdfs, load()
        arrays = [np.ascontiguousarray(a, t) for a, t in ((src, np.int32), (dst, np.int32), (label, np.int32), (score, np.float32))]
        self._handle = self._lib.kd_search_new(len(src), 1 + int(max(src[-1], dst.max())), *arrays)
        if not self._handle:
            raise KdError(f"graph: too little memory for {len(src)} arcs in the search; decode with fewer jobs at once")
        weakref.finalize(self, self._lib.kd_search_free, self._handle)

    def lattice(
        self, scores: np.ndarray, *, search_beam: float, output_beam: float, max_active: int, min_active: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Frame, source node, target node and number in the graph of each arc within ``output_beam`` nats of the best path.

        Args:
            scores: float32 (T, num_pdfs), contiguous; -inf forbids a pdf on a frame.

        Returns:
            int32 (L,) four times, sorted by frame, final arcs at frame T; node 0 is the start, the largest the end. None if
            the beam reaches no final state.

        Raises:
            KdError: scores of another type or shape, NaN or +inf in them, beams below 0, too little memory.
        """
        if scores.dtype != np.float32 or not scores.flags.c_contiguous or scores.ndim != 2 or scores.shape[1] != self.num_pdfs:
            raise KdError(f"scores of {scores.dtype} {scores.shape}; contiguous float32 (frames, {self.num_pdfs}) is needed")
        if not (search_beam > 0 and output_beam >= 0 and max_active > 0 and min_active >= 0):
            raise KdError(f"beams {search_beam} and {output_beam}, {min_active} to {max_active} states: that finds nothing; widen them")
        count = self._lib.kd_search_run(self._handle, scores, *scores.shape, search_beam, output_beam, max_active, min_active)
        if count == NO_MEMORY:
            raise KdError(f"too little memory to search {len(scores)} frames; lower the beams or decode with fewer jobs at once")
        if count < 0:
            raise KdError(f"frame {-1 - count} of the scores holds NaN or +inf; check the model")
        if not count:
            return None
        frame, src, dst, arc = (np.empty(count, np.int32) for _ in range(4))
        self._lib.kd_search_lattice(self._handle, frame, src, dst, arc)
        return frame, src, dst, arc


def main() -> None:
    """Compile."""
    library()


if __name__ == "__main__":
    cli_main(main)
