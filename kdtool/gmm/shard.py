"""One shard of the training data inside a worker process: features, graphs, the current alignment, speakers' transforms.

In: a feature folder, utterance ids, pronunciations, a front end; then trees and models from the trainer. Out: statistics.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import Alignment, AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.gmm import fmllr, mllt
from kdtool.gmm.em import Moments, Stats, accumulate
from kdtool.gmm.feats import FrontEnd, log_det, transform_features
from kdtool.gmm.flat_start import equal_path
from kdtool.gmm.lda import LdaStats
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.search import search, too_short
from kdtool.gmm.tree_stats import TreeStats, frame_stats
from kdtool.graph.engine import Engine, Native
from kdtool.graph.training import GraphBuilder, TrainingGraph, Words

CHUNK_FRAMES = 1 << 17
CACHE_BYTES = 150_000_000  # features and graphs of a shard stay in memory up to this size, else are recomputed


class Shard:
    """State of one shard. `feats`: features of a frame with its speaker's transform, once there is one; `raw`: without it."""

    def __init__(self, feat_dir: str, ids: list[str], words: Words, front: FrontEnd) -> None:
        import torch

        torch.set_num_threads(1)
        self.engine: Engine = Native()
        self.features = FeatureSet.open(Path(feat_dir))
        self.ids, self.words = list(ids), words
        self.pdf: dict[str, np.ndarray] = {}
        self.given: dict[str, Alignment] = {}
        self.transforms: dict[str, np.ndarray] = {}
        self._graphs: dict[str, TrainingGraph] = {}
        self.set_front(front)

    def set_front(self, front: FrontEnd) -> None:
        """Use `front` for features from now on."""
        self.front = front
        size = sum(self.features.info(i).num_frames for i in self.ids) * front.dim * 4
        self._keep = size <= CACHE_BYTES
        self._raw: dict[str, np.ndarray] = {}

    def raw(self, utterance: str) -> np.ndarray:
        if utterance in self._raw:
            return self._raw[utterance]
        value = self.front.features(self.features, utterance)
        if self._keep:
            self._raw[utterance] = value
        return value

    def transform(self, utterance: str) -> np.ndarray | None:
        """The transform of the utterance's speaker, None before the first estimate."""
        return self.transforms.get(self.features.info(utterance).speaker)

    def feats(self, utterance: str) -> np.ndarray:
        transform = self.transform(utterance)
        return self.raw(utterance) if transform is None else transform_features(transform, self.raw(utterance))

    def graph(self, utterance: str) -> TrainingGraph:
        if utterance in self._graphs:
            return self._graphs[utterance]
        known, _ = self.builder.known_words(self.features.info(utterance).text)
        graph = self.builder.build(known)
        if self._keep:
            self._graphs[utterance] = graph
        return graph

    def set_tree(self, tree: Tree) -> tuple[list[tuple[str, str]], int]:
        """Build graphs for `tree` from now on. Returns (utterances too short for their transcript, with reason; unknown words)."""
        self.builder = GraphBuilder(self.words, tree)
        self._graphs = {}
        unknown, short = 0, []
        for utterance in self.ids:
            info, needed = self.features.info(utterance), self.graph(utterance).min_frames
            unknown += self.builder.known_words(info.text)[1]
            if info.num_frames < needed:
                short.append((utterance, too_short(needed, info.num_frames)))
        self._drop(short)
        return short, unknown

    def count(self) -> int:
        """Number of remaining utterances."""
        return len(self.ids)

    def _drop(self, lost: list[tuple[str, str]]) -> None:
        gone = {utterance for utterance, _ in lost}
        self.ids = [u for u in self.ids if u not in gone]

    def moments(self) -> Moments:
        """Of all features: for the global mean and variance."""
        sums = Moments(0, np.zeros(self.front.dim), np.zeros(self.front.dim))
        for utterance in self.ids:
            x = self.feats(utterance).astype(np.float64)
            sums.add(Moments(len(x), x.sum(axis=0), (x**2).sum(axis=0)))
        return sums

    def align_equally(self) -> None:
        """Flat start: first pronunciations with silence at both ends, equal time per HMM state."""
        for utterance in self.ids:
            graph = self.graph(utterance)
            self.pdf[utterance] = graph.pdf[equal_path(graph, self.features.info(utterance).num_frames)]

    def take(self, ali_dir: str) -> list[tuple[str, str]]:
        """Hold alignments made with another tree on the same phones; until `align_as_before`, pdfs are that tree's.

        Returns the utterances without alignment, with the reason why they are left out from now on.
        """
        alignments = AlignmentSet.open(Path(ali_dir))
        missing = [(u, "no alignment from the model before") for u in self.ids if u not in alignments]
        self._drop(missing)
        self.given = {u: alignments.get(u) for u in self.ids}
        self.pdf = {u: ali.pdf for u, ali in self.given.items()}
        for utterance, ali in self.given.items():
            frames = self.features.info(utterance).num_frames
            if ali.num_frames != frames:
                raise KdError(f"{utterance}: alignment of {ali.num_frames} frames, features of {frames}; align these features again")
        return missing

    def align_as_before(self) -> None:
        """Make the held alignments, with the present tree's pdfs, the current ones."""
        for utterance in self.ids:
            self.pdf[utterance] = self.builder.tree.pdf_map[tuple(context_keys(self.given[utterance]).T)]
        self.given = {}

    def accumulate(self, model: DiagGmm, raw: bool = False) -> Stats:
        """E-step on the current alignment; likelihoods are of the unadapted features, so the transforms' determinants count.

        raw: moments of the unadapted features; each Gaussian's share still comes from `model` on the adapted ones.
        """
        stats = Stats.zeros(model.num_gaussians, model.dim)
        for ids, x, pdf in self._chunks():
            accumulate(model, x, pdf, stats, np.concatenate([self.raw(u) for u in ids]) if raw else None)
            stats.loglike += sum(len(self.pdf[u]) * log_det(self.transform(u)) for u in ids)
        return stats

    def accumulate_lda(self, num_pdfs: int, silence: np.ndarray) -> LdaStats:
        """Sums by pdf over non-silence frames (bool (num_pdfs,))."""
        stats = LdaStats.zeros(num_pdfs, self.front.dim)
        for _, x, pdf in self._chunks():
            stats.accumulate(x[~silence[pdf]], pdf[~silence[pdf]])
        return stats

    def accumulate_mllt(self, model: DiagGmm, silence: np.ndarray) -> fmllr.RowStats:
        """Statistics for the MLLT matrix, over non-silence frames."""
        stats = mllt.zeros(model.dim)
        for _, x, pdf in self._chunks():
            mllt.accumulate(model, x[~silence[pdf]], pdf[~silence[pdf]], stats)
        return stats

    def set_transforms(self, transforms: dict[str, np.ndarray]) -> None:
        self.transforms = transforms

    def adapt(self, model: DiagGmm, silence: np.ndarray, how: fmllr.Adaptation) -> tuple[float, float]:
        """Re-estimate the transforms of the shard's speakers (it has all their utterances); silence: bool (pdfs of the current alignment,).
        Returns the gain over the identity in nats, and frames."""
        stats: dict[str, fmllr.RowStats] = {}
        for ids, x, pdf in self._chunks():
            precision, target = fmllr.targets(model, x, pdf)
            ends = np.cumsum([len(self.pdf[u]) for u in ids])
            for u, end in zip(ids, ends.tolist(), strict=True):
                sums = stats.setdefault(self.features.info(u).speaker, fmllr.RowStats.zeros(model.dim))
                used = np.flatnonzero(weight := how.weights(silence[self.pdf[u]]))
                rows = used + end - len(weight)
                sums.add_frames(self.raw(u)[used], precision[rows], target[rows], weight[used])
        gain = 0.0
        for speaker, sums in stats.items():
            self.transforms[speaker], better = how.estimate(sums, speaker)
            gain += better
        return gain, sum(sums.frames for sums in stats.values())

    def _chunks(self) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
        """The utterances with their features and pdfs, end to end, in parts of some 100,000 frames."""
        part: list[str] = []
        frames = 0
        for utterance in self.ids:
            part.append(utterance)
            frames += len(self.pdf[utterance])
            if frames >= CHUNK_FRAMES or utterance == self.ids[-1]:
                yield part, np.concatenate([self.feats(u) for u in part]), np.concatenate([self.pdf[u] for u in part])
                part, frames = [], 0

    def realign(self, model: DiagGmm) -> tuple[int, int, float, list[tuple[str, str]]]:
        """Viterbi. Returns frames whose pdf changed, frames, log-likelihood, failed utterances with reason."""
        changed, frames, loglike, lost = 0, 0, 0.0, []
        for utterance, graph, path in search(self.engine, model, self.features, self.ids, self.graph, self.feats):
            if isinstance(path, str):
                lost.append((utterance, path))
                continue
            pdf = graph.pdf[path.states]
            if utterance in self.pdf:
                changed += int((pdf != self.pdf[utterance]).sum())
            self.pdf[utterance] = pdf
            frames += len(pdf)
            loglike += path.score + len(pdf) * log_det(self.transform(utterance))
        self._drop(lost)
        return changed, frames, loglike, lost

    def tree_stats(self) -> TreeStats | None:
        """Statistics of every (left, centre, right, state) seen, float64; None without utterances."""
        if not self.ids:
            return None
        keys = np.concatenate([context_keys(self.given[u]) for u in self.ids])
        return frame_stats(keys, np.concatenate([self.feats(u) for u in self.ids]))


def context_keys(ali: Alignment) -> np.ndarray:
    """Left phone, phone, right phone and state of each frame, int64 (T, 4); phone 0 is the utterance's edge."""
    segments = ali.phone_segments()
    left, right = ([0, *segments.ids[:-1]], [*segments.ids[1:], 0])
    return np.stack([np.repeat(left, segments.length), ali.phone, np.repeat(right, segments.length), ali.state], axis=1)
