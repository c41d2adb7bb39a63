"""One job of a decode array: search a part of the utterances.

In: model, features, graph, an options file written by ``kdtool.decode.decode``. Out: ``candidates.<J>.tsv.gz``,
``failed.<J>.tsv`` (utterances without any path, with a reason) and ``seconds.<J>.json`` in the work folder; with a model of
speaker-adapted features the speakers' transforms, each learnt from all of the speaker's utterances, which are in one job.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main
from kdtool.core.dropped import write_dropped
from kdtool.core.errors import KdError
from kdtool.core.jobs import split_groups
from kdtool.core.progress import progress
from kdtool.core.tables import read_json, write_json
from kdtool.decode.acoustic import load_acoustic
from kdtool.decode.candidates import Candidate, write_candidates
from kdtool.features.store import FeatureSet
from kdtool.formats.transforms import save_transforms
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.lattice import GRAPH, Lattice, best_paths, nbest, scale_weights
from kdtool.graph.search import Beams, Searcher


class Rescorer:
    """Scores of a word graph's paths with another LM (a KenLM model) in place of the graph's, in nats."""

    def __init__(self, lm_dir: Path, graph_dir: Path, silence_prob: float | None) -> None:
        self._model = _kenlm(Path(lm_dir) / "lm.bin", "train the LM again")
        if silence_prob not in (None, 0.5):
            raise KdError(f"the graph's silence probability is {silence_prob}; rescoring supports 0.5 only: make the graph again")
        self._first = None
        if silence_prob is None:
            again = "make the graph again from an LM folder that has it"
            self._first = _kenlm(Path(graph_dir) / "lm.bin", again)

    def __call__(self, words: tuple[str, ...], graph_score: float) -> float:
        """graph_score: the path's in the graph."""
        # With probability one half, every place where a silence may stand costs the same with and without it. Else what
        # the lexicon's probabilities add is what the graph's score has beside its LM's.
        lexicon = graph_score - _sentence(self._first, words) if self._first else (len(words) + 1) * math.log(0.5)
        return _sentence(self._model, words) + lexicon


def _kenlm(path: Path, remedy: str) -> Any:
    import kenlm

    try:
        return kenlm.Model(str(path))
    except OSError as e:
        raise KdError(f"{path}: unreadable KenLM model ({e}); {remedy}") from e


def _sentence(model: Any, words: tuple[str, ...]) -> float:
    return float(model.score(" ".join(words), bos=True, eos=True)) * math.log(10.0)


def candidates_of(lattice: Lattice, graph: DecodingGraph, options: dict[str, Any], rescorer: Rescorer | None) -> list[Candidate]:
    """The best path at every point of the scale grid, and with a rescoring LM an n-best list on top; no doubles."""
    paths = best_paths(lattice, np.array(options["weights"]))
    if rescorer:
        centre = scale_weights(options["prior_scale"], options["lm_scale"])
        paths += nbest(lattice, centre, count=options["nbest"], max_tokens=options["max_tokens"])
    unique = {(p.words, tuple(np.round(p.parts, 4))): p for p in paths}
    result = []
    for path in unique.values():
        words = tuple(graph.words[w] for w in path.words)
        result.append(Candidate(words, path.parts, rescorer(words, float(path.parts[GRAPH])) if rescorer else None))
    return result


class Decoder:
    """Searches with one model and one graph; ``seconds``: CPU time by kind of work, and seconds of audio."""

    def __init__(self, model: Path, feats: Path, graph: DecodingGraph, rescorer: Rescorer | None, options: dict[str, Any]) -> None:
        self.features, self.acoustic = FeatureSet.open(feats), load_acoustic(model)
        self.graph, self.rescorer, self.options = graph, rescorer, options
        self.searcher = Searcher(graph, Beams(**options["beams"]))
        self.silent = np.isin(graph.words, ["<eps>", *graph.meta["silence_words"]])
        self.seconds = dict.fromkeys(("acoustic", "search", "lattice", "adapt", "audio"), 0.0)
        self._clock = time.process_time()

    def _spent(self, on: str) -> None:
        now = time.process_time()
        self.seconds[on] += now - self._clock
        self._clock = now

    def search(self, utterance: str) -> Lattice | None:
        """The utterance's lattice at the search's scales."""
        scales = {name: self.options[name] for name in ("prior_scale", "lm_scale")}
        self._clock = time.process_time()
        scores = self.acoustic.raw_scores(self.features, utterance)
        self._spent("acoustic")
        lattice = self.searcher.lattice(scores, self.acoustic.log_prior, silent=self.silent, **scales)
        self._spent("search")
        return lattice

    def learn(self, utterances: Sequence[str]) -> None:
        """Let the model learn a speaker, as often as wanted, by searching all their utterances."""
        adapter = self.acoustic.adapter
        if not adapter:
            return
        weights = scale_weights(self.options["prior_scale"], self.options["lm_scale"]) / self.options["lm_scale"]
        for _ in range(self.options["adapt_passes"]):
            found = ((u, lattice) for u in utterances if (lattice := self.search(u)))
            adapter.learn(self.features, found, weights)
            self._spent("adapt")

    def decode(self, utterance: str) -> list[Candidate] | None:
        """Candidates of an utterance, None without any path."""
        lattice = self.search(utterance)
        found = candidates_of(lattice, self.graph, self.options, self.rescorer) if lattice else None
        self._spent("lattice")
        self.seconds["audio"] += self.features.info(utterance).num_frames / 100
        return found


def main() -> None:
    """Entry of the array's jobs; not called by hand."""
    parser = argparse.ArgumentParser(prog="kdtool.decode.job", description=__doc__)
    for name in ("model", "feats", "graph", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rescore-lm", type=Path)
    parser.add_argument("--job", type=int, required=True)
    parser.add_argument("--num-jobs", type=int, required=True)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    options, graph = read_json(args.work / "log" / "job.json"), DecodingGraph.load(args.graph)
    rescorer = Rescorer(args.rescore_lm, args.graph, graph.meta["silence_prob"]) if args.rescore_lm else None
    decoder = Decoder(args.model, args.feats, graph, rescorer, options)
    features, adapter = decoder.features, decoder.acoustic.adapter
    speakers = split_groups(features.by_speaker(options["utterances"]), args.job, args.num_jobs)
    rows, failed = [], []
    todo = ((group, u) for group in speakers for u in group)
    for group, utterance in progress(todo, sum(map(len, speakers)), f"decode {args.job}"):
        if utterance == group[0]:
            decoder.learn(group)
        found = decoder.decode(utterance)
        if found is None:
            failed.append((utterance, f"no path through the graph ({features.info(utterance).num_frames} frames)"))
        else:
            rows.append((utterance, found))
    write_candidates(args.work / f"candidates.{args.job}.tsv.gz", rows)
    write_dropped(args.work / f"failed.{args.job}.tsv", failed)
    write_json(args.work / "log" / f"seconds.{args.job}.json", decoder.seconds)
    save_transforms(args.work / f"transforms.{args.job}.safetensors", adapter.transforms if adapter else {})


if __name__ == "__main__":
    cli_main(main)
