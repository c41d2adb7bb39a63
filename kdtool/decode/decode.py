"""Step decode: model + features -> hypotheses and error rates.

One search per utterance leaves candidates with their cost parts. LM scale, prior scale and word penalty are then chosen on half of the
speakers for the other half; with --scales-from they are those that were best on another set or, for several systems together, by
steps/pool_scales.sh; with --candidates-from the candidates of an earlier decode are scored. With --rescore-lm another LM also re-ranks the
n-best list, into ``rescored/``. Scores are acoustic - prior_scale * prior + lm_scale * LM (natural logs).
"""

from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import Common, cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.decode.acoustic import code_of
from kdtool.decode.config import Config
from kdtool.decode.recogniser import RECOGNISERS, recogniser_of
from kdtool.decode.tuned import inputs_of
from kdtool.formats.system import read_system

DOORS = {"model": "model", "feats": "features", "graph": "graph", "lang": "lang"}  # input -> kind of folder


def decode(paths: dict[str, Path], cfg: Config, common: Common, work: Path) -> None:
    """Recognise, tune, score; everything is written into ``work``. paths: model, feats, lang."""
    from kdtool.core.dropped import account
    from kdtool.decode.candidates import FILE, write_candidates
    from kdtool.decode.score_files import Task, write_scores
    from kdtool.decode.tuned import tuned_elsewhere
    from kdtool.features.store import FeatureSet
    from kdtool.graph.lattice import scale_weights

    features = FeatureSet.open(paths["feats"])
    setting = recogniser_of(paths["model"]).setting(paths, cfg)
    meta, grid, weights = setting.meta, setting.grid, setting.weights
    references = references_of(features, meta, paths["lang"], cfg)
    names = describe(paths["model"], paths["feats"], cfg)
    tuned = tuned_elsewhere(cfg.scales_from, names, meta["lm"]) if cfg.scales_from else None
    if tuned:
        grid, weights = tuned.grid, np.array([scale_weights(**point) for point in tuned.grid])
    utterances = [u for u in features.ids if u in references]
    options = {**setting.options, "utterances": utterances, "weights": weights.tolist()}
    if cfg.candidates_from:
        candidates, failed = searched(cfg.candidates_from, names, meta["lm"], utterances)
    else:
        candidates, failed = search(paths, options, recogniser_of(paths["model"]).megabytes(cfg), common.nj, work)
        write_candidates(work / FILE, candidates.items())
    skipped = [(u, "no reference alignment") for u in features.ids if u not in references]
    account(len(features.ids), len(candidates), failed + skipped, max_share=cfg.max_failed, where="decode", work=work)
    speakers = {u: features.info(u).speaker for u in utterances}
    task = Task(utterances, references, speakers, candidates, grid, weights, setting.centre, names, meta, tuned)
    write_scores(work, task, use_rescored=False)
    if cfg.rescore_lm:
        (work / "rescored").mkdir()
        write_scores(work / "rescored", task, use_rescored=True)


