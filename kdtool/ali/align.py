"""Step: align a set with a GMM.

In: a feature folder, a lang folder, a GMM folder. Out: ali.safetensors, index.jsonl, words.ctm, phones.ctm, cuts.jsonl.gz,
meta.json, dropped.tsv; transforms.safetensors (by speaker) with a model of speaker-adapted features.
"""

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.ali.export import export
from kdtool.core.cli import cli_main
from kdtool.core.dropped import account
from kdtool.core.jobs import run_array
from kdtool.core.main import FEATS, GMM, LANG, step_main
from kdtool.core.tables import write_json
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet, save_alignments
from kdtool.formats.transforms import TRANSFORMS_FILE, load_transforms, save_transforms
from kdtool.gmm.folder import check_fits, open_gmm, original_ids, phones_digest
from kdtool.graph.engine import resolve_engine
from kdtool.lang.lang import Lang

JOB_MB = 1500  # per job: libraries 400 MB, model, graphs and scores of the longest utterance

@dataclass(frozen=True)
class AlignConfig:
    """Options of the align step."""

    boost_silence: float = field(default=1.0, metadata={"help": "factor on the likelihoods of silence"})
    fmllr_passes: int = field(default=1, metadata={"help": "number of fMLLR estimates per speaker (models of adapted features)"})
    max_dropped: float = field(default=0.05, metadata={"help": "largest share of utterances that may be dropped"})
    engine: str = field(
        default="auto", metadata={"help": "search engine: k2, native, or auto: native, as this step works on the CPU", "before": "native"}
    )


def align_set(paths: dict[str, Any], work: Path, cfg: AlignConfig, nj: int) -> None:
    """Align in `nj` jobs and join their parts in `work`."""
    lang, features, gmm = Lang.load(paths["lang"]), FeatureSet.open(paths["feats"]), open_gmm(paths["gmm"])
    check_fits(paths["gmm"], gmm, lang, features)
    ids = original_ids(features)
    nj = min(nj, len(features.by_speaker(ids)))
    argv = [str(p) for p in (paths["feats"], paths["lang"], paths["gmm"], work)]
    (work / "log").mkdir(exist_ok=True)
    write_json(work / "log" / "job.json", {"boost_silence": cfg.boost_silence, "passes": cfg.fmllr_passes, "engine": cfg.engine})
    run_array("kdtool.ali.job", argv, nj=nj, log_dir=work / "log", name="align", mem=JOB_MB, outputs=lambda j: [work / f"part.{j}"])
    parts = [AlignmentSet.open(work / f"part.{job}") for job in range(1, nj + 1)]
    frames = sum(p.meta["frames"] for p in parts)
    loglike = sum(p.meta["loglike"] for p in parts)
    unknown = sum(p.meta["unknown_words"] for p in parts)
    dropped = [(u, reason) for p in parts for u, reason in p.meta["lost"]]
    owner = {i: p for p in parts for i in p.ids}
    kept = save_alignments(work, (owner[i].get(i) for i in ids if i in owner), {
        "tree_digest": gmm.tree.digest, "lang_digest": lang.digest, "phones_digest": phones_digest(lang),
        "num_pdfs": gmm.tree.num_pdfs, "frames": frames, "loglike_per_frame": round(loglike / max(frames, 1), 6), "unknown_words": unknown,
    })  # fmt: skip
    if gmm.front.adapted:
        save_transforms(work / TRANSFORMS_FILE, load_transforms(p.folder / TRANSFORMS_FILE for p in parts))
    write_json(work / "log" / "engine.json", {"engine": parts[0].meta["engine"]})
    for part in parts:
        shutil.rmtree(part.folder)
    account(len(ids), kept, dropped, max_share=cfg.max_dropped, where="align", work=work)
    export(work, Path(paths["feats"]) / "cuts.jsonl.gz", lang.phone_names)
    print(f"align: {frames} frames, log-likelihood per frame {loglike / frames:.3f}, {unknown} unknown words aligned as {lang.oov}",
          file=sys.stderr)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    step_main(
        "align", AlignConfig, {"feats": FEATS.called("feature folder of the set"), "lang": LANG, "gmm": GMM}, "alignment folder to make",
        align_set, argv, code="kdtool.ali.align", resolve=lambda cfg: dataclasses.replace(cfg, engine=resolve_engine(cfg.engine)),
        description="Align a set with a GMM: senone, state and phone of each frame, word and phone spans.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
