"""One shard of the training data inside a worker process: features, graphs, the current alignment, speakers' transforms.

In: a feature folder, utterance ids, pronunciations, a front end; then trees and models from the trainer. Out: statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.alignment import Alignment, AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.gmm import fmllr, mllt
from kdtool.gmm.em import Stats, accumulate
from kdtool.gmm.feats import FrontEnd, log_det, transform_features
from kdtool.gmm.flat_start import equal_path
from kdtool.gmm.lda import LdaStats
from kdtool.gmm.model import DiagGmm
from kdtool.graph.training import GraphBuilder, TrainingGraph, Words
from kdtool.graph.viterbi import viterbi

CHUNK_FRAMES = 1 << 17
CACHE_BYTES = 150_000_000  # features and graphs of a shard stay in memory up to this size, else are recomputed


class Shard:
    """State of one shard.

    `feats`: features of a frame with its speaker's transform, once there is one; `raw`: without it.
    """

    def __init__(self, feat_dir: str, ids: list[str], words: Words, front: FrontEnd) -> None:
        import torch

        from kdtool.features.store import FeatureSet

        torch.set_num_threads(1)
        self.features = FeatureSet.open(Path(feat_dir))
        self.ids, self.words = list(ids), words
        self.path: dict[str, np.ndarray] = {}
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
        unknown = 0
        short = []
        for utterance in self.ids:
            info = self.features.info(utterance)
            words, count = self.builder.known_words(info.text)
            unknown += count
            needed = self.builder.build(words).min_frames
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

    def moments(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Frames, sum and sum of squares of all features: for the global mean and variance."""
        frames, first, second = 0, np.zeros(0), np.zeros(0)
        for utterance in self.ids:
            x = self.feats(utterance).astype(np.float64)
            frames += len(x)
            first = x.sum(axis=0) + (first if first.size else 0.0)
            second = (x**2).sum(axis=0) + (second if second.size else 0.0)
        return frames, first, second

    def align_equally(self) -> None:
        """Flat start: first pronunciations with silence at both ends, equal time per HMM state."""
        for utterance in self.ids:
            graph = self.graph(utterance)
            states = equal_path(graph, self.features.info(utterance).num_frames)
            self.path[utterance], self.pdf[utterance] = states, graph.pdf[states]

    def take(self, ali_dir: str) -> list[str]:
        """Hold alignments made with another tree on the same phones; until `align_as_before`, pdfs are that tree's.
        Returns ids without alignment (left out from now on).
        """
        alignments = AlignmentSet.open(Path(ali_dir))
        missing = [u for u in self.ids if u not in alignments]
        self._drop([(u, "no alignment from the model before") for u in missing])
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
            ali = self.given[utterance]
            left, right = contexts(ali)
            self.pdf[utterance] = self.builder.tree.pdf_map[left, ali.phone, right, ali.state]
        self.given = {}

    def accumulate(self, model: DiagGmm) -> Stats:
        """E-step on the current alignment; likelihoods are of the unadapted features, so the transforms' determinants count."""
        stats = Stats.zeros(model.num_gaussians, model.dim)
        for ids in self._chunks():
            accumulate(model, self._joined(self.feats, ids), self._joined(self.pdf.__getitem__, ids), stats)
            stats.loglike += sum(len(self.pdf[u]) * log_det(self.transform(u)) for u in ids)
        return stats

    def accumulate_raw(self, model: DiagGmm) -> Stats:
        """Moments of the unadapted features; each Gaussian's share comes from `model` on the adapted ones."""
        stats = Stats.zeros(model.num_gaussians, model.dim)
        for ids in self._chunks():
            pdf = self._joined(self.pdf.__getitem__, ids)
            accumulate(model, self._joined(self.feats, ids), pdf, stats, self._joined(self.raw, ids))
        return stats

    def accumulate_lda(self, num_pdfs: int, silence: np.ndarray) -> LdaStats:
        """Sums by pdf over non-silence frames (bool (num_pdfs,))."""
        stats = LdaStats.zeros(num_pdfs, self.front.dim)
        for ids in self._chunks():
            x, pdf = self._joined(self.feats, ids), self._joined(self.pdf.__getitem__, ids)
            stats.accumulate(x[~silence[pdf]], pdf[~silence[pdf]])
        return stats

    def accumulate_mllt(self, model: DiagGmm, silence: np.ndarray) -> mllt.MlltStats:
        """Statistics for the MLLT matrix, over non-silence frames."""
        stats = mllt.MlltStats.zeros(model.dim)
        for ids in self._chunks():
            x, pdf = self._joined(self.feats, ids), self._joined(self.pdf.__getitem__, ids)
            mllt.accumulate(model, x[~silence[pdf]], pdf[~silence[pdf]], stats)
        return stats

    def set_transforms(self, transforms: dict[str, np.ndarray]) -> None:
        self.transforms = transforms

    def adapt(self, model: DiagGmm, silence: np.ndarray, how: fmllr.Adaptation) -> tuple[float, float]:
        """Re-estimate the transforms of the shard's speakers (it has all their utterances); gain over the identity in nats, and frames.

        silence: bool (pdfs of the current alignment,).
        """
        stats: dict[str, fmllr.FmllrStats] = {}
        for ids in self._chunks():
            pdf = self._joined(self.pdf.__getitem__, ids)
            precision, target = fmllr.wanted(model, self._joined(self.feats, ids), pdf)
            ends = np.cumsum([len(self.pdf[u]) for u in ids])
            for u, end in zip(ids, ends.tolist(), strict=True):
                mine = stats.setdefault(self.features.info(u).speaker, fmllr.FmllrStats.zeros(model.dim))
                used = np.flatnonzero(weight := how.weights(silence[self.pdf[u]]))
                rows = used + end - len(weight)
                mine.add_frames(self.raw(u)[used], precision[rows], target[rows], weight[used])
        gain = 0.0
        for speaker, sums in stats.items():
            self.transforms[speaker], better = how.estimate(sums, speaker)
            gain += better
        return gain, sum(sums.frames for sums in stats.values())

    def _chunks(self) -> Iterator[list[str]]:
        """The utterances in parts of some 100,000 frames."""
        part: list[str] = []
        held = 0
        for utterance in self.ids:
            part.append(utterance)
            held += len(self.pdf[utterance])
            if held >= CHUNK_FRAMES:
                yield part
                part, held = [], 0
        if part:
            yield part

    @staticmethod
    def _joined(get: Callable[[str], np.ndarray], ids: list[str]) -> np.ndarray:
        return np.concatenate([get(u) for u in ids])

    def realign(self, model: DiagGmm) -> tuple[int, int, float, list[tuple[str, str]]]:
        """Viterbi. Returns frames whose pdf changed, frames, log-likelihood, failed utterances with reason."""
        changed, frames, loglike, lost = 0, 0, 0.0, []
        for utterance in self.ids:
            graph = self.graph(utterance)
            found = states_or_reason(model, graph, self.feats(utterance))
            if isinstance(found, str):
                lost.append((utterance, found))
                continue
            states, score = found
            pdf = graph.pdf[states]
            if utterance in self.pdf:
                changed += int((pdf != self.pdf[utterance]).sum())
            self.path[utterance], self.pdf[utterance] = states, pdf
            frames += len(pdf)
            loglike += score + len(pdf) * log_det(self.transform(utterance))
        self._drop(lost)
        return changed, frames, loglike, lost

    def tree_stats(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Statistics of every (left, centre, right, state) seen: keys (N, 4), counts (N,), moments (N, 2 D) float64."""
        keys, xs = [], []
        for utterance in self.ids:
            ali = self.given[utterance]
            left, right = contexts(ali)
            keys.append(np.stack([left, ali.phone, right, ali.state], axis=1))
            xs.append(self.feats(utterance))
        if not keys:
            return np.zeros((0, 4), np.int64), np.zeros(0), np.zeros((0, 0))
        unique, inverse = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        x = np.concatenate(xs)[order].astype(np.float64)
        counts = np.bincount(inverse.reshape(-1), minlength=len(unique))
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        moments = np.concatenate([np.add.reduceat(x**2, starts), np.add.reduceat(x, starts)], axis=1)
        return unique.astype(np.int64), counts.astype(np.float64), moments


def too_short(needed: int, there: int) -> str:
    return f"too short for its transcript: {needed} frames needed, {there} there"


def too_large(frames: int) -> str:
    """Message for an utterance that is too large for the memory."""
    return f"too little memory for its {frames} frames; cut the recording into parts, or run fewer jobs at once"


def states_or_reason(model: DiagGmm, graph: TrainingGraph, feats: np.ndarray) -> tuple[np.ndarray, float] | str:
    """`viterbi_states`, or the reason why it has no result: one utterance does not stop the others."""
    try:
        return viterbi_states(model, graph, feats) or "the alignment found no path"
    except (KdError, MemoryError) as e:
        return str(e) or too_large(len(feats))


def viterbi_states(model: DiagGmm, graph: TrainingGraph, feats: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Best HMM state of each frame, int32 (T,), and the path's log-likelihood (nats); None without a path."""
    scores = model.log_likelihood(feats, graph.used_pdfs())
    best = viterbi(graph, scores)
    if best is None or graph.score is None:
        return best
    own = scores[np.arange(len(scores)), graph.columns()[best[0]]]  # without the lexicon's share
    return best[0], float(own.sum(dtype=np.float64))


def contexts(ali: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """Left and right phone of each frame's phone, int64 (T,); 0 at the utterance's edges."""
    segments = ali.phone_segments()
    left = np.concatenate([[0], segments.ids[:-1]])
    right = np.concatenate([segments.ids[1:], [0]])
    return np.repeat(left, segments.length), np.repeat(right, segments.length)
