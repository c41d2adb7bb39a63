"""Step decode: model + features + graph -> hypotheses and error rates.

One search an utterance leaves candidates with their cost parts; LM scale, prior scale and word penalty are then chosen on
half of the speakers and the other half is reported, and the reverse. With --rescore-lm the n-best list is re-ranked with
another LM as well, into ``rescored/``. Scores are acoustic - prior_scale * prior + lm_scale * LM (natural logs).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step

CODE = (
    "kdtool.decode", "kdtool.graph.search", "kdtool.graph.lattice", "kdtool.graph.k2api", "kdtool.graph.decoding_graph",
)  # fmt: skip
# Where the search is done, and the scales that are tried, by the kind of graph.
LM_SCALE = {"word": 10.0, "phone": 7.0}
LM_SCALES = {
    "word": [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0],
    "phone": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0],
}


def _opt(default: Any, text: str, key: bool = True) -> Any:
    meta = {"help": text, "key": key}
    return field(default_factory=lambda: list(default), metadata=meta) if isinstance(default, list) else field(default=default, metadata=meta)


@dataclass(frozen=True)
class Config:
    """Options of decode."""

    rescore_lm: Path | None = _opt(None, "LM folder whose lm.bin re-ranks the n-best list (words only)")
    ref_ali: Path | None = _opt(None, "alignment folder whose phones are the reference (phone graphs)")
    lm_scale: float | None = _opt(None, "LM scale of the search; none: 10 for words, 7 for phones")
    prior_scale: float = _opt(0.8, "share of the log-prior that the search subtracts (students)")
    lm_scales: list = _opt([], "LM scales to choose from; empty: a range around the search's")
    prior_scales: list = _opt([0.4, 0.6, 0.8, 1.0], "prior scales to choose from (students)")
    penalties: list = _opt([0.0], "word insertion penalties to choose from, nats added a word")
    search_beam: float = _opt(15.0, "beam of the search, in nats of the LM")
    output_beam: float = _opt(5.0, "beam of the lattice, in nats of the LM")
    max_active: int = _opt(3000, "most graph states alive on a frame")
    nbest: int = _opt(100, "candidates an utterance for rescoring")
    max_tokens: int = _opt(200, "partial sequences kept a frame in making the n-best list")
    max_failed: float = _opt(0.05, "largest share of utterances without a path (they count as deletions) or a reference")


def grid_of(cfg: Config, kind: str, has_prior: bool) -> list[dict[str, float]]:
    """All combinations of scales to choose from."""
    priors = cfg.prior_scales if has_prior else [0.0]
    points = itertools.product(priors, cfg.lm_scales or LM_SCALES[kind], cfg.penalties)
    grid = [{"prior_scale": float(p), "lm_scale": float(s), "penalty": float(w)} for p, s, w in points]
    if not grid or any(g["lm_scale"] <= 0 for g in grid):
        raise UsageError("--lm-scales, --prior-scales and --penalties need at least one value each, LM scales above 0")
    return grid


def decode(model: Path, feats: Path, graph_dir: Path, cfg: Config, common: Common, names: dict[str, str], work: Path) -> None:
    """Search, tune, score; everything is written into ``work``."""
    from kdtool.core.dropped import account
    from kdtool.core.jobs import run_array
    from kdtool.core.tables import read_json, read_lines, read_table, write_json
    from kdtool.decode.acoustic import load_acoustic
    from kdtool.decode.candidates import FILE, read_candidates, write_candidates
    from kdtool.decode.score_files import Task, write_scores
    from kdtool.features.store import FeatureSet
    from kdtool.graph.decoding_graph import META_FILE, WORDS_FILE
    from kdtool.graph.lattice import scale_weights

    features, acoustic, meta = FeatureSet.open(feats), load_acoustic(model), read_json(graph_dir / META_FILE)
    acoustic.check_features(features)
    check_same_tree(model, graph_dir, meta, acoustic.num_pdfs)
    references = references_of(features, meta, read_table(graph_dir / WORDS_FILE), cfg)
    grid = grid_of(cfg, meta["kind"], acoustic.log_prior is not None)
    weights = np.array([scale_weights(**point) for point in grid])
    lm_scale = cfg.lm_scale or LM_SCALE[meta["kind"]]
    beams = {"search": cfg.search_beam, "output": cfg.output_beam, "max_active": cfg.max_active}
    utterances = [u for u in features.ids if u in references]
    (work / "log").mkdir(exist_ok=True)
    write_json(work / "log" / "job.json", {
        "utterances": utterances, "weights": weights.tolist(), "prior_scale": cfg.prior_scale, "lm_scale": lm_scale,
        "beams": beams, "nbest": cfg.nbest, "max_tokens": cfg.max_tokens,
    })  # fmt: skip
    argv = [str(p) for p in (model, feats, graph_dir, work)]
    nj = min(common.nj, len(utterances))
    run_array(
        "kdtool.decode.job", argv + (["--rescore-lm", str(cfg.rescore_lm)] if cfg.rescore_lm else []),
        nj=nj, log_dir=work / "log", name="decode",
    )  # fmt: skip
    candidates: dict[str, Any] = {}
    failed: list[tuple[str, str]] = []
    for j in range(1, nj + 1):
        part, lost = work / f"candidates.{j}.tsv.gz", work / f"failed.{j}.tsv"
        candidates.update(read_candidates(part))
        failed += [(u, reason) for u, reason in (line.split("\t") for line in read_lines(lost))]
        part.unlink()
        lost.unlink()
    write_candidates(work / FILE, candidates.items())
    skipped = [(u, "no reference alignment") for u in features.ids if u not in references]
    account(len(features.ids), len(candidates), failed + skipped, max_share=cfg.max_failed, where="decode", work=work)
    speakers = {u: features.info(u).speaker for u in utterances}
    scored = Task(utterances, references, speakers, candidates, grid, weights, lm_scale, names, meta)
    write_scores(work, scored, use_rescored=False)
    if cfg.rescore_lm:
        (work / "rescored").mkdir()
        write_scores(work / "rescored", scored, use_rescored=True)


def check_same_tree(model: Path, graph_dir: Path, meta: dict[str, Any], num_pdfs: int) -> None:
    """KdError when model and graph have different trees."""
    from kdtool.gmm.tree import TREE_FILE, Tree

    own = Tree.load(model).digest if (model / TREE_FILE).is_file() else meta["tree"]
    if num_pdfs != meta["num_pdfs"] or own != meta["tree"]:
        raise KdError(f"{model} has {num_pdfs} pdfs, {graph_dir} was made for {meta['num_pdfs']} pdfs of tree {meta['tree'][:12]} "
                      f"(the model's: {own[:12]}); make a graph from this model's tree")  # fmt: skip


def references_of(features: Any, meta: dict[str, Any], words: dict[str, int], cfg: Config) -> dict[str, list[str]]:
    """Reference words of each utterance, or the phones of its forced alignment when the graph is over phones.

    Raises:
        KdError: --ref-ali is missing for a phone graph, or alignment and features share no utterance.
    """
    if meta["kind"] == "word":
        return {u: features.info(u).text.split() for u in features.ids}
    from kdtool.ali.store import AlignmentSet

    if cfg.ref_ali is None:
        raise KdError("a phone graph needs reference phones: give --ref-ali, an alignment folder of this data set (steps/align.sh)")
    if cfg.rescore_lm:
        raise KdError("--rescore-lm is for word graphs; leave it out, or decode with a graph of steps/make_graph.sh")
    alignments, silence = AlignmentSet.open(cfg.ref_ali), set(meta["silence_words"])
    names = sorted(words, key=words.__getitem__)
    found = {u: [names[p] for p in alignments.get(u).phone_segments().ids] for u in features.ids if u in alignments}
    if not found:
        raise KdError(f"{cfg.ref_ali} has no utterance of {features.folder}; align this data set first (steps/align.sh)")
    return {u: [p for p in phones if p not in silence] for u, phones in found.items()}


def describe(model: Path, feats: Path, cfg: Config) -> dict[str, Any]:
    """The fields of a result that name it: system, objective, heads, seed, set, lm of the rescoring."""
    from kdtool.decode.score_files import describe_model

    names = describe_model(model)
    rescored = cfg.rescore_lm.resolve().name.removeprefix("lm_") if cfg.rescore_lm else None
    return {**names, "set": feats.resolve().parent.name, "rescore_lm": rescored}


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/decode.sh."""
    places = [
        ("model", "GMM or student folder"), ("feats", "feature folder"), ("graph", "graph folder"), ("lang", "language folder"),
        ("out", "decode folder to make"),
    ]  # fmt: skip
    paths, cfg, common = parse_args(
        Config, places, argv, prog="steps/decode.sh", description="Decode a data set, choose scales two-fold, score it."
    )
    inputs = {name: paths[name] for name in ("model", "feats", "graph", "lang")}
    if cfg.rescore_lm:
        inputs["rescore_lm"] = cfg.rescore_lm / "lm.bin"
    if cfg.ref_ali:
        inputs["ref_ali"] = cfg.ref_ali

    def body(work: Path) -> None:
        decode(paths["model"], paths["feats"], paths["graph"], cfg, common, describe(paths["model"], paths["feats"], cfg), work)

    run_step("decode", out=paths["out"], inputs=inputs, options=cfg, code=CODE, body=body, common=common)


if __name__ == "__main__":
    cli_main(main)
