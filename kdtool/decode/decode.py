"""Step decode: model + features + graph -> hypotheses and error rates.

One search an utterance leaves candidates with their cost parts; LM scale, prior scale and word penalty are then chosen on
half of the speakers and the other half is reported, and the reverse; with --scales-from they are those that were best on
another set (kdtool.decode.tuned). With --rescore-lm the n-best list is re-ranked with
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
from kdtool.decode.acoustic import code_of
from kdtool.decode.tuned import inputs_of
from kdtool.validate.registry import door

# Where the search is done, and the scales that are tried, by kind of graph and of model: log-posteriors have a smaller range
# than log-likelihoods of 39 correlated dimensions.
LM_SCALE = {("word", "gmm"): 12.0, ("phone", "gmm"): 7.0, ("word", "posterior"): 8.0, ("phone", "posterior"): 3.0}
LM_SCALES = {
    ("word", "gmm"): [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0, 22.0, 24.0],
    ("phone", "gmm"): [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0],
    ("word", "posterior"): [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0],
    ("phone", "posterior"): [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0],
}
DOORS = {"model": "model", "feats": "features", "graph": "graph", "lang": "lang"}


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass(frozen=True)
class Config:
    """Options of decode."""

    rescore_lm: Path | None = field(default=None, metadata=_help("LM folder whose lm.bin re-ranks the n-best list (words only)"))
    ref_ali: Path | None = field(default=None, metadata=_help("alignment folder whose phones are the reference (phone graphs)"))
    scales_from: Path | None = field(default=None, metadata=_help("decode folder of another set whose best scales are used"))
    lm_scale: float | None = field(default=None, metadata=_help("LM scale of the search; none: words 12, phones 7; students 8 and 3"))
    prior_scale: float = field(default=0.75, metadata=_help("share of the log-prior that the search subtracts (students)"))
    lm_scales: list = field(default_factory=list, metadata=_help("LM scales to choose from; empty: a range around the search's"))
    prior_scales: list = field(default_factory=lambda: [0.5, 0.75, 1.0], metadata=_help("prior scales to choose from (students)"))
    penalties: list = field(default_factory=lambda: [0.0], metadata=_help("word insertion penalties to choose from, nats added per word"))
    search_beam: float = field(default=15.0, metadata=_help("beam of the search, in nats of the LM"))
    output_beam: float = field(default=5.0, metadata=_help("beam of the lattice, in nats of the LM"))
    max_active: int = field(default=3000, metadata=_help("largest number of active graph states per frame"))
    adapt_passes: int = field(default=1, metadata=_help("number of fMLLR estimates per speaker before the last search (SAT GMMs)"))
    nbest: int = field(default=100, metadata=_help("candidates per utterance for rescoring"))
    max_tokens: int = field(default=200, metadata=_help("partial sequences kept per frame in making the n-best list"))
    max_failed: float = field(default=0.05, metadata=_help("largest share of utterances without a path (then all deletions) or reference"))


def grid_of(cfg: Config, kind: str, model_kind: str) -> list[dict[str, float]]:
    """All combinations of scales to choose from."""
    priors = [0.0] if model_kind == "gmm" else cfg.prior_scales
    points = itertools.product(priors, cfg.lm_scales or LM_SCALES[kind, model_kind], cfg.penalties)
    grid = [{"prior_scale": float(p), "lm_scale": float(s), "penalty": float(w)} for p, s, w in points]
    if not grid or any(g["lm_scale"] <= 0 for g in grid):
        raise UsageError("--lm-scales, --prior-scales and --penalties need at least one value each, LM scales above 0")
    return grid


def decode(paths: dict[str, Path], cfg: Config, common: Common, work: Path) -> None:
    """Search, tune, score; everything is written into ``work``. paths: model, feats, graph, lang."""
    from kdtool.core.dropped import account
    from kdtool.core.tables import read_json
    from kdtool.decode.acoustic import load_acoustic
    from kdtool.decode.candidates import FILE, write_candidates
    from kdtool.decode.score_files import Task, write_scores
    from kdtool.decode.tuned import tuned_elsewhere
    from kdtool.features.store import FeatureSet
    from kdtool.graph.decoding_graph import META_FILE
    from kdtool.graph.lattice import scale_weights

    features, acoustic = FeatureSet.open(paths["feats"]), load_acoustic(paths["model"])
    meta = read_json(paths["graph"] / META_FILE)
    acoustic.check_features(features)
    check_graph(paths, meta, acoustic)
    references = references_of(features, meta, paths["lang"], cfg)
    model_kind = "gmm" if acoustic.log_prior is None else "posterior"
    names = describe(paths["model"], paths["feats"], cfg)
    tuned = tuned_elsewhere(cfg.scales_from, names, meta["lm"]) if cfg.scales_from else None
    grid = tuned.grid if tuned else grid_of(cfg, meta["kind"], model_kind)
    weights = np.array([scale_weights(**point) for point in grid])
    lm_scale = cfg.lm_scale or LM_SCALE[meta["kind"], model_kind]
    utterances = [u for u in features.ids if u in references]
    candidates, failed = search(paths, cfg, utterances, weights, lm_scale, common.nj, work)
    write_candidates(work / FILE, candidates.items())
    skipped = [(u, "no reference alignment") for u in features.ids if u not in references]
    account(len(features.ids), len(candidates), failed + skipped, max_share=cfg.max_failed, where="decode", work=work)
    speakers = {u: features.info(u).speaker for u in utterances}
    task = Task(utterances, references, speakers, candidates, grid, weights, lm_scale, names, meta, tuned)
    write_scores(work, task, use_rescored=False)
    if cfg.rescore_lm:
        (work / "rescored").mkdir()
        write_scores(work / "rescored", task, use_rescored=True)


def search(
    paths: dict[str, Path], cfg: Config, utterances: list[str], weights: np.ndarray, lm_scale: float, nj: int, work: Path
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Run the array of search jobs; returns the candidates by utterance, and (utterance, reason) of those without a path."""
    from kdtool.core.jobs import run_array
    from kdtool.core.tables import read_lines, write_json
    from kdtool.decode.candidates import read_candidates
    from kdtool.features.store import FeatureSet
    from kdtool.formats.transforms import TRANSFORMS_FILE, load_transforms, save_transforms

    (work / "log").mkdir(exist_ok=True)
    write_json(work / "log" / "job.json", {
        "utterances": utterances, "weights": weights.tolist(), "prior_scale": cfg.prior_scale, "lm_scale": lm_scale,
        "beams": {"search": cfg.search_beam, "output": cfg.output_beam, "max_active": cfg.max_active},
        "nbest": cfg.nbest, "max_tokens": cfg.max_tokens, "adapt_passes": cfg.adapt_passes,
    })  # fmt: skip
    argv = [str(p) for p in (paths["model"], paths["feats"], paths["graph"], work)]
    argv += ["--rescore-lm", str(cfg.rescore_lm)] if cfg.rescore_lm else []
    nj = min(nj, len(FeatureSet.open(paths["feats"]).by_speaker(utterances)))

    def made(job: int) -> list[Path]:
        names = (f"candidates.{job}.tsv.gz", f"failed.{job}.tsv", f"transforms.{job}.safetensors", f"log/seconds.{job}.json")
        return [work / name for name in names]

    run_array("kdtool.decode.job", argv, nj=nj, log_dir=work / "log", name="decode", mem=job_mb(paths, cfg), outputs=made)
    candidates: dict[str, Any] = {}
    transforms: dict[str, np.ndarray] = {}
    failed: list[tuple[str, str]] = []
    for j in range(1, nj + 1):
        part, lost = work / f"candidates.{j}.tsv.gz", work / f"failed.{j}.tsv"
        candidates.update(read_candidates(part))
        failed += [(u, reason) for u, reason in (line.split("\t") for line in read_lines(lost))]
        learnt = work / f"transforms.{j}.safetensors"
        transforms.update(load_transforms([learnt]))
        for file in (part, lost, learnt):
            file.unlink()
    if transforms:
        save_transforms(work / TRANSFORMS_FILE, transforms)
    return {u: candidates[u] for u in utterances if u in candidates}, failed


