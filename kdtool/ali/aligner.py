"""Forced alignment of utterances with any GMM.

In: a feature set, a graph builder, an opened GMM folder. Out: alignments in the given order; failed utterances with reasons, sums,
and for a model of speaker-adapted features the speakers' transforms.

The search is exact (no beam), so there is nothing to retry with a wider one: an utterance fails only when it has fewer
frames than its transcript needs. A model of adapted features aligns twice: first with its speaker-independent twin on unadapted
features, then, with the transform estimated on that, with itself.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kdtool.core.errors import KdError
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import Alignment
from kdtool.gmm import fmllr
from kdtool.gmm.feats import log_det, transform_features
from kdtool.gmm.folder import Gmm
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.search import Result, search, too_short
from kdtool.graph.engine import Engine, Native
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
            stats = fmllr.RowStats.zeros(self.gmm.model.dim)
            judge = self.first if adapted is None else self.model

            for utterance, graph, path in self._search(judge, graphs, adapted):
                if not isinstance(path, str):
                    pdf = graph.pdf[path.states]
                    raw = self.gmm.front.features(self.features, utterance)
                    judged = raw if adapted is None else transform_features(adapted, raw)
                    fmllr.accumulate(self.gmm.model, raw, pdf, how.weights(self.gmm.silence[pdf]), stats, judge=judge, judged=judged)
            adapted = how.estimate(stats, speaker)[0]
        transform = fmllr.identity(self.gmm.model.dim) if adapted is None else adapted
        self.transforms[speaker] = transform
        return transform

    def _search(self, model: DiagGmm, graphs: dict[str, TrainingGraph], transform: np.ndarray | None) -> Iterator[Result]:
        feats = functools.partial(self.gmm.front.features, self.features, transform=transform)
        return search(self.engine, model, self.features, list(graphs), graphs.__getitem__, feats)

    def _alignments(self, graphs: dict[str, TrainingGraph], transform: np.ndarray | None) -> Iterator[Alignment]:
        for utterance, graph, path in self._search(self.model, graphs, transform):
            if isinstance(path, str):
                self.lost.append((utterance, path))
                continue
            self.frames += len(path.states)
            self.loglike += path.score + len(path.states) * log_det(transform)
            yield to_alignment(utterance, graph, path.states, self.features.info(utterance).text.split())


def to_alignment(utterance: str, graph: TrainingGraph, states: np.ndarray, words: Sequence[str]) -> Alignment:
    """states: HMM state of each frame (T,); words: the transcript as written (unknown words keep their spelling).

    Raises:
        KdError: the path does not hold each word once, in order.
    """
    instance, word = graph.instance[states], graph.word[states]
    phone_start = np.flatnonzero(np.concatenate([[True], instance[1:] != instance[:-1]])).astype(np.int32)
    starts = np.flatnonzero(np.concatenate([[True], word[1:] != word[:-1]]))
    lengths = np.diff(starts, append=len(word))
    spans = [(int(word[s]), int(s), int(n)) for s, n in zip(starts, lengths, strict=True) if word[s] >= 0]
    if [index for index, _, _ in spans] != list(range(len(words))):
        raise KdError(f"{utterance}: the alignment speaks words {[i for i, _, _ in spans][:5]}.. of {len(words)}; graph and path differ")
    return Alignment(
        id=utterance,
        pdf=graph.pdf[states].astype(np.int32),
        state=graph.state[states].astype(np.int16),
        phone=graph.phone[states].astype(np.int16),
        phone_start=phone_start,
        words=[(words[index], start, length) for index, start, length in spans],
    )
