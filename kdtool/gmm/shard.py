"""One shard of the training data inside a worker process: features, graphs, the current alignment.

In: a feature folder, utterance ids, pronunciations; then trees and models from the trainer. Out: statistics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kdtool.ali.store import Alignment, AlignmentSet
from kdtool.core.errors import KdError
from kdtool.gmm.em import Stats, accumulate
from kdtool.gmm.feats import gmm_features
from kdtool.gmm.model import DiagGmm
from kdtool.gmm.tree import Tree
from kdtool.graph.training import GraphBuilder, TrainingGraph, Words

CHUNK_FRAMES = 1 << 17
CACHE_BYTES = 150_000_000  # features and graphs of a shard stay in memory up to this size, else are made anew


class Shard:
    """State of one shard."""

    def __init__(self, feat_dir: str, ids: list[str], words: Words, deltas: int) -> None:
        import torch

        from kdtool.features.store import FeatureSet

        torch.set_num_threads(1)
        self.features = FeatureSet.open(Path(feat_dir))
        self.ids, self.words, self.deltas = list(ids), words, deltas
        self.path: dict[str, np.ndarray] = {}
        self.pdf: dict[str, np.ndarray] = {}
        self.given: dict[str, Alignment] = {}
        size = sum(self.features.info(i).num_frames for i in ids) * self.features.dim * (deltas + 1) * 4
        self._keep = size <= CACHE_BYTES
        self._feats: dict[str, np.ndarray] = {}
        self._graphs: dict[str, tuple[TrainingGraph, Any]] = {}

    def feats(self, utterance: str) -> np.ndarray:
        if utterance in self._feats:
            return self._feats[utterance]
        value = gmm_features(self.features, utterance, self.deltas)
        if self._keep:
            self._feats[utterance] = value
        return value

    def graph(self, utterance: str) -> tuple[TrainingGraph, Any]:
        """The utterance's graph and its k2 form."""
        if utterance in self._graphs:
            return self._graphs[utterance]
        known, _ = self.builder.known_words(self.features.info(utterance).text)
        graph = self.builder.build(known)
        value = graph, graph.to_fsa()
        if self._keep:
            self._graphs[utterance] = value
        return value

    def set_tree(self, tree: Tree) -> tuple[list[tuple[str, str]], int]:
        """Graphs are for `tree` from now on. Returns (utterances too short for their transcript, with reason; unknown words)."""
        self.builder = GraphBuilder.of(self.words, tree)
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
        """Flat start: first pronunciations with silence at both ends, each HMM state given the same time."""
        for utterance in self.ids:
            graph, _ = self.graph(utterance)
            states = equal_path(graph, self.features.info(utterance).num_frames)
            self.path[utterance], self.pdf[utterance] = states, graph.pdf[states]

    def take(self, ali_dir: str) -> list[str]:
        """Hold alignments made with another tree on the same phones. Returns ids that have none (left out from now on)."""
        alignments = AlignmentSet.open(Path(ali_dir))
        missing = [u for u in self.ids if u not in alignments]
        self._drop([(u, "no alignment from the model before") for u in missing])
        self.given = {u: alignments.get(u) for u in self.ids}
        for utterance, ali in self.given.items():
            frames = self.features.info(utterance).num_frames
            if ali.num_frames != frames:
                raise KdError(f"{utterance}: alignment of {ali.num_frames} frames, features of {frames}; align these features again")
        return missing

    def align_as_before(self) -> None:
        """The held alignments, with the present tree's pdfs, become the current ones."""
        for utterance in self.ids:
            ali = self.given[utterance]
            left, right = contexts(ali)
            self.pdf[utterance] = self.builder.tree.pdf_map[left, ali.phone, right, ali.state]
        self.given = {}

    def accumulate(self, model: DiagGmm) -> Stats:
        """E-step on the current alignment."""
        stats = Stats.zeros(model.num_gaussians, model.dim)
        xs: list[np.ndarray] = []
        pdfs: list[np.ndarray] = []
        held = 0
        for utterance in self.ids:
            xs.append(self.feats(utterance))
            pdfs.append(self.pdf[utterance])
            held += len(xs[-1])
            if held >= CHUNK_FRAMES:
                accumulate(model, np.concatenate(xs), np.concatenate(pdfs), stats)
                xs, pdfs, held = [], [], 0
        if held:
            accumulate(model, np.concatenate(xs), np.concatenate(pdfs), stats)
        return stats

    def realign(self, model: DiagGmm) -> tuple[int, int, float, list[tuple[str, str]]]:
        """Viterbi. Returns frames whose pdf changed, frames, log-likelihood, utterances lost with reason."""
        changed, frames, loglike, lost = 0, 0, 0.0, []
        for utterance in self.ids:
            graph, fsa = self.graph(utterance)
            found = viterbi_states(model, graph, fsa, self.feats(utterance))
            if found is None:
                lost.append((utterance, "the alignment found no path"))
                continue
            states, score = found
            pdf = graph.pdf[states]
            if utterance in self.pdf:
                changed += int((pdf != self.pdf[utterance]).sum())
            self.path[utterance], self.pdf[utterance] = states, pdf
            frames += len(pdf)
            loglike += score
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


