"""Units of an alignment.  In: one utterance's alignment.  Out: its units in order with their frames, silence left out.

Senones and phones come from the alignment. Subwords are the sentencepiece pieces of each word; a word's frames
are divided among them by spelling: a boundary after character c of C falls at the same share of the word's phones.
"""

import numpy as np

from kdtool.core.errors import KdError
from kdtool.formats.alignment import Alignment, Segments
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.units.table import check_unit

WORD_START = "▁"


def unit_segments(ali: Alignment, unit: str, lang: Lang, tree: Tree | None = None) -> Segments:
    """The units of one utterance, ascending in time and without overlap; silence and spoken noise have none.

    Args:
        unit: "senone" (a run of one HMM state of one phone), "phone" or "subword".
        tree: only for a check: the alignment must not hold a senone that the tree lacks.

    Returns:
        Segments of 10 ms frames. Their union is the frames that are not silence. A subword's length may be 0, in a
        word with fewer frames than pieces: it is still part of the history.

    Raises:
        KdError: alignment and tree do not match.
    """
    check_unit(unit)
    if unit == "subword":
        return _subwords(ali, lang)
    segments = ali.senone_segments() if unit == "senone" else ali.phone_segments()
    heard = ~np.isin(ali.phone[segments.start], sorted(lang.silence_ids))
    if unit == "senone" and tree is not None and len(segments) and segments.ids.max() >= tree.num_pdfs:
        raise KdError(f"alignment of {ali.id} has senone {segments.ids.max()}, the tree {tree.num_pdfs}; align with this tree")
    return Segments(segments.ids[heard], segments.start[heard], segments.length[heard])


class Subwords:
    """Word -> its sentencepiece ids and the number of characters of each, encoded word by word and cached.

    Word by word and sentence by sentence give the same pieces, as sentencepiece does not let a piece cross a blank.
    """

    def __init__(self, lang: Lang) -> None:
        self._bpe = lang.bpe
        self._known: dict[str, tuple[list[int], list[int]]] = {}

    def __call__(self, word: str) -> tuple[list[int], list[int]]:
        if word not in self._known:
            pieces = self._bpe.encode(word, out_type=str)
            spelled = [len(p.replace(WORD_START, "")) for p in pieces]
            self._known[word] = (list(self._bpe.encode(word)), spelled)
        return self._known[word]


def subwords_of(lang: Lang) -> Subwords:
    """The lang's word-to-pieces map; one per Lang object, so that words are encoded once."""
    if "_kd_subwords" not in lang.__dict__:
        lang.__dict__["_kd_subwords"] = Subwords(lang)
    return lang.__dict__["_kd_subwords"]  # type: ignore[no-any-return]


def _subwords(ali: Alignment, lang: Lang) -> Segments:
    encode = subwords_of(lang)
    phones = ali.phone_segments()
    heard = ~np.isin(phones.ids, sorted(lang.silence_ids))
    parts: list[tuple[np.ndarray, ...]] = [(np.zeros(0, np.int32),) * 3]
    for word, first, frames in ali.words:
        inside = heard & (phones.start >= first) & (phones.start < first + frames)
        if not inside.any():
            continue  # an unknown word, aligned to spoken noise: nothing for a student to learn
        pieces, spelled = encode(word)
        edges = np.append(phones.start[inside], phones.start[inside][-1] + phones.length[inside][-1])
        cuts = _cut(edges, np.array(spelled))
        parts.append((np.array(pieces), cuts[:-1], np.diff(cuts)))
    return Segments(*(np.concatenate(columns).astype(np.int32) for columns in zip(*parts, strict=True)))


def _cut(edges: np.ndarray, spelled: np.ndarray) -> np.ndarray:
    """Boundaries (pieces + 1,) of a word's pieces; edges (phones + 1,) are its phones' frame boundaries."""
    # A lone word-start mark has no characters: every piece counts as at least one.
    share = np.concatenate([[0], np.cumsum(np.maximum(spelled, 1))]) / np.maximum(spelled, 1).sum()
    cuts = np.interp(share * (len(edges) - 1), np.arange(len(edges)), edges).round().astype(np.int64)
    pieces, first, last = len(spelled), int(edges[0]), int(edges[-1])
    if last - first < pieces:
        return np.minimum(first + np.arange(pieces + 1), last)
    # At least one frame each: push boundaries right where needed, then left from the end.
    steps = np.arange(pieces + 1)
    cuts = np.maximum.accumulate(cuts - steps) + steps
    return np.minimum(cuts, last - steps[::-1])
