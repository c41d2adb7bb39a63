"""The only interface to k2: wraps what is used of it, and turns its silent failures into errors.

In: graphs as arc arrays, scores as (T, C) arrays, labels = column numbers >= 1 and -1 on final arcs.
Out: k2 lattices, best paths, total scores. k2 is imported on first use, so that modules that import this one
load without it. The failures were seen with k2 1.23.4:

- a label beyond the last score column gives a wrong finite score; label 0 consumes a frame;
- utterances not sorted by descending length give wrong paths in the exact intersection;
- scores in float64, not contiguous or far below zero fail or give empty paths (so each frame's largest
  score is subtracted here and kept as an offset, and the rest is floored);
- an utterance too short for its graph, or too narrow a beam, gives a lattice with no arcs and no message;
- arcs out of source-state order make an Fsa that is not valid.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdtool.core.errors import KdError

SCORE_FLOOR = -1.0e4  # nats below a frame's best score; also the epsilon column's score
MIN_OUTPUT_BEAM = 1.0
MOST_STATES = 1_000_000  # active per frame: only the beam limits
EXACT_LIMIT = 100_000_000  # frames times arcs of a batch: above, an exact search takes gigabytes (a minute of speech: 20 M)


@functools.lru_cache(maxsize=1)
def require_k2() -> Any:
    """The k2 module. Raises KdError with what to do when it is not installed or does not fit torch."""
    try:
        import k2
    except (ImportError, OSError) as e:
        raise KdError(f"k2 cannot be loaded ({e}); run utils/setup_env.sh, or install the k2 made for your torch") from e
    return k2


def make_fsa(
    src: np.ndarray, dst: np.ndarray, label: np.ndarray, score: np.ndarray | None = None, attrs: Mapping[str, np.ndarray] | None = None
) -> Any:
    """One k2 Fsa from arc arrays of equal length; KdError on an order or label that k2 would accept with wrong results.

    State 0 is the start, the largest state the final one. Arcs are in rising order of `src`; exactly the arcs into the
    final state have label -1. `attrs`: further values per arc (int32), which intersections and best paths carry along.
    """
    import torch

    k2 = require_k2()
    arcs = np.empty((len(src), 4), dtype=np.int32)
    arcs[:, 0], arcs[:, 1], arcs[:, 2] = src, dst, label
    scores = np.zeros(len(src), np.float32) if score is None else np.ascontiguousarray(score, np.float32)
    if not len(src) == len(dst) == len(label) == len(scores) or len(src) == 0:
        raise KdError(f"graph: {len(src)} sources, {len(dst)} targets, {len(label)} labels; need as many of each, and some")
    if arcs[:, :3].min() < -1 or arcs[:, :2].min() < 0:
        raise KdError(f"graph: smallest state {arcs[:, :2].min()}, label {arcs[:, 2].min()}; states start at 0, labels at -1")
    if np.any(np.diff(arcs[:, 0]) < 0):
        raise KdError("graph: arcs must be sorted by their source state")
    final = int(arcs[:, 1].max())
    if arcs[:, 0].max() >= final:
        raise KdError(f"graph: state {arcs[:, 0].max()} has arcs but the final state, {final}, must be the largest and have none")
    if np.any((arcs[:, 1] == final) != (arcs[:, 2] == -1)):
        raise KdError("graph: label -1 belongs on the arcs into the final state, and only there")
    if not np.all(np.isfinite(scores)):
        raise KdError("graph: arc scores must be finite")
    arcs[:, 3] = scores.view(np.int32)
    fsa = k2.Fsa(torch.from_numpy(arcs))
    for name, values in (attrs or {}).items():
        if len(values) != len(src):
            raise KdError(f"graph: attribute {name} has {len(values)} values for {len(src)} arcs")
        setattr(fsa, name, torch.from_numpy(np.ascontiguousarray(values, np.int32)))
    return fsa


def with_words(fsa: Any, words: np.ndarray, lm_scores: np.ndarray) -> Any:
    """The Fsa with ``aux_labels``, as k2's decoding scripts expect them, and ``lm_scores``; it is changed in place.

    words: int32 (A, M), each arc's word ids in order, zeros add nothing; the result is ragged, -1 on final arcs. lm_scores: (A,) nats.
    """
    import torch

    k2, final = require_k2(), fsa.labels.numpy()[:, None] == -1
    words = np.where(final, np.eye(1, words.shape[1], dtype=np.int32) * -1, words).astype(np.int32)
    splits = np.concatenate([[0], np.cumsum((words != 0).sum(axis=1))]).astype(np.int32)
    shape = k2.ragged.create_ragged_shape2(torch.from_numpy(splits), None, int(splits[-1]))
    fsa.aux_labels = k2.RaggedTensor(shape, torch.from_numpy(words[words != 0]))
    fsa.lm_scores = torch.from_numpy(np.ascontiguousarray(lm_scores, np.float32))
    return fsa


def make_fsa_vec(fsas: Sequence[Any]) -> Any:
    """Several single Fsas as one FsaVec, in the given order."""
    return require_k2().create_fsa_vec(list(fsas))


@dataclass(frozen=True)
class Dense:
    """Scores in k2's form. `frames`: length of each utterance; `offset`: nats subtracted from each (sum of frame maxima)."""

    vec: Any
    num_columns: int
    frames: list[int]
    offset: np.ndarray


