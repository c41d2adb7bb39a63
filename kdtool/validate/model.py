"""A model folder: a GMM, a student or a teacher, recognised by its files.

DOOR reads the numbers; FULL also builds the model as decoding does.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.findings import UNREADABLE, Class, Level, Report
from kdtool.core.tables import read_json
from kdtool.core.tensors import load_metadata, load_tensors
from kdtool.features.store import FeatureSet
from kdtool.formats.system import GMM_FILE, STUDENT_FILE, read_system
from kdtool.formats.tree import TREE_FILE, Tree
from kdtool.gmm.folder import check_fits, open_gmm, phones_digest
from kdtool.gmm.model import DiagGmm
from kdtool.lang.lang import Lang
from kdtool.teacher.base import TEACHER_FILE, read_meta
from kdtool.teacher.registry import load_teacher
from kdtool.units.table import units_digest
from kdtool.validate.checks import SHOWN, check_same

AGAIN = "train it again"
CLASSES = {
    UNREADABLE: Class("no model, or files that are missing, damaged, or do not fit each other", AGAIN),
    "not-finite": Class("an array with NaN (in a GMM or student also infinity)", AGAIN + ", a student with a lower learning rate"),
    "variance": Class("a Gaussian whose variance is not above 0", AGAIN),
    "weights": Class("a senone whose mixture weights do not sum to 1, or without Gaussians", AGAIN),
    "priors": Class("senone priors that do not sum to 1", AGAIN),
    "shape": Class("an array of another shape than the model's description", AGAIN),
    "tree": Class("a model without its tree, or of another tree", AGAIN),
    "lang": Class("a model of other phones, HMM topology or units than the lang folder's", "use its own lang folder, or " + AGAIN),
    "features": Class("a model of other features than the feature folder", "extract the model's kind of features"),
}
OTHERS = {
    "lang": "lang folder that it will be used with",
    "feats": "features that it will be used with",
    "gmm": "GMM folder whose tree a student's or a teacher's senones are",
}
SLACK = 1e-3


def check(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    """Check a model folder."""
    kinds = {GMM_FILE: _gmm, TEACHER_FILE: _teacher, STUDENT_FILE: _student}  # teachers have a STUDENT_FILE, too
    for name, check_kind in kinds.items():
        if (folder / name).is_file():
            if name != TEACHER_FILE:
                read_system(folder)
            check_kind(report, folder, level, others)
            return
    raise KdError(f"none of {GMM_FILE}, {STUDENT_FILE}, {TEACHER_FILE}")


def _finite(report: Report, path: Path, tensors: Mapping[str, np.ndarray], infinity: bool = False) -> None:
    for name, array in sorted(tensors.items()):
        if array.dtype.kind == "f" and (bad := int((np.isnan(array) if infinity else ~np.isfinite(array)).sum())):
            report.add("not-finite", name, path, f"{bad} of {array.size}", "0")


def _gmm(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    path = folder / GMM_FILE
    tensors = load_tensors(path)
    if not set(DiagGmm.TENSORS) <= set(tensors):
        raise KdError(f"{path} is not a GMM file (it holds {', '.join(sorted(tensors))}); train the GMM again")
    for place in sorted(folder.glob("*.safetensors")):  # also the speaker-independent twin, transforms
        _finite(report, place, tensors if place == path else load_tensors(place))
    offsets, log_weights = tensors["offsets"], tensors["log_weights"]
    for row in np.flatnonzero(~(tensors["inv_vars"] > 0).all(axis=1))[:SHOWN]:
        report.add("variance", f"Gaussian {row}", path, f"1 / variance from {tensors['inv_vars'][row].min()}", "above 0")
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(log_weights) or (np.diff(offsets) < 1).any():
        report.add("weights", "offsets", path, f"{len(log_weights)} Gaussians, offsets to {offsets[-1:]}", "at least one a senone")
    else:
        total = np.add.reduceat(np.exp(log_weights.astype(np.float64)), offsets[:-1])
        for pdf in np.flatnonzero(~(np.abs(total - 1) < SLACK)):
            report.add("weights", f"senone {pdf}", path, f"{total[pdf]:.4f}", "1")
    if report.problems:
        return
    gmm = open_gmm(folder)
    report.summary = f"GMM, {gmm.tree.num_pdfs} senones, {gmm.model.num_gaussians} Gaussians of dimension {gmm.model.dim}"
    if "lang" in others and "feats" in others:
        lang, features = Lang.load(others["lang"]), FeatureSet.open(others["feats"])
        try:
            check_fits(folder, gmm, lang, features)
        except KdError as e:
            report.add("features" if features.kind != gmm.front.kind else "lang", folder.name, others["feats"], str(e))
    elif "lang" in others:
        meta = folder / "meta.json"
        check_same(report, "lang", meta, read_json(meta).get("phones_digest"), phones_digest(Lang.load(others["lang"])))


def _student(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    path = folder / STUDENT_FILE
    tensors, meta = load_tensors(path), load_metadata(path)
    _finite(report, path, tensors)
    try:
        shape = json.loads(meta["shape"])
        num_pdfs, kind, dim, tree = shape["num_pdfs"], shape["feature_kind"], shape["input_dim"], shape["tree_digest"]
        priors = tensors["log_priors"].astype(np.float64)
    except (KeyError, ValueError, TypeError) as e:
        raise KdError(f"{path}: no student's description in it ({e!r}); train it again") from e
    total = float(np.exp(priors).sum())
    if not abs(total - 1) < SLACK:
        report.add("priors", "log_priors", path, f"{total:.4f}", "1")
    for name in ("log_priors", "main.output.weight", "main.output.bias"):
        size = tensors[name].shape[0] if name in tensors and tensors[name].ndim else 0
        if size != num_pdfs:
            report.add("shape", name, path, size, f"{num_pdfs} senones")
    if not tree:
        report.add("tree", "shape", path, "names no tree", "the digest of one")
    elif "gmm" in others:
        check_same(report, "tree", path, tree, Tree.load(others["gmm"]).digest)
    if "feats" in others:
        features = FeatureSet.open(others["feats"])
        if (features.kind, features.dim) != (kind, dim):
            report.add("features", features.kind, others["feats"], f"{features.kind} of {features.dim}", f"{kind} of {dim}")
    if level > Level.DOOR and not report.problems:
        from kdtool.student.model import Student

        Student.load(folder)
    report.summary = f"student ({shape.get('encoder')}), {num_pdfs} senones, {sum(t.size for t in tensors.values())} numbers"


def _teacher(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    meta = read_meta(folder)
    # Log-probabilities of units that never occur are -inf.
    _finite(report, folder / STUDENT_FILE, load_tensors(folder / STUDENT_FILE), infinity=True)
    if level > Level.DOOR:
        load_teacher(folder)
    if meta["unit"] == "senone" and "gmm" in others and (others["gmm"] / TREE_FILE).is_file():
        check_same(report, "tree", folder / TEACHER_FILE, meta.get("tree_digest"), Tree.load(others["gmm"]).digest)
    elif meta["unit"] != "senone" and "lang" in others:
        digest = units_digest(meta["unit"], Lang.load(others["lang"]), None)
        check_same(report, "lang", folder / TEACHER_FILE, meta.get("units_digest"), digest)
    report.summary = f"{meta['kind']} teacher of {meta['num_units']} {meta['unit']}s"
