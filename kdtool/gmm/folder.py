"""A GMM folder: written at the end of training, checked when opened.

Out: gmm.safetensors, tree.safetensors, phones.txt, feature.json (and transform.safetensors), meta.json, history.jsonl; for a
model of speaker-adapted features also gmm_first.safetensors, its speaker-independent twin for the first pass, and
fmllr_prior.safetensors.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_table, write_json, write_jsonl, write_table
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import TREE_FILE, Tree
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.fmllr import PRIOR_FILE, Adaptation
from kdtool.gmm.model import GMM_FILE, DiagGmm
from kdtool.graph.training import Words
from kdtool.lang.lang import Lang

PHONES_FILE = "phones.txt"
FIRST_FILE = "gmm_first.safetensors"


@dataclass
class Gmm:
    """An opened GMM folder. silence: bool (num_pdfs,), the pdfs of silence phones. For models of speaker-adapted features
    (``front.adapted``): first, the same Gaussians on unadapted features; adaptation, how transforms are estimated."""

    model: DiagGmm
    tree: Tree
    front: FrontEnd
    silence: np.ndarray
    first: DiagGmm | None = None
    adaptation: Adaptation | None = None


class Silence(NamedTuple):
    """Bool (num_pdfs,) each: pdfs of all silence phones, and those of the optional one between words."""

    all: np.ndarray
    pause: np.ndarray


def phones_digest(lang: Lang) -> str:
    """sha256 of phone names, ids and numbers of states: the part of a lang folder that a model depends on."""
    topo = {str(p): int(n) for p, n in sorted(lang.num_states.items())}
    return hashlib.sha256(json.dumps([dict(sorted(lang.phones.items())), topo]).encode()).hexdigest()


def save_gmm(
    folder: Path, model: DiagGmm, tree: Tree, lang: Lang, front: FrontEnd, history: list[dict[str, Any]], *,
    first: DiagGmm | None = None, adaptation: Adaptation | None = None,
) -> None:  # fmt: skip
    """Write a trained model with the digests that later checks compare. first, adaptation: as in `Gmm`."""
    model.tree_digest = tree.digest
    model.save(folder)
    tree.save(folder)
    front.save(folder)
    if first is not None and adaptation is not None:
        first.tree_digest = tree.digest
        first.save(folder, FIRST_FILE)
        adaptation.save(folder)
    write_table(folder / PHONES_FILE, lang.phones)
    write_json(folder / "meta.json", {
        "tree_digest": tree.digest, "lang_digest": lang.digest, "phones_digest": phones_digest(lang),
        "num_pdfs": tree.num_pdfs, "num_gaussians": model.num_gaussians, "silence_phones": sorted(lang.silence_ids),
        "loglike_per_frame": history[-1]["loglike"] if history else None,
    })  # fmt: skip
    write_jsonl(folder / "history.jsonl", history)


def open_gmm(folder: Path) -> Gmm:
    """All parts of a GMM folder; KdError when they do not belong together."""
    folder = Path(folder)
    if not (folder / GMM_FILE).is_file():
        raise KdError(f"{folder}: no GMM here ({GMM_FILE} is missing); train one with steps/train_mono.sh or steps/train_tri.sh")
    model, tree = DiagGmm.load(folder), Tree.load(folder)
    if model.tree_digest != tree.digest or model.num_pdfs != tree.num_pdfs:
        raise KdError(f"{folder}: {GMM_FILE} has {model.num_pdfs} pdfs of tree {model.tree_digest[:12]}, {TREE_FILE} has "
                      f"{tree.num_pdfs} of tree {tree.digest[:12]}: they come from different runs; train again")  # fmt: skip
    front = FrontEnd.load(folder)
    if model.dim != front.dim:
        raise KdError(f"{folder}: Gaussians of dimension {model.dim}, a front end that makes {front.dim}; train again")
    silence = np.isin(tree.pdf_phone, read_json(folder / "meta.json")["silence_phones"])
    if not front.adapted:
        return Gmm(model, tree, front, silence)
    first, adaptation = DiagGmm.load(folder, FIRST_FILE), Adaptation.load(folder)
    if not np.array_equal(first.offsets, model.offsets) or len(adaptation.prior.k) != model.dim:
        raise KdError(f"{folder}: {FIRST_FILE} has {first.num_gaussians} Gaussians, {GMM_FILE} has {model.num_gaussians}, {PRIOR_FILE} is "
                      f"for {len(adaptation.prior.k)} of {model.dim} dimensions: they come from different runs; train again")  # fmt: skip
    return Gmm(model, tree, front, silence, first, adaptation)


def check_fits(folder: Path, gmm: Gmm, lang: Lang, features: FeatureSet) -> None:
    """KdError unless the lang folder has the model's phones and the features have the model's kind."""
    stored = read_json(folder / "meta.json").get("phones_digest")
    if stored != phones_digest(lang):
        phones = read_table(folder / PHONES_FILE)
        differing = sorted({p for p in {*phones, *lang.phones} if phones.get(p) != lang.phones.get(p)})[:5]
        raise KdError(f"{folder} was trained with other phones or HMM topology than this lang folder has ({len(phones)} symbols there, "
                      f"{len(lang.phones)} here; differing: {', '.join(differing) or 'numbers of states'}); use the lang folder it was "
                      "trained with, or train again")  # fmt: skip
    gmm.front.check(folder, features)


def check_alignment(alignments: AlignmentSet, lang: Lang) -> None:
    """Raise KdError unless the alignment is over this lang folder's phones."""
    if alignments.meta.get("phones_digest") != phones_digest(lang):
        raise KdError(f"{alignments.folder} was made with other phones or HMM topology than this lang folder has; "
                      "align again with this lang folder")  # fmt: skip


def open_alignments(lang_dir: Path, ali_dir: Path) -> tuple[Lang, AlignmentSet]:
    """A lang folder and an alignment over its phones."""
    lang, alignments = Lang.load(lang_dir), AlignmentSet.open(ali_dir)
    check_alignment(alignments, lang)
    return lang, alignments


def original_ids(features: FeatureSet) -> list[str]:
    """Utterances at their original speed: GMMs neither train on nor align perturbed copies."""
    ids = [i for i in features.ids if features.info(i).speed == 1.0]
    if not ids:
        raise KdError(f"{features.folder}: no utterance at speed 1.0 among {len(features.ids)}; extract features with it")
    return ids


def used_words(lang: Lang, features: FeatureSet, ids: list[str]) -> Words:
    """The part of the lexicon that the utterances' transcripts need, the unknown word included, with its probabilities."""
    words = {w for i in ids for w in features.info(i).text.split()} | {lang.oov}
    known = lang.text_prons  # also has words beyond the decoding vocabulary: any pronunciation beats "unknown"
    prons = {w: known[w] for w in sorted(words) if w in known}
    return Words(prons, lang.sil, lang.oov, lang.probs.part(prons) if lang.probs else None)


def silence_pdfs(tree: Tree, lang: Lang) -> Silence:
    """Pdfs of silence phones."""
    return Silence(np.isin(tree.pdf_phone, sorted(lang.silence_ids)), tree.pdf_phone == lang.sil)