def searched(folder: Path, names: dict[str, Any], lm: str, utterances: list[str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The candidates of an earlier decode, and its failed utterances with reasons, as of ``search``.

    Raises:
        KdError: it is of another system, set or LM, was not rescored with this LM, or has an utterance that is not here.
    """
    from kdtool.core.tables import read_json, read_lines
    from kdtool.decode.candidates import FILE, read_candidates
    from kdtool.decode.tuned import RESCORED, SCORE

    if not ((folder / FILE).is_file() and (folder / SCORE).is_file()):
        raise KdError(f"--candidates-from {folder}: no {FILE} or {SCORE} there; name a decode folder that was made with a search")
    score, again = read_json(folder / SCORE), folder / RESCORED / SCORE
    rescored = read_json(again)["lm"] if again.is_file() else None
    has = {"system": score["system"], "set": score["set"], "lm": score["lm"], "rescore_lm": rescored}
    here = {"system": names["system"], "set": names["set"], "lm": lm, "rescore_lm": names["rescore_lm"]}
    if wrong := [f"{k} {has[k]} instead of {here[k]}" for k in here if has[k] != here[k]]:
        raise KdError(f"--candidates-from {folder}: a decode with {', '.join(wrong)}; name one of the same model, set and LMs")
    found = read_candidates(folder / FILE)
    if other := [u for u in found if u not in {*utterances}]:
        raise KdError(f"--candidates-from {folder}: {other[0]} and {len(other) - 1} more are not in this set; decode with a search")
    reasons = dict(line.split("\t", 1) for line in read_lines(folder / "dropped.tsv"))
    lost = [u for u in utterances if u not in found]
    return {u: found[u] for u in utterances if u in found}, [(u, reasons.get(u, "no candidates")) for u in lost]


def search(
    paths: dict[str, Path], options: dict[str, Any], megabytes: int, nj: int, work: Path
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Run the array of jobs; returns the candidates by utterance, and (utterance, reason) of failed utterances."""
    from kdtool.core.jobs import run_array
    from kdtool.core.tables import read_lines, write_json
    from kdtool.decode.candidates import read_candidates
    from kdtool.features.store import FeatureSet
    from kdtool.formats.transforms import TRANSFORMS_FILE, load_transforms, save_transforms

    (work / "log").mkdir(exist_ok=True)
    write_json(work / "log" / "job.json", options)
    argv, utterances = [str(p) for p in (paths["model"], paths["feats"], work)], options["utterances"]
    nj = min(nj, len(FeatureSet.open(paths["feats"]).by_speaker(utterances)))

    def made(job: int) -> list[Path]:
        names = (f"candidates.{job}.tsv.gz", f"failed.{job}.tsv", f"transforms.{job}.safetensors", f"log/seconds.{job}.json")
        return [work / name for name in names]

    run_array("kdtool.decode.job", argv, nj=nj, log_dir=work / "log", name="decode", mem=megabytes, outputs=made)
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


def references_of(features: Any, meta: dict[str, Any], lang_dir: Path, cfg: Config) -> dict[str, list[str]]:
    """Reference words of each utterance, or the phones of its forced alignment when the graph is over phones.

    Raises:
        KdError: --ref-ali is missing for a phone graph, or alignment and features share no utterance.
    """
    if meta["kind"] == "word":
        return {u: features.info(u).text.split() for u in features.ids}
    from kdtool.formats.alignment import AlignmentSet
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
    """The identifying fields of a result: system, main loss, heads, seed, set, rescoring LM."""
    from kdtool.formats.system import read_system

    rescored = cfg.rescore_lm.resolve().name.removeprefix("lm_") if cfg.rescore_lm else None
    return {"system": model.resolve().name, **read_system(model).row(), "set": feats.resolve().parent.name, "rescore_lm": rescored}


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/decode.sh."""
    places = [
        ("model", "GMM or student folder"), ("feats", "feature folder"), ("lang", "language folder"), ("out", "decode folder to make"),
    ]  # fmt: skip
    paths, cfg, common = parse_args(
        Config, places, argv, prog="steps/decode.sh",
        description="Decode a data set, choose scales two-fold or take another set's, score it.",
    )
    inputs = {name: paths[name] for name in ("model", "feats", "lang")}
    code = ["kdtool.decode.decode"]
    if paths["model"].is_dir():  # if it is missing, the step reports it when it runs
        kind = read_system(paths["model"]).kind
        cfg = RECOGNISERS[kind].resolved(cfg)
        inputs |= RECOGNISERS[kind].inputs(cfg)
        code += [*RECOGNISERS.code(kind), *code_of(paths["model"])]
    if cfg.ref_ali:
        inputs["ref_ali"] = cfg.ref_ali
    if cfg.scales_from:
        inputs |= inputs_of(cfg.scales_from, cfg.rescore_lm is not None)
    if cfg.candidates_from:
        inputs["candidates"] = cfg.candidates_from
    doors = [door(what, inputs[name]) for name, what in DOORS.items() if name in inputs]
    doors += [door("ali", cfg.ref_ali)] if cfg.ref_ali else []
    run_step(
        "decode", out=paths["out"], inputs=inputs, options=cfg, code=code, common=common, doors=doors,
        body=lambda work: decode(paths, cfg, common, work),
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
