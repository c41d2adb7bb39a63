"""An alignment folder: ali.safetensors, index.jsonl, meta.json, dropped.tsv.

All levels read every frame, which is cheap; the comparisons with features, lang and GMM need those folders. DEEP also
compares each word's phones with its pronunciations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.findings import Class, Level, Report
from kdtool.formats.alignment import ALI_FILE, Alignment, AlignmentSet
from kdtool.formats.transforms import TRANSFORMS_FILE
from kdtool.formats.tree import HMM

if TYPE_CHECKING:
    from kdtool.formats.tree import Tree
    from kdtool.lang.lang import Lang

AGAIN = "align again (steps/align.sh)"
CLASSES = {
    "unreadable": Class("files that are missing, damaged, or do not fit each other", AGAIN),
    "duplicate-id": Class("an utterance that occurs more than once", AGAIN),
    "frames": Class("an utterance whose arrays differ in length", AGAIN),
    "phones": Class("phone segments that do not cover the utterance from end to end", AGAIN),
    "words": Class("words that overlap or pass the end", AGAIN),
    "senone": Class("a senone outside of the tree, or a negative one", AGAIN),
    "states": Class("HMM states that do not run from a phone's first to its last", AGAIN),
    "tree": Class("a senone that is not its phone's, state's and neighbours' in the tree, or another tree", AGAIN),
    "lang": Class("phones that the lang folder does not have, or another phone table or topology", AGAIN + " with this lang folder"),
    "length": Class("an utterance with another number of frames than its features", AGAIN),
    "unaccounted": Class("an utterance with features, but neither an alignment nor a reason in dropped.tsv", AGAIN),
    "transform": Class("a speaker's feature transform with NaN or infinity", AGAIN),
    "pronunciation": Class("a word whose phones are none of its pronunciations", AGAIN),
}
OTHERS = {
    "feats": "feature folder that was aligned",
    "lang": "lang folder that it was aligned with",
    "gmm": "GMM folder with the tree (default: the folder above, if it has one)",
}


def check(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    """Check an alignment folder."""
    try:
        alignments = AlignmentSet.open(folder)
        lang, tree = _lang(others), _tree(others, folder)
    except KdError as e:
        report.add("unreadable", folder.name, folder, str(e))
        return
    for name in sorted({n for n in alignments.ids if alignments.ids.count(n) > 1}) if len(set(alignments.ids)) < len(alignments) else []:
        report.add("duplicate-id", name, folder / "index.jsonl", f"{alignments.ids.count(name)} times", "once")
    _check_digests(report, alignments, lang, tree)
    num_pdfs = tree.num_pdfs if tree else int(alignments.meta.get("num_pdfs", 1 << 31))
    for name in dict.fromkeys(alignments.ids):
        one = alignments.get(name)
        kind, fault = one.fault()
        if kind:
            report.add(kind, name, folder / ALI_FILE, fault)
        elif one.pdf.min() < 0 or one.pdf.max() >= num_pdfs:
            report.add("senone", name, folder / ALI_FILE, f"senones {one.pdf.min()} to {one.pdf.max()}", f"0 to {num_pdfs - 1}")
        else:
            _check_states(report, one, folder, lang, tree, str(alignments.meta.get("topology", HMM)))
            if lang and level == Level.DEEP:
                _check_prons(report, one, folder, lang)
    if (folder / TRANSFORMS_FILE).is_file():
        _check_transforms(report, folder / TRANSFORMS_FILE)
    if "feats" in others:
        _check_features(report, alignments, others["feats"])
    report.summary = f"{len(alignments)} utterances, {sum(alignments.get(n).num_frames for n in alignments.ids)} frames"


def _lang(others: Mapping[str, Path]) -> Lang | None:
    from kdtool.lang.lang import Lang

    return Lang.load(others["lang"]) if "lang" in others else None


def _tree(others: Mapping[str, Path], folder: Path) -> Tree | None:
    from kdtool.formats.tree import TREE_FILE, Tree

    place = others.get("gmm", folder.resolve().parent)
    return Tree.load(place) if "gmm" in others or (place / TREE_FILE).is_file() else None


def _check_digests(report: Report, alignments: AlignmentSet, lang: Lang | None, tree: Tree | None) -> None:
    from kdtool.gmm.folder import check_alignment

    said = str(alignments.meta.get("tree_digest", ""))
    if tree and said != tree.digest:
        report.add("tree", "meta.json", alignments.folder / "meta.json", said[:16] or "none", tree.digest[:16])
    if lang:
        try:
            check_alignment(alignments, lang)
        except KdError as e:
            report.add("lang", "meta.json", alignments.folder / "meta.json", str(e))


def _check_states(report: Report, one: Alignment, folder: Path, lang: Lang | None, tree: Tree | None, topology: str) -> None:
    path, start = folder / ALI_FILE, one.phone_start
    first = np.zeros(one.num_frames, dtype=bool)
    first[start] = True
    step = np.diff(one.state.astype(np.int32), prepend=0)
    bad = np.where(first, one.state != 0, (step < 0) | (step > 1))
    states = _states_of(lang, tree)
    if states is not None:
        phones, ends = one.phone[start], np.append(start[1:], one.num_frames) - 1
        if phones.min() < 1 or phones.max() >= len(states) or not states[phones].all():
            report.add("lang" if lang else "tree", one.id, path, f"phones {phones.min()} to {phones.max()}", f"known, below {len(states)}")
            return
        bad[ends] |= one.state[ends] != states[phones] - 1 if topology == HMM else one.state[ends] > 1  # CHAIN: left from both
    if bad.any():
        frame = int(bad.argmax())
        found = f"state {one.state[frame]} of phone {one.phone[frame]} at frame {frame}; {int(bad.sum())} frames"
        report.add("states", one.id, path, found)
    elif tree:
        _check_tree(report, one, path, tree)


def _states_of(lang: Lang | None, tree: Tree | None) -> np.ndarray | None:
    """States of each phone id, 0 where the id is no phone."""
    if lang is None:
        return tree.num_states if tree else None
    return np.array([lang.num_states.get(i, 0) for i in range(len(lang.phone_names))])


def _check_tree(report: Report, one: Alignment, path: Path, tree: Tree) -> None:
    segments = one.phone_segments()
    left = np.concatenate([[0], segments.ids[:-1]])
    right = np.concatenate([segments.ids[1:], [0]])
    owner = np.repeat(np.arange(len(segments)), segments.length)
    if segments.ids.max() >= tree.pdf_map.shape[0] or one.state.max() >= tree.pdf_map.shape[3]:
        report.add("tree", one.id, path, f"phone {segments.ids.max()}, state {one.state.max()}", f"a table of {tree.pdf_map.shape}")
        return
    wanted = tree.pdf_map[left[owner], one.phone, right[owner], one.state]
    if (bad := wanted != one.pdf).any():
        frame = int(bad.argmax())
        report.add("tree", one.id, path, f"senone {one.pdf[frame]} at frame {frame}; {int(bad.sum())} frames", str(wanted[frame]))


def _check_prons(report: Report, one: Alignment, folder: Path, lang: Lang) -> None:
    segments = one.phone_segments()
    heard = ~np.isin(segments.ids, [lang.sil])
    for word, first, length in one.words:
        inside = heard & (segments.start >= first) & (segments.start < first + length)
        said = tuple(segments.ids[inside].tolist())
        if said not in lang.text_prons.get(word, lang.prons[lang.oov]):
            names = " ".join(lang.phone_names[p] for p in said)
            report.add("pronunciation", f"{one.id}: {word}", folder / ALI_FILE, names or "no phones", "a pronunciation of the lexicon")


def _check_transforms(report: Report, path: Path) -> None:
    from kdtool.formats.transforms import load_transforms

    try:
        transforms = load_transforms([path])
    except KdError as e:
        report.add("unreadable", path.name, path, str(e))
        return
    for speaker, matrix in transforms.items():
        if bad := int((~np.isfinite(matrix)).sum()):
            report.add("transform", speaker, path, f"{bad} of {matrix.size} values", "finite")


def _check_features(report: Report, alignments: AlignmentSet, feats: Path) -> None:
    from kdtool.core.tables import read_lines
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import original_ids

    try:
        features = FeatureSet.open(feats)
        wanted = original_ids(features)
    except KdError as e:
        report.add("unreadable", feats.name, feats, str(e))
        return
    dropped = alignments.folder / "dropped.tsv"
    gone = {line.split("\t")[0] for line in read_lines(dropped)} if dropped.is_file() else set()
    for name in wanted:
        frames = features.info(name).num_frames
        if name in alignments:
            if (found := alignments.get(name).num_frames) != frames:
                report.add("length", name, alignments.folder / ALI_FILE, f"{found} frames", f"{frames} in {feats}")
        elif name not in gone:
            report.add("unaccounted", name, feats, "no alignment", "one, or a reason in dropped.tsv")
