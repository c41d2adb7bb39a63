"""Alignments of the chain topology.  In: a 10 ms alignment of any tree over the same phones, a chain tree.  Out: a 10 ms alignment whose
every third frame, from any first frame on, is a path of the chain topology.

A phone's first three frames carry its first pdf, its other frames the self-loop's. Of three frames in a row exactly one is on a grid of
30 ms, so each phone begins with its first pdf once, wherever the grid starts. So all that works on 10 ms alignments (training sets,
speed copies, dumps of teachers) works on these.
"""

from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.alignment import Alignment
from kdtool.formats.tree import CHAIN, CHAIN_SUBSAMPLING, Tree

SUBSAMPLING = CHAIN_SUBSAMPLING  # 10 ms frames per output
FIRST, LOOP = 0, 1  # the two "states" of a chain tree's table


def neighbours(phones: np.ndarray) -> np.ndarray:
    """The phone before each of a sequence (N,), 0 at its begin."""
    return np.concatenate([[0], phones[:-1]]).astype(np.int64)


def chain_states(ali: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """(left phone, FIRST or LOOP) of each 10 ms frame, int64 (T,) both."""
    segments = ali.phone_segments()
    left = np.repeat(neighbours(segments.ids), segments.length)
    since = np.arange(ali.num_frames) - np.repeat(segments.start, segments.length)
    return left, np.where(since < SUBSAMPLING, FIRST, LOOP)


def check_tree(tree: Tree, where: object) -> Tree:
    """The tree; KdError unless its topology is the chain's and no pdf depends on the phone to the right."""
    if tree.topology != CHAIN:
        raise KdError(f"{where}: a tree of topology {tree.topology}, {CHAIN} is expected; make one with steps/train_chain_tree.sh")
    if not (tree.pdf_map == tree.pdf_map[:, :, :1]).all():
        raise KdError(f"{where}: pdfs depend on the phone to the right; make a tree over left biphones with steps/train_chain_tree.sh")
    return tree


def load_tree(folder: Path) -> Tree:
    """A folder's chain tree, checked."""
    return check_tree(Tree.load(folder), folder)


def to_chain(ali: Alignment, tree: Tree) -> Alignment | str:
    """The alignment with the chain tree's pdfs, or why there is none: more phones than outputs."""
    segments = ali.phone_segments()
    outputs = ali.num_frames // SUBSAMPLING
    if len(segments) > outputs:
        return f"{len(segments)} phones, {outputs} outputs of 30 ms in {ali.num_frames} frames; each phone needs one"
    if segments.ids.max() >= len(tree.pdf_map):
        raise KdError(f"alignment of {ali.id} has phone {segments.ids.max()}, the tree {len(tree.pdf_map) - 1} phones; "
                      "take a tree over the phones of the alignment")  # fmt: skip
    left, state = chain_states(ali)
    pdf = tree.pdf_map[left, ali.phone, 0, state].astype(np.int32)
    return Alignment(ali.id, pdf, state.astype(np.int16), ali.phone, ali.phone_start, ali.words)
