"""Whether a text fits its audio.  In: an alignment, scores of the phone loop's units.  Out: evidence against the text.

Three questions, each a comparison of log-likelihoods that needs no second model:

- word: by how much does the loop fit better than the aligned phones, over the word's frames?
- stretch: is there any part of the file, silence and boundaries of words included, in which it fits much better?
- order: do two neighbouring words fit better the other way round? (Between `the` and `of` the loop hardly sees a difference.)

Words without a pronunciation are aligned as spoken noise, which fits nothing well: they are ignored while most words have one.
All evidence is measured in a unit of the utterance itself: 1 is the mean distance of a random phone from the loop's best path. So
monophone and adapted triphone models, loud and noisy recordings are comparable. Each kind has a limit; the
evidence above its limit is `mismatch`, and fit = 1 / (1 + mismatch): 1 is perfect, below 0.5 looks wrong.
The limits were set with a SAT model on half of the sample's dev speakers (tests/bench/bench_confidence.py); none of their correct
transcripts looks wrong. With a monophone model 1 in 30 does, with an unadapted triphone model 3 in 30.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdtool.aligner.loop import LoopPath, PhoneLoop
from kdtool.aligner.posterior import BestPath, Piece
from kdtool.graph.training import GraphBuilder
from kdtool.graph.viterbi import viterbi

WORD_LIMIT = 0.3  # mean over a word
STRETCH_FREE = 0.15  # per frame, no evidence: correct texts have 0.03 to 0.06
STRETCH_LIMIT = 12.0  # frames' worth of random phones, summed over the worst stretch
ORDER_LIMIT, ORDER_SCALE = 2.0, 5.0  # gain of exchanged words, in frames: limit, and scale above it
ORDER_CONTEXT = 2  # words realigned on each side: a wrong word moves its neighbours
LEAST_UNIT = 1.0  # nats per frame: every model is above


@dataclass(frozen=True)
class WordFit:
    """llr: log-likelihood of the aligned phones minus the loop's, nats per frame; heard: the loop's phones over the word's frames."""

    llr: float
    fit: float
    heard: list[int]


@dataclass(frozen=True)
class TextFit:
    """One utterance's fit. llr: as in WordFit, over all frames; start, stop: frames of the worst stretch; heard: the loop's phones there;
    exchanged: index of the first of two words that fit better exchanged (start and stop are then theirs), else -1."""

    llr: float
    fit: float
    start: int
    stop: int
    heard: list[int]
    exchanged: int
    words: list[WordFit]


def text_fit(loop: PhoneLoop, builder: GraphBuilder, words: Sequence[str], best_path: BestPath, scores: np.ndarray) -> TextFit:
    """Compare an alignment with the loop, and its words with their neighbours.

    builder: graphs over the loop's units; words: the aligned words, all in its lexicon; scores: float32 (T, units).
    """
    path = loop.best_path(scores)
    frames = np.arange(len(scores))
    best = scores[frames, path.unit].astype(np.float64)
    lost = best - scores[frames, aligned_units(loop, best_path.phones)]
    unit = max(float((best - loop.phone_means(scores)).mean()), LEAST_UNIT)
    against = lost / unit
    unknown = {n for n, word in enumerate(words) if word == builder.oov}
    if 2 * len(unknown) <= len(words):  # else most of the text is aligned as spoken noise, which is judged then
        for piece in (p for p in best_path.words if p.id in unknown):
            against[piece.start : end(piece)] = 0.0
    evidence, start, stop = worst_stretch(against)
    mismatch, exchanged = evidence / STRETCH_LIMIT, -1
    orders = [1 + (x / unit - ORDER_LIMIT) / ORDER_SCALE for x in exchange_gains(builder, words, best_path.words, scores)]
    if orders and max(orders) > mismatch:
        mismatch = max(orders)
        if mismatch >= 1:
            exchanged = int(np.argmax(orders))
            start, stop = best_path.words[exchanged].start, end(best_path.words[exchanged + 1])
    each = [
        _word(loop, path, lost, against, piece, max([0.0, *(x for x in orders[max(0, n - 1) : n + 1] if x >= 1)]))
        for n, piece in enumerate(best_path.words)
    ]
    return TextFit(-float(lost.mean()), fit(mismatch), start, stop, heard(loop, path, start, stop), exchanged, each)


def _word(loop: PhoneLoop, path: LoopPath, lost: np.ndarray, against: np.ndarray, piece: Piece, order: float) -> WordFit:
    part = slice(piece.start, end(piece))
    mismatch = max(float(against[part].mean()) / WORD_LIMIT, order)
    return WordFit(-float(lost[part].mean()), fit(mismatch), heard(loop, path, part.start, part.stop))


def fit(mismatch: float) -> float:
    """Map evidence above its limit to a score between 0 and 1, 0.5 at the limit."""
    return 1 / (1 + max(mismatch, 0.0))


def end(piece: Piece) -> int:
    """The frame after a piece's last."""
    return piece.start + piece.length


def aligned_units(loop: PhoneLoop, phones: Sequence[Piece]) -> np.ndarray:
    """The loop's unit of each frame of an alignment, int32 (T,)."""
    phone = np.repeat([p.id for p in phones], [p.length for p in phones])
    state = np.concatenate([np.repeat(np.arange(len(p.states)), p.states) for p in phones])
    return loop.unit(phone, state)


def worst_stretch(lost: np.ndarray) -> tuple[float, int, int]:
    """The largest sum of (lost - STRETCH_FREE) over neighbouring frames, its first frame, the frame after its last."""
    sums = np.concatenate([[0.0], np.cumsum(lost - STRETCH_FREE)])
    low = np.minimum.accumulate(sums)
    stop = int((sums - low).argmax())
    start = int(sums[: stop + 1].argmin())
    return float(sums[stop] - sums[start]), start, max(stop, start + 1)


def exchange_gains(builder: GraphBuilder, words: Sequence[str], pieces: Sequence[Piece], scores: np.ndarray) -> list[float]:
    """Gain in nats when two neighbouring words are exchanged, with ORDER_CONTEXT words on each side realigned; one per pair.

    -inf where the two sound alike or one has no pronunciation.
    """
    gains = []
    for n in range(len(words) - 1):
        low, high = max(0, n - ORDER_CONTEXT), min(len(words), n + 2 + ORDER_CONTEXT)
        part = scores[pieces[low].start if low else 0 : end(pieces[high - 1]) if high < len(words) else len(scores)]
        said = list(words[low:high])
        other = [*words[low:n], words[n + 1], words[n], *words[n + 2 : high]]
        same = {*builder.prons[words[n]]} == {*builder.prons[words[n + 1]]}
        gains.append(-np.inf if same or builder.oov in words[n : n + 2] else _score(builder, other, part) - _score(builder, said, part))
    return gains


def _score(builder: GraphBuilder, words: Sequence[str], scores: np.ndarray) -> float:
    graph = builder.build(words)
    found = viterbi(graph, np.ascontiguousarray(scores[:, graph.used_pdfs()]))
    return found[1] if found else -np.inf  # no path: then the given order has none either, as it is as long


def heard(loop: PhoneLoop, path: LoopPath, start: int, stop: int) -> list[int]:
    """Phones of the loop whose middle lies from frame `start` to before `stop`; else every phone that overlaps it."""
    spans = list(itertools.pairwise([*np.flatnonzero(path.begins).tolist(), len(path.unit)]))
    inside = [a for a, b in spans if start <= (a + b - 1) // 2 < stop] or [a for a, b in spans if a < stop and b > start]
    return [int(loop.units.pdf_phone[path.unit[a]]) for a in inside]