def job_mb(paths: dict[str, Path], cfg: Config) -> int:
    """Estimate of the MB that one search job takes: libraries, the graph several times over as tensors, the rescoring LM."""
    folders = [(paths["graph"], 5), *([(cfg.rescore_lm, 1)] if cfg.rescore_lm else [])]
    sizes = [times * f.stat().st_size for folder, times in folders for f in folder.iterdir() if f.is_file() and f.suffix != ".arpa"]
    return 800 + sum(sizes) // (1 << 20)


def check_graph(paths: dict[str, Path], meta: dict[str, Any], acoustic: Any) -> None:
    """KdError: model and graph have different trees, the model names none, or the graph is of another language folder."""
    from kdtool.lang.lang import Lang

    model, graph, num_pdfs, own = paths["model"], paths["graph"], acoustic.num_pdfs, acoustic.tree_digest
    if not own:
        raise KdError(f"{model} does not say which tree its {num_pdfs} pdfs come from, so it may not fit {graph}; train it again")
    if num_pdfs != meta["num_pdfs"] or own != meta["tree"]:
        raise KdError(f"{model} has {num_pdfs} pdfs, {graph} was made for {meta['num_pdfs']} pdfs of tree {meta['tree'][:12]} "
                      f"(the model's: {own[:12]}); make a graph from this model's tree")  # fmt: skip
    if Lang.load(paths["lang"]).digest != meta["lang"]:
        raise KdError(f"{graph} was not made from the language folder {paths['lang']}; make the graph again")


