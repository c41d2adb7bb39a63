"""Best paths of utterances through their training graphs, by a GMM.

In: a model, graphs, features. Out: an HMM state per frame, or the reason why there is none: one utterance does not stop the others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from kdtool.core.errors import KdError
from kdtool.features.store import FeatureSet
from kdtool.gmm.model import DiagGmm
from kdtool.graph.engine import Engine, StatePath
from kdtool.graph.training import TrainingGraph

Result = tuple[str, TrainingGraph, "StatePath | str"]


def too_short(needed: int, there: int) -> str:
    return f"too short for its transcript: {needed} frames needed, {there} there"


def too_large(frames: int) -> str:
    """Message for an utterance that is too large for the memory."""
    return f"too little memory for its {frames} frames; cut the recording into parts, or run fewer jobs at once"


def search(
    engine: Engine, model: DiagGmm, features: FeatureSet, utterances: Sequence[str],
    graph: Callable[[str], TrainingGraph], feats: Callable[[str], np.ndarray],
) -> Iterator[Result]:  # fmt: skip
    """Each utterance with its graph and best path, or the reason why it has none. feats: frames (T, D) as the model takes them."""
    for start in range(0, len(utterances), engine.batch):
        batch = utterances[start : start + engine.batch]
        graphs = [graph(u) for u in batch]
        try:
            yield from zip(batch, graphs, best_paths(engine, model, graphs, map(feats, batch)), strict=True)
        except (KdError, MemoryError):
            for u, one in zip(batch, graphs, strict=True):
                try:
                    yield u, one, best_paths(engine, model, [one], [feats(u)])[0]
                except (KdError, MemoryError) as e:
                    yield u, one, str(e) or too_large(features.info(u).num_frames)


def best_paths(engine: Engine, model: DiagGmm, graphs: Sequence[TrainingGraph], feats: Iterable[np.ndarray]) -> list[StatePath | str]:
    """Best paths with their log-likelihoods (nats) without the lexicon's share."""
    scores = [model.log_likelihood(x, graph.used_pdfs()) for x, graph in zip(feats, graphs, strict=True)]
    paths: list[StatePath | str] = []
    for graph, frames, path in zip(graphs, scores, engine.best_paths(graphs, scores), strict=True):
        if path and graph.score is not None:
            acoustic = frames[np.arange(len(frames)), graph.columns()[path.states]]
            path = StatePath(path.states, float(acoustic.sum(dtype=np.float64)))
        paths.append(path or "the alignment found no path")
    return paths
