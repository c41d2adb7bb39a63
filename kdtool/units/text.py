"""Units of text.  In: sentences, lexicon, tree, sentencepiece model.  Out: unit sequences, no audio needed.

Words become phones through the lexicon, phones become senones through the tree (contexts reach across words, there is
no silence, and the edge of a sentence is context 0), words become sentencepiece pieces. Text streams through in blocks
of sentences; inside a block everything is array arithmetic.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.units.segments import Subwords, subwords_of
from kdtool.units.table import check_unit

BLOCK = 20_000


@dataclass
class Sequences:
    """Concatenated unit sequences: ``ids`` int32 (M,), sentence i is ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        for first, last in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.ids[first:last]

    @classmethod
    def of(cls, sentences: Iterable[np.ndarray]) -> "Sequences":
        """Concatenate sequences."""
        parts = [np.asarray(s, dtype=np.int32) for s in sentences]
        lengths = np.array([len(p) for p in parts], dtype=np.int64)
        return cls(np.concatenate(parts) if parts else np.zeros(0, np.int32), np.concatenate([[0], np.cumsum(lengths)]))


def sentences_of(lm_text: Path) -> Iterator[str]:
    """The sentences of a folder made by prepare_lm_text (text.gz), empty lines left out."""
    with open_text(Path(lm_text) / "text.gz") as lines:
        for line in lines:
            if line := line.strip():
                yield line


