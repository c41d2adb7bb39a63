"""Forced alignment of utterances with any GMM.

In: a feature set, a graph builder, an opened GMM folder. Out: alignments in the given order; failed utterances with reasons, sums,
and for a model of speaker-adapted features the speakers' transforms.

The search is exact (no beam), so there is nothing to retry with a wider one: an utterance fails only when it has fewer
frames than its transcript needs. A model of adapted features aligns twice: first with its speaker-independent twin on unadapted
features, then, with the transform estimated on that, with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from kdtool.ali.from_path import to_alignment
from kdtool.core.errors import KdError
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import Alignment
from kdtool.gmm import fmllr
from kdtool.gmm.feats import log_det, transform_features
from kdtool.gmm.folder import Gmm
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.shard import too_large, too_short
from kdtool.graph.engine import Engine, Native, StatePath
from kdtool.graph.training import GraphBuilder, TrainingGraph


class Aligner:
    """boost_silence: factor on the likelihoods of the silence between words; passes: number of fMLLR estimates per speaker.

    Attributes:
        lost: (utterance, reason) of failed utterances; frames, loglike (nats, of the features before any transform),
            unknown_words: sums over aligned utterances; transforms: by speaker.
    """

    def __init__(
        self, features: FeatureSet, builder: GraphBuilder, gmm: Gmm, boost_silence: float = 1.0, passes: int = 1,
        engine: Engine | None = None,
    ) -> None:  # fmt: skip
        self.features, self.builder, self.gmm, self.passes = features, builder, gmm, passes
        self.engine = engine or Native()
        pause = gmm.tree.pdf_phone == builder.sil
        self.model = gmm.model.boosted(pause, boost_silence)
        self.first = gmm.first.boosted(pause, boost_silence) if gmm.first else self.model
        self.lost: list[tuple[str, str]] = []
        self.frames, self.loglike, self.unknown_words = 0, 0.0, 0
        self.transforms: dict[str, np.ndarray] = {}

    def align(self, ids: Iterable[str]) -> Iterator[Alignment]:
        """Alignments of `ids`; if the model needs speakers' transforms, give all utterances of a speaker."""
        graphs = {u: graph for u in ids if (graph := self._graph(u))}
        if graphs:
            yield from self._alignments(graphs, self._adapt(graphs) if self.gmm.front.adapted else None)

    def learn(self, ids: Iterable[str]) -> np.ndarray | None:
        """The transform of these utterances' speaker, None if the model needs none or no utterance can be aligned."""
        graphs = {u: graph for u in ids if self.gmm.front.adapted and (graph := self._graph(u))}
        return self._adapt(graphs) if graphs else None

    def _graph(self, utterance: str) -> TrainingGraph | None:
        info = self.features.info(utterance)
        known, unknown = self.builder.known_words(info.text)
        graph = self.builder.build(known)
        if info.num_frames < graph.min_frames:
            self.lost.append((utterance, too_short(graph.min_frames, info.num_frames)))
            return None
        self.unknown_words += unknown
        return graph

    def _adapt(self, graphs: dict[str, TrainingGraph]) -> np.ndarray:
        """The speaker's transform. Shares of Gaussians come from the previous pass, their means from the adapted model."""
        how, adapted = self.gmm.adaptation, None
        assert how is not None
        speaker = self.features.info(next(iter(graphs))).speaker
        for _ in range(self.passes):
            stats = fmllr.FmllrStats.zeros(self.gmm.model.dim)
            judge = self.first if adapted is None else self.model

            def seen(utterance: str, adapted: np.ndarray | None = adapted) -> np.ndarray:
                raw = self.gmm.front.features(self.features, utterance)
                return raw if adapted is None else transform_features(adapted, raw)

            for utterance, found in self._search(judge, graphs, seen):
                if not isinstance(found, str):
                    pdf = graphs[utterance].pdf[found.states]
                    weight = how.weights(self.gmm.silence[pdf])
                    raw = self.gmm.front.features(self.features, utterance)
                    fmllr.accumulate(self.gmm.model, raw, pdf, weight, stats, judge=judge, judged=seen(utterance))
            adapted = how.estimate(stats, speaker)[0]
        transform = fmllr.identity(self.gmm.model.dim) if adapted is None else adapted
        self.transforms[speaker] = transform
        return transform

    def _search(
        self, model: DiagGmm, graphs: dict[str, TrainingGraph], feats: Callable[[str], np.ndarray]
    ) -> Iterator[tuple[str, StatePath | str]]:
        """Best path of each utterance and its score without the lexicon's share, or the reason why it has none."""
        names = list(graphs)
        for start in range(0, len(names), self.engine.batch):
            batch = names[start : start + self.engine.batch]
            try:
                yield from zip(batch, self._paths(model, [graphs[u] for u in batch], map(feats, batch)), strict=True)
            except (KdError, MemoryError):
                for u in batch:
                    try:
                        yield u, self._paths(model, [graphs[u]], [feats(u)])[0]
                    except (KdError, MemoryError) as e:
                        yield u, str(e) or too_large(self.features.info(u).num_frames)

    def _paths(self, model: DiagGmm, graphs: list[TrainingGraph], feats: Iterable[np.ndarray]) -> list[StatePath | str]:
        scores = [model.log_likelihood(one, graph.used_pdfs()) for one, graph in zip(feats, graphs, strict=True)]
        found: list[StatePath | str] = []
        for graph, one, path in zip(graphs, scores, self.engine.best_paths(graphs, scores), strict=True):
            if path and graph.score is not None:
                own = one[np.arange(len(one)), graph.columns()[path.states]]
                path = StatePath(path.states, float(own.sum(dtype=np.float64)))
            found.append(path or "the alignment found no path")
        return found

    def _alignments(self, graphs: dict[str, TrainingGraph], transform: np.ndarray | None) -> Iterator[Alignment]:
        for utterance, found in self._search(self.model, graphs, lambda u: self.gmm.front.features(self.features, u, transform)):
            if isinstance(found, str):
                self.lost.append((utterance, found))
                continue
            self.frames += len(found.states)
            self.loglike += found.score + len(found.states) * log_det(transform)
            yield to_alignment(utterance, graphs[utterance], found.states, self.features.info(utterance).text.split())