def references_of(features: Any, meta: dict[str, Any], lang_dir: Path, cfg: Config) -> dict[str, list[str]]:
    """Reference words of each utterance, or the phones of its forced alignment when the graph is over phones.

    Raises:
        KdError: --ref-ali is missing for a phone graph, or alignment and features share no utterance.
    """
    if meta["kind"] == "word":
        return {u: features.info(u).text.split() for u in features.ids}
    from kdtool.ali.store import AlignmentSet
    from kdtool.lang.lang import Lang

    if cfg.ref_ali is None:
        raise KdError("a phone graph needs reference phones: give --ref-ali, an alignment folder of this data set (steps/align.sh)")
    if cfg.rescore_lm:
        raise KdError("--rescore-lm is for word graphs; leave it out, or decode with a graph of steps/make_graph.sh")
    alignments, silence = AlignmentSet.open(cfg.ref_ali), set(meta["silence_words"])
    names = Lang.load(lang_dir).plain_names
    found = {u: [names[p] for p in alignments.get(u).phone_segments().ids] for u in features.ids if u in alignments}
    if not found:
        raise KdError(f"{cfg.ref_ali} has no utterance of {features.folder}; align this data set first (steps/align.sh)")
    return {u: [p for p in phones if p not in silence] for u, phones in found.items()}


def describe(model: Path, feats: Path, cfg: Config) -> dict[str, Any]:
    """The fields of a result that name it: system, objective, heads, seed, set, lm of the rescoring."""
    from kdtool.formats.system import read_system

    rescored = cfg.rescore_lm.resolve().name.removeprefix("lm_") if cfg.rescore_lm else None
    return {"system": model.resolve().name, **read_system(model).row(), "set": feats.resolve().parent.name, "rescore_lm": rescored}


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/decode.sh."""
    places = [
        ("model", "GMM or student folder"), ("feats", "feature folder"), ("graph", "graph folder"), ("lang", "language folder"),
        ("out", "decode folder to make"),
    ]  # fmt: skip
    paths, cfg, common = parse_args(
        Config, places, argv, prog="steps/decode.sh",
        description="Decode a data set, choose scales two-fold or take another set's, score it.",
    )
    inputs = {name: paths[name] for name in ("model", "feats", "graph", "lang")}
    if cfg.rescore_lm:
        inputs["rescore_lm"] = cfg.rescore_lm / "lm.bin"
    if cfg.ref_ali:
        inputs["ref_ali"] = cfg.ref_ali
    if cfg.scales_from:
        inputs |= inputs_of(cfg.scales_from, cfg.rescore_lm is not None)
    doors = [door(kind, paths[name]) for name, kind in DOORS.items()] + ([door("ali", cfg.ref_ali)] if cfg.ref_ali else [])
    run_step(
        "decode", out=paths["out"], inputs=inputs, options=cfg, code=("kdtool.decode.decode", *code_of(paths["model"])), common=common,
        body=lambda work: decode(paths, cfg, common, work),
        doors=doors,
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