class UnitText:
    """Sentences to unit sequences, for one unit.

    Args:
        unit: "senone", "phone" or "subword".
        shares: word -> probability of each of its pronunciations (from ``pron_shares``); one is drawn at each
            occurrence. A word without shares gets its first pronunciation.
        seed: of that draw.

    A sentence with a word outside the lexicon is skipped for senones and phones (the lexicon includes G2P's pronunciations);
    subwords spell any word.
    """

    def __init__(
        self, unit: str, lang: Lang, tree: Tree | None, *, shares: Mapping[str, Sequence[float]] | None = None, seed: int = 0
    ) -> None:
        check_unit(unit)
        if unit == "senone" and tree is None:
            raise KdError("senones of text need a decision tree; name the GMM's folder")
        self.unit, self._tree = unit, tree
        self.sentences = self.skipped = self.words = self.units = 0
        self._random = np.random.default_rng(seed)
        self._subwords: Subwords | None = subwords_of(lang) if unit == "subword" else None
        self._rows: dict[str, int] = {}
        self._reach: list[list[float]] = []
        self._units: list[list[int]] = []
        if unit != "subword":
            for word, prons in lang.text_prons.items():
                if word != lang.oov:
                    self._add(word, [list(p) for p in prons], shares.get(word) if shares else None)

    def _add(self, word: str, choices: list[list[int]], shares: Sequence[float] | None = None) -> None:
        self._rows[word] = len(self._units)
        # Its first reach rises to 1: a draw above its first k numbers selects the pronunciation after the k-th.
        self._reach += [list(np.cumsum(shares)[:-1]) if shares else []] + [[]] * (len(choices) - 1)
        self._units += choices

    def blocks(self, sentences: Iterable[str]) -> "Iterator[Sequences]":
        """Unit sequences, a block of sentences at a time; updates the counts."""
        source = iter(sentences)
        while block := list(islice(source, BLOCK)):
            yield self._block(block)

    def _block(self, block: list[str]) -> "Sequences":
        get = self._piece_row if self._subwords is not None else lambda word: self._rows.get(word, -1)
        per_sentence = [[get(word) for word in sentence.split()] for sentence in block]
        kept = [rows for rows in per_sentence if rows and min(rows) >= 0]
        self.sentences += len(kept)
        self.skipped += len(block) - len(kept)
        words_in = np.array([len(rows) for rows in kept], dtype=np.int64)
        rows = np.fromiter((r for sentence in kept for r in sentence), dtype=np.int64, count=int(words_in.sum()))
        self.words += len(rows)
        rows = self._draw(rows)
        ids, offsets = self._gather(rows, np.concatenate([[0], np.cumsum(words_in)]))
        if self.unit == "senone":
            assert self._tree is not None
            ids, offsets = senones(ids, offsets, self._tree)
        self.units += len(ids)
        return Sequences(ids.astype(np.int32), offsets)

    def _draw(self, rows: np.ndarray) -> np.ndarray:
        """Replace a word's first row by the row of a pronunciation drawn by the shares."""
        most = max(map(len, self._reach), default=0)
        if most == 0:
            return rows
        draw = self._random.random(len(rows))
        reach = np.array([[*numbers, *[np.inf] * (most - len(numbers))] for numbers in self._reach])
        return rows + (draw[:, None] >= reach[rows]).sum(axis=1)  # type: ignore[no-any-return]

    def _piece_row(self, word: str) -> int:
        if word not in self._rows:
            assert self._subwords is not None
            self._add(word, [self._subwords(word)[0]])
        return self._rows[word]

    def _gather(self, rows: np.ndarray, word_offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(units of the words of these rows, where each sentence begins); ``word_offsets``: its first word."""
        lengths = np.array([len(u) for u in self._units], dtype=np.int64)
        flat = np.fromiter((i for u in self._units for i in u), dtype=np.int32, count=int(lengths.sum()))
        first = np.cumsum(lengths) - lengths
        ends = np.concatenate([[0], np.cumsum(lengths[rows])])
        # Position within the gathered array, minus the word's start there, plus the start of the word's units.
        source = np.arange(ends[-1]) + np.repeat(first[rows] - ends[:-1], lengths[rows])
        return flat[source], ends[word_offsets]


def pron_shares(ali: AlignmentSet, lang: Lang, prior: float = 4.0) -> dict[str, list[float]]:
    """Relative frequency of each pronunciation of a word in an alignment.

    A word's counts are added to `prior` times the overall frequencies by place in the lexicon, among words with
    as many pronunciations. So rare words follow the average, and "a" and "the" their own counts.
    """
    counts = {w: np.zeros(len(p)) for w, p in lang.text_prons.items() if len(p) > 1}
    for utterance in ali.ids:
        one = ali.get(utterance)
        phones = one.phone_segments()
        for word, first, length in one.words:
            if word in counts:
                spoken = tuple(phones.ids[(phones.start >= first) & (phones.start < first + length)].tolist())
                if spoken in lang.text_prons[word]:
                    counts[word][lang.text_prons[word].index(spoken)] += 1
    habit: dict[int, np.ndarray] = {}
    for count in counts.values():
        habit[len(count)] = habit.get(len(count), np.ones(len(count))) + count
    shares = {w: count + prior * habit[len(count)] / habit[len(count)].sum() for w, count in counts.items()}
    return {w: (s / s.sum()).tolist() for w, s in shares.items()}


def senones(phones: np.ndarray, offsets: np.ndarray, tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Senones of phone sequences: (ids, offsets) of phones in, of senones out; sentence edges are context 0. Raises KdError: a phone that
    the tree does not know."""
    if len(phones) and (phones.max() >= tree.pdf_map.shape[0] or phones.min() <= 0):
        raise KdError(f"phone {phones.max()} is not in the tree of {tree.pdf_map.shape[0]} phone ids; build lang and tree again")
    left, right = np.roll(phones, 1), np.roll(phones, -1)
    filled = offsets[:-1][np.diff(offsets) > 0]
    left[filled] = 0
    right[offsets[1:][np.diff(offsets) > 0] - 1] = 0
    table = tree.pdf_map[left, phones, right]
    there = table >= 0
    per_phone = there.sum(axis=1)
    if len(phones) and per_phone.min() == 0:
        raise KdError(f"phone {phones[per_phone.argmin()]} has no senone in the tree; build the tree for this lang again")
    return table[there], np.concatenate([[0], np.cumsum(per_phone)])[offsets]
