"""Recogniser of GMMs, hybrid and LF-MMI students.  In: a model's scores per frame and pdf, a decoding graph.  Out: candidates by utterance.

One search per utterance leaves a lattice. Its best path at each point of the scale grid is a candidate; a rescoring LM adds an n-best
list. The engine (kdtool/graph/engine.py) searches utterances one by one or in batches.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json
from kdtool.decode.acoustic import load_acoustic
from kdtool.decode.candidates import Candidate
from kdtool.decode.recogniser import Recogniser, Setting
from kdtool.decode.rescore import Rescorer
from kdtool.features.store import FeatureSet
from kdtool.graph.decoding_graph import META_FILE, DecodingGraph
from kdtool.graph.engine import choose_engine, resolve_engine
from kdtool.graph.lattice import GRAPH, Lattice, best_paths, nbest, scale_weights
from kdtool.graph.search import Beams

if TYPE_CHECKING:
    from kdtool.decode.config import Config

# LM scale of the search and the scales to try, by kind of graph and of model: log-posteriors have a smaller range
# than log-likelihoods of 39 correlated dimensions; those of LF-MMI (30 ms each) were trained beside an LM at scale one.
LM_SCALE = {("word", "gmm"): 12.0, ("phone", "gmm"): 7.0, ("word", "posterior"): 8.0, ("phone", "posterior"): 3.0,
            ("word", "mmi"): 1.0, ("phone", "mmi"): 1.0}  # fmt: skip
LM_SCALES = {
    ("word", "gmm"): [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0, 22.0, 24.0],
    ("phone", "gmm"): [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0],
    ("word", "posterior"): [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0],
    ("phone", "posterior"): [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0],
    ("word", "mmi"): [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0],
    ("phone", "mmi"): [0.25, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0],
}


def grid_of(cfg: "Config", kind: str, model_kind: str) -> list[dict[str, float]]:
    """All combinations of scales to choose from."""
    priors = [0.0] if model_kind != "posterior" else cfg.prior_scales
    points = itertools.product(priors, cfg.lm_scales or LM_SCALES[kind, model_kind], cfg.penalties)
    grid = [{"prior_scale": float(p), "lm_scale": float(s), "penalty": float(w)} for p, s, w in points]
    if not grid or any(g["lm_scale"] <= 0 for g in grid):
        raise UsageError("--lm-scales, --prior-scales and --penalties need at least one value each, LM scales above 0")
    return grid


def candidates_of(lattice: Lattice, graph: DecodingGraph, options: dict[str, Any], rescorer: Rescorer | None) -> list[Candidate]:
    """The best path at every point of the scale grid, and with a rescoring LM also an n-best list; no duplicates."""
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


class GraphRecogniser(Recogniser):
    """Searches with one model and one graph."""

    def __init__(self, model: Path, feats: Path, options: dict[str, Any]) -> None:
        super().__init__(model, feats, options)
        self.acoustic, self.graph = load_acoustic(model), DecodingGraph.load(options["graph"])
        self.rescorer = None
        if options["rescore_lm"]:
            self.rescorer = Rescorer(Path(options["rescore_lm"]), Path(options["graph"]), self.graph.meta["silence_prob"])
        self.engine = choose_engine(options["engine"])
        self.search = self.engine.search(self.graph, Beams(**options["beams"]))
        self.silent = np.isin(self.graph.words, ["<eps>", *self.graph.meta["silence_words"]])
        self.seconds = dict.fromkeys(("acoustic", "search", "lattice", "adapt", "audio"), 0.0)
        self.transforms: dict[str, np.ndarray] = self.acoustic.adapter.transforms if self.acoustic.adapter else {}
        self._clock = time.process_time()

    @classmethod
    def resolved(cls, cfg: "Config") -> "Config":
        """The options with the engine of this machine."""
        cfg = dataclasses.replace(cfg, engine=resolve_engine(cfg.engine))
        if cfg.engine == "k2" and not (cfg.search_beam > 0 and cfg.output_beam >= 0 and 0 <= cfg.min_active < cfg.max_active):
            raise UsageError(f"--search-beam {cfg.search_beam:g}, --output-beam {cfg.output_beam:g}, --min-active {cfg.min_active}, "
                             f"--max-active {cfg.max_active}: k2 needs a beam above 0 and --min-active below --max-active")  # fmt: skip
        return cfg

    @classmethod
    def inputs(cls, cfg: "Config") -> dict[str, Path]:
        """The graph, and the rescoring LM."""
        if cfg.graph is None:
            raise UsageError("this model is decoded with a graph: give --graph DIR (steps/make_graph.sh, steps/make_phone_graph.sh)")
        return {"graph": cfg.graph, **({"rescore_lm": cfg.rescore_lm / "lm.bin"} if cfg.rescore_lm else {})}

    @classmethod
    def setting(cls, paths: dict[str, Path], cfg: "Config") -> Setting:
        """See ``Recogniser``; the graph's meta.json says which LM and which kind of unit."""
        graph = cls.inputs(cfg)["graph"]
        features, acoustic, meta = FeatureSet.open(paths["feats"]), load_acoustic(paths["model"]), read_json(graph / META_FILE)
        acoustic.check_features(features)
        check_graph({**paths, "graph": graph}, meta, acoustic)
        model_kind = acoustic.scores_are
        grid = grid_of(cfg, meta["kind"], model_kind)
        weights = np.array([scale_weights(**point) for point in grid])
        centre = cfg.lm_scale or LM_SCALE[meta["kind"], model_kind]
        options = {
            "graph": str(graph), "rescore_lm": str(cfg.rescore_lm) if cfg.rescore_lm else "", "engine": cfg.engine,
            "prior_scale": cfg.prior_scale, "lm_scale": centre, "nbest": cfg.nbest, "max_tokens": cfg.max_tokens,
            "beams": {"search": cfg.search_beam, "output": cfg.output_beam, "max_active": cfg.max_active, "min_active": cfg.min_active},
            "adapt_passes": cfg.adapt_passes,
        }  # fmt: skip
        return Setting(meta, grid, weights, centre, options)

    @classmethod
    def megabytes(cls, cfg: "Config") -> int:
        """Libraries, the graph several times over as tensors, the rescoring LM, the lattices of a batch of k2."""
        folders = [(cls.inputs(cfg)["graph"], 5), *([(cfg.rescore_lm, 1)] if cfg.rescore_lm else [])]
        sizes = [times * f.stat().st_size for folder, times in folders for f in folder.iterdir() if f.is_file() and f.suffix != ".arpa"]
        return 800 + sum(sizes) // (1 << 20) + (2000 if cfg.engine == "k2" else 0)

    def groups(self, utterances: Sequence[str]) -> list[list[str]]:
        """Speakers; batches if the engine works in batches and the model does not adapt."""
        speakers = [list(group) for group in self.features.by_speaker(utterances)]
        if self.acoustic.adapter or self.engine.batch == 1:
            return speakers
        flat = [u for group in speakers for u in group]
        return [flat[i : i + self.engine.batch] for i in range(0, len(flat), self.engine.batch)]

    def recognise(self, group: Sequence[str]) -> Iterator[tuple[str, list[Candidate] | None]]:
        """Adapts to the speaker first if the model can."""
        self._learn(group)
        for utterance, lattice in self._lattices(group):
            found = candidates_of(lattice, self.graph, self.options, self.rescorer) if lattice else None
            self._spent("lattice")
            self.seconds["audio"] += self.features.info(utterance).num_frames / 100
            yield utterance, found

    def lattice(self, utterance: str) -> Lattice | None:
        """The lattice of one utterance; a model that adapts learns from all utterances of its speaker first, whichever was asked for."""
        speaker = self.features.info(utterance).speaker
        if self.acoustic.adapter and speaker not in self.transforms:
            self._learn([u for u in self.features.ids if (i := self.features.info(u)).speaker == speaker and i.speed == 1.0])
        return next(lattice for _, lattice in self._lattices([utterance]))

    def _spent(self, on: str) -> None:
        now = time.process_time()
        self.seconds[on] += now - self._clock
        self._clock = now

    def _lattices(self, utterances: Sequence[str]) -> Iterator[tuple[str, Lattice | None]]:
        """Each utterance's lattice at the search's scales."""
        for start in range(0, len(utterances), self.engine.batch):
            part = utterances[start : start + self.engine.batch]
            self._clock = time.process_time()
            scores = [self.acoustic.raw_scores(self.features, u) for u in part]
            self._spent("acoustic")
            scales = {name: self.options[name] for name in ("prior_scale", "lm_scale")}
            lattices = self.search.lattices(scores, self.acoustic.log_prior, silent=self.silent, **scales)
            self._spent("search")
            yield from zip(part, lattices, strict=True)

    def _learn(self, utterances: Sequence[str]) -> None:
        """Let the model adapt to a speaker by searching all their utterances, ``adapt_passes`` times."""
        adapter = self.acoustic.adapter
        if not adapter:
            return
        weights = scale_weights(self.options["prior_scale"], self.options["lm_scale"]) / self.options["lm_scale"]
        for _ in range(self.options["adapt_passes"]):
            adapter.learn(self.features, ((u, lattice) for u, lattice in self._lattices(utterances) if lattice), weights)
            self._spent("adapt")


