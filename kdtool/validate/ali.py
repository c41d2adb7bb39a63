"""An alignment folder: ali.safetensors, index.jsonl, meta.json, dropped.tsv.

All levels read every frame, which is cheap; the comparisons with features, lang and GMM need those folders. DEEP also
compares each word's phones with its pronunciations.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdtool.core.findings import UNREADABLE, Class, Level, Report
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import ALI_FILE, Alignment, AlignmentSet
from kdtool.formats.transforms import TRANSFORMS_FILE, load_transforms
from kdtool.formats.tree import HMM, TREE_FILE, Tree
from kdtool.gmm.folder import check_alignment, original_ids
from kdtool.lang.lang import Lang
from kdtool.validate.checks import check_repeated, check_same, dropped_ids, reading

AGAIN = "align again (steps/align.sh)"
CLASSES = {
    UNREADABLE: Class("files that are missing, damaged, or do not fit each other", AGAIN),
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
    alignments = AlignmentSet.open(folder)
    lang = Lang.load(others["lang"]) if "lang" in others else None
    place = others.get("gmm", folder.resolve().parent)
    tree = Tree.load(place) if "gmm" in others or (place / TREE_FILE).is_file() else None
    check_repeated(report, alignments.ids, folder / "index.jsonl")
    if tree:
        check_same(report, "tree", folder / "meta.json", alignments.meta.get("tree_digest", "") or "none", tree.digest)
    if lang:
        with reading(report, folder / "meta.json", "lang"):
            check_alignment(alignments, lang)
    num_pdfs = tree.num_pdfs if tree else int(alignments.meta.get("num_pdfs", 1 << 31))
    for name in dict.fromkeys(alignments.ids):
        one = alignments.get(name)
        kind, fault = one.fault()
        if kind:
            report.add(kind, name, folder / ALI_FILE, fault)
        elif one.pdf.min() < 0 or one.pdf.max() >= num_pdfs:
            report.add("senone", name, folder / ALI_FILE, f"senones {one.pdf.min()} to {one.pdf.max()}", f"0 to {num_pdfs - 1}")
        else:
            _check_states(report, one, folder / ALI_FILE, lang, tree, str(alignments.meta.get("topology", HMM)))
            if lang and level == Level.DEEP:
                _check_prons(report, one, folder / ALI_FILE, lang)
    report.summary = f"{len(alignments)} utterances, {sum(alignments.get(n).num_frames for n in alignments.ids)} frames"
    path = folder / TRANSFORMS_FILE
    with reading(report, path):
        for speaker, matrix in load_transforms([path] if path.is_file() else []).items():
            if bad := int((~np.isfinite(matrix)).sum()):
                report.add("transform", speaker, path, f"{bad} of {matrix.size} values", "finite")
    if "feats" in others:
        with reading(report, others["feats"]):
            _check_features(report, alignments, others["feats"])


def _check_states(report: Report, one: Alignment, path: Path, lang: Lang | None, tree: Tree | None, topology: str) -> None:
    start = one.phone_start
    first = np.zeros(one.num_frames, dtype=bool)
    first[start] = True
    step = np.diff(one.state.astype(np.int32), prepend=0)
    bad = np.where(first, one.state != 0, (step < 0) | (step > 1))
    states = tree.num_states if tree else None  # of each phone id, 0 where the id is no phone
    if lang:
        states = np.array([lang.num_states.get(i, 0) for i in range(len(lang.phone_names))])
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


def _check_tree(report: Report, one: Alignment, path: Path, tree: Tree) -> None:
    segments = one.phone_segments()
    left = np.concatenate([[0], segments.ids[:-1]])
    right = np.concatenate([segments.ids[1:], [0]])
    owner = np.repeat(np.arange(len(segments)), segments.length)
    if segments.ids.max() >= tree.pdf_map.shape[0] or one.state.max() >= tree.pdf_map.shape[3]:
        report.add("tree", one.id, path, f"phone {segments.ids.max()}, state {one.state.max()}", f"a table of {tree.pdf_map.shape}")
        return
    expected = tree.pdf_map[left[owner], one.phone, right[owner], one.state]
    if (bad := expected != one.pdf).any():
        frame = int(bad.argmax())
        report.add("tree", one.id, path, f"senone {one.pdf[frame]} at frame {frame}; {int(bad.sum())} frames", expected[frame])


def _check_prons(report: Report, one: Alignment, path: Path, lang: Lang) -> None:
    segments = one.phone_segments()
    for word, first, length in one.words:
        inside = (segments.ids != lang.sil) & (segments.start >= first) & (segments.start < first + length)
        pron = tuple(segments.ids[inside].tolist())
        if pron not in lang.text_prons.get(word, lang.prons[lang.oov]):
            names = " ".join(lang.phone_names[p] for p in pron)
            report.add("pronunciation", f"{one.id}: {word}", path, names or "no phones", "a pronunciation of the lexicon")


def _check_features(report: Report, alignments: AlignmentSet, feats: Path) -> None:
    features = FeatureSet.open(feats)
    dropped = dropped_ids(alignments.folder)
    for name in original_ids(features):
        frames = features.info(name).num_frames
        if name not in alignments and name not in dropped:
            report.add("unaccounted", name, feats, "no alignment", "one, or a reason in dropped.tsv")
        elif name in alignments and (found := alignments.get(name).num_frames) != frames:
            report.add("length", name, alignments.folder / ALI_FILE, f"{found} frames", f"{frames} in {feats}")