def to_device(fsas: Any, device: str) -> Any:
    """The Fsa or FsaVec on a device of torch ("cpu", "cuda:0")."""
    return fsas if device == "cpu" else fsas.to(device)


def make_dense(scores: Sequence[np.ndarray], device: str = "cpu") -> Dense:
    """Scores of several utterances, longest first, to k2's dense form on a device.

    scores: (T, C) float32 each; column 0 belongs to epsilon and is overwritten with a constant; graph label n reads
    column n. Fewer columns in some utterances are padded with the floor. Each frame's maximum is subtracted.

    Raises:
        KdError: not sorted by descending length, empty, wrong type, or a value that is not finite.
    """
    import torch

    k2 = require_k2()
    frames = [len(s) for s in scores]
    if not frames or min(frames) == 0:
        raise KdError(f"dense scores: {len(frames)} utterances, shortest {min(frames, default=0)} frames; need at least 1")
    if any(a < b for a, b in itertools.pairwise(frames)):
        raise KdError(f"dense scores: lengths {frames[:8]} must fall: sort the utterances, longest first")
    for s in scores:
        if s.ndim != 2 or s.dtype != np.float32 or s.shape[1] < 2:
            raise KdError(f"dense scores: {s.dtype} {s.shape}; float32 (frames, 1 + units) is needed")
    columns = max(s.shape[1] for s in scores)
    dense = np.full((len(scores), frames[0], columns), SCORE_FLOOR, np.float32)
    offset = np.zeros(len(scores))
    for i, s in enumerate(scores):
        top = s[:, 1:].max(axis=1, keepdims=True)
        if not np.all(np.isfinite(top)) or not np.isfinite(s[:, 1:].sum(dtype=np.float64)):
            raise KdError(f"dense scores: utterance {i} of the batch holds values that are not finite; check the model")
        np.subtract(s[:, 1:], top, out=dense[i, : len(s), 1 : s.shape[1]])
        offset[i] = top.sum(dtype=np.float64)
    np.maximum(dense, SCORE_FLOOR, out=dense)
    segments = torch.tensor([[i, 0, n] for i, n in enumerate(frames)], dtype=torch.int32)
    return Dense(k2.DenseFsaVec(torch.from_numpy(dense).to(device), segments), columns, frames, offset)


def _check_labels(graphs: Any, dense: Dense) -> None:
    labels = graphs.labels
    if int(labels.max()) >= dense.num_columns:
        raise KdError(f"graph label {int(labels.max())} but the scores have columns 0 to {dense.num_columns - 1}: "
                      "graph and model belong to different trees; make the graph again from this model")  # fmt: skip
    if bool((labels == 0).any()):
        raise KdError("the graph has epsilon arcs, which would eat frames here; remove epsilons first")