def check_graph(paths: dict[str, Path], meta: dict[str, Any], acoustic: Any) -> None:
    """KdError: unless model and graph have the same tree (a model without one fails) and the graph belongs to this language folder."""
    from kdtool.lang.lang import Lang

    model, graph, num_pdfs, digest = paths["model"], paths["graph"], acoustic.num_pdfs, acoustic.tree_digest
    if not digest:
        raise KdError(f"{model} does not say which tree its {num_pdfs} pdfs come from, so it may not fit {graph}; train it again")
    if num_pdfs != meta["num_pdfs"] or digest != meta["tree"]:
        raise KdError(f"{model} has {num_pdfs} pdfs, {graph} was made for {meta['num_pdfs']} pdfs of tree {meta['tree'][:12]} "
                      f"(the model's: {digest[:12]}); make a graph from this model's tree")  # fmt: skip
    if (own_step := acoustic.subsampling) != (step := int(meta.get("subsampling", 1))):
        raise KdError(f"{model} has one output per {own_step} frames, {graph} takes one per {step}; make a graph from this model's tree, "
                      "and train a student of kind lfmmi for a chain tree")  # fmt: skip
    if Lang.load(paths["lang"]).digest != meta["lang"]:
        raise KdError(f"{graph} was not made from the language folder {paths['lang']}; make the graph again")