def viterbi_states(model: DiagGmm, graph: TrainingGraph, fsa: Any, feats: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Best HMM state of each frame, int32 (T,), and the path's log-likelihood (nats); None without a path."""
    from kdtool.graph.k2api import viterbi

    pdfs = graph.used_pdfs()
    scores = np.zeros((len(feats), 1 + len(pdfs)), np.float32)
    scores[:, 1:] = model.log_likelihood(feats, pdfs)
    best = viterbi([fsa], [scores], "hmm")[0]
    if best is None:
        return None
    if graph.score is None:
        return best.values, best.score
    own = scores[np.arange(len(scores)), 1 + np.searchsorted(pdfs, graph.pdf[best.values])]  # without the lexicon's share
    return best.values, float(own.sum(dtype=np.float64))


def contexts(ali: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """Left and right phone of each frame's phone, int64 (T,); 0 at the utterance's edges."""
    segments = ali.phone_segments()
    left = np.concatenate([[0], segments.ids[:-1]])
    right = np.concatenate([segments.ids[1:], [0]])
    return np.repeat(left, segments.length), np.repeat(right, segments.length)


def equal_path(graph: TrainingGraph, num_frames: int) -> np.ndarray:
    """HMM state of each frame, int32 (T,), on a plain path through `graph` with equal time in each state.

    The path has silence at both ends where there is time for it, and first pronunciations without silence between words.
    """
    final = graph.num_hmm_states + 1
    nexts: dict[int, list[int]] = {}
    for s, d in zip(graph.src.tolist(), graph.dst.tolist(), strict=True):
        if s != d:
            nexts.setdefault(s, []).append(d)

    def word(state: int) -> int:
        return -1 if state in (0, final) else int(graph.word[state - 1])

    path, state = [], 0
    while state != final:
        options = nexts[state]
        if state == 0:
            state = min(options)  # silence comes first
        else:
            spoken = [o for o in options if o != final and word(o) >= 0]
            state = min(spoken) if spoken else min(o for o in options if o != state)
            if state == final:
                break
        path.append(state - 1)
    if len(path) > num_frames:
        path = shortest_states(graph)
    index = (np.arange(num_frames) * len(path)) // num_frames
    return np.array(path, np.int32)[index]


def shortest_states(graph: TrainingGraph) -> list[int]:
    """HMM states of a path with the fewest frames."""
    final = graph.num_hmm_states + 1
    before: dict[int, int] = {0: -1}
    layer = [0]
    arcs: dict[int, list[int]] = {}
    for s, d in zip(graph.src.tolist(), graph.dst.tolist(), strict=True):
        arcs.setdefault(s, []).append(d)
    while final not in before:
        following = []
        for s in layer:
            for d in arcs.get(s, []):
                if d not in before:
                    before[d] = s
                    following.append(d)
        layer = following
    path, state = [], before[final]
    while state > 0:
        path.append(state - 1)
        state = before[state]
    return path[::-1]