def intersect_dense(
    graphs: Any, dense: Dense, *, output_beam: float, search_beam: float | None = None, frame_name: str | None = None, min_active: int = 0,
    max_active: int = MOST_STATES,
) -> Any:  # fmt: skip
    """Lattice of `graphs` (an FsaVec, one graph for each utterance; one graph for all works with a search beam) and scores.

    Exact without `search_beam`, else pruned to `search_beam` nats and `max_active` states per frame (at least `min_active`).
    The lattice keeps arcs within `output_beam` nats of its best path (at least 1, below which k2 loses the path itself).
    `frame_name`: name of an attribute that holds each arc's frame. An utterance without a path has a lattice without arcs: see
    `best_paths`.
    """
    k2 = require_k2()
    _check_labels(graphs, dense)
    output_beam = max(float(output_beam), MIN_OUTPUT_BEAM)
    if len(graphs.shape) == 2:
        graphs = make_fsa_vec([graphs])
    count = graphs.shape[0]
    if count != len(dense.frames) and (search_beam is None or count != 1):
        raise KdError(f"{count} graphs for {len(dense.frames)} utterances")
    if search_beam is None:
        return k2.intersect_dense(graphs, dense.vec, output_beam, frame_idx_name=frame_name)
    return k2.intersect_dense_pruned(graphs, dense.vec, float(search_beam), output_beam, min_active, max_active, frame_idx_name=frame_name)


@dataclass(frozen=True)
class BestPath:
    """`values`: the attribute on each frame's arc, (T,) int32; `score`: nats, offsets added back."""

    values: np.ndarray
    score: float


def num_arcs(fsa_vec: Any) -> list[int]:
    """Number of arcs in each Fsa of an FsaVec."""
    splits = fsa_vec.arcs.row_splits(1), fsa_vec.arcs.row_splits(2)
    return np.diff(splits[1].cpu().numpy()[splits[0].cpu().numpy()]).tolist()


def best_paths(lattice: Any, dense: Dense, attr: str) -> list[BestPath | None]:
    """Best path of each utterance, or None (graph longer than the utterance, beam too narrow); KdError if its length is another."""
    k2 = require_k2()
    found = num_arcs(lattice)
    if not any(found):  # k2 fails on an empty list
        return [None] * len(found)
    paths = k2.shortest_path(lattice, use_double_scores=True)
    values = getattr(paths, attr).cpu().numpy()
    scores = paths.scores.detach().double().cpu().numpy()
    result: list[BestPath | None] = [None] * len(found)
    lengths = num_arcs(paths)
    for i, (end, length) in enumerate(zip(np.cumsum(lengths), lengths, strict=True)):
        if length and found[i]:
            if length != dense.frames[i] + 1:
                raise KdError(f"best path of utterance {i} has {length - 1} arcs for {dense.frames[i]} frames; are there epsilon arcs?")
            total = float(scores[end - length : end].sum()) + float(dense.offset[i])
            result[i] = BestPath(values[end - length : end - 1].copy(), total)
    return result


def within_beam(lattice: Any, beam: float) -> np.ndarray:
    """Which arcs of an FsaVec lie on a path at most `beam` nats worse than the best one of their Fsa: bool, one per arc.

    The pruned intersection leaves ten times as many arcs, most of which lead nowhere.
    """
    forward, backward = (getattr(lattice, f"get_{way}_scores")(True, False).cpu().numpy() for way in ("forward", "backward"))
    arcs = lattice.arcs.values().cpu().numpy()
    states = lattice.arcs.row_splits(1).cpu().numpy()  # of each Fsa, its first state
    count = num_arcs(lattice)
    begin = np.repeat(states[:-1], count)
    best = np.repeat(np.maximum(forward[np.maximum(states[1:] - 1, 0)], -1e30), count)
    total = forward[begin + arcs[:, 0]] + lattice.scores.double().cpu().numpy() + backward[begin + arcs[:, 1]]
    return np.asarray(total >= best - beam)


def occupancy(lattice: Any, attr: str, frame_name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, value of `attr` and posterior, sorted by frame, of the arcs of one utterance's lattice, without the final ones.

    frame_name: the attribute into which `intersect_dense` put the frames.
    """
    probability = lattice.get_arc_post(use_double_scores=True, log_semiring=True).exp().cpu().numpy()
    inside = (lattice.labels >= 0).cpu().numpy()
    frame = getattr(lattice, frame_name).cpu().numpy()[inside]
    order = np.argsort(frame, kind="stable")
    value = getattr(lattice, attr).cpu().numpy()[inside]
    return frame[order], value[order], probability[inside][order]
