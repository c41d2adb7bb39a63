"""Numerators of LF-MMI: what may have been said in a chunk, near the alignment.

In: an utterance's phones, their places in 10 ms frames, the denominator. Out: acceptors of pdfs, one arc per output (30 ms), as arrays.

A phone may begin and end up to ``tolerance`` frames away from where the alignment has it. Every path carries the denominator's
probabilities, and the history of phones before the chunk is known: so each is a path of the denominator, too, and the numerator's total
is never above the denominator's.
"""

from dataclasses import dataclass

import numpy as np

from kdtool.chain.denominator import HALF, Denominator
from kdtool.chain.labels import FIRST, LOOP, SUBSAMPLING, neighbours


@dataclass(frozen=True)
class Numerator:
    """One acceptor: ``arcs`` int32 (A, 4) of source, target, label (pdf + 1, -1 into the final state) and the score's bits (float32), as k2
    has them; sorted by source, state 0 is the start and the last one final."""

    arcs: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """float32 (A,), nats."""
        return np.ascontiguousarray(self.arcs[:, 3]).view(np.float32)


class Spoken:
    """N phones of an utterance with the denominator's scores, float64 (N,), nats.

    ``first``, ``loop``: pdf + 1 of each; ``enter``: of going on to a phone from the one before; ``begin_first``, ``begin_loop``: of a chunk
    that begins with a phone's first output, or in the middle of it. -inf where the denominator does not know the phones.
    """

    def __init__(self, phones: np.ndarray, den: Denominator) -> None:
        left, own = neighbours(phones), phones.astype(np.int64)
        self.first, self.loop = (den.pdfs[left, own, state].astype(np.int64) + 1 for state in (FIRST, LOOP))
        states, scores = den.lm.walk(own.tolist())
        number = den.numbers
        at = [number.get((int(s), int(p) - 1), -1) for s, p in zip(states, self.loop, strict=True)]
        inside = np.array([den.hmm.log_init[h] if h >= 0 else -np.inf for h in at])
        self.enter = scores + HALF
        self.begin_loop = inside + HALF
        self.begin_first = np.concatenate([[den.log_begin], inside[:-1] + HALF]) + scores

    def unknown(self) -> int:
        """The first phone whose history the denominator does not know, -1 for none."""
        bad = np.flatnonzero(~np.isfinite(self.enter))
        return int(bad[0]) if len(bad) else -1


def spans(place: np.ndarray, start: int, outputs: int, tolerance: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the earliest and the latest phone at each output of a chunk, int64 (outputs,).

    place: int (T,), which phone each 10 ms frame belongs to; start: 10 ms frame of the first output, may lie a little before 0. The chunk
    with an utterance's first frame begins with its first phone, the one with its last frame ends with the last.
    """
    last = len(place) - 1
    centre = start + SUBSAMPLING * np.arange(outputs)
    low = place[(centre - tolerance).clip(0, last)].astype(np.int64)
    high = place[(centre + tolerance).clip(0, last)].astype(np.int64)
    if start <= 0:
        high[0] = min(high[0], place[0])
    if centre[-1] + SUBSAMPLING > last:
        low[-1] = max(low[-1], place[last])
    return low, high


def numerator(spoken: Spoken, low: np.ndarray, high: np.ndarray) -> Numerator | None:
    """The acceptor of the phones ``low`` to ``high`` at each output; None where it has no path."""
    width = int((high - low).max()) + 1
    phone = low[:, None] + np.arange(width)
    there = phone <= high[:, None]
    phone = np.minimum(phone, high[:, None])
    number = np.cumsum(there.ravel()).reshape(there.shape)  # from 1 on; 0 is the start
    if not _connected(spoken, phone, there):
        return None
    final = int(number[-1].max()) + 1
    first, second = phone[0][there[0]], number[0][there[0]]
    parts = [(np.zeros_like(second), second, spoken.first[first], spoken.begin_first[first]),
             (np.zeros_like(second), second, spoken.loop[first], spoken.begin_loop[first])]  # fmt: skip
    for stay in (True, False):
        before = phone[1:] - (0 if stay else 1) - low[:-1, None]  # column of the source, one output earlier
        use = there[1:] & (before >= 0) & (before <= (high - low)[:-1, None])
        row = np.nonzero(use)[0]
        src, dst, to = number[row, before[use]], number[1:][use], phone[1:][use]
        parts.append((src, dst, spoken.loop[to], np.full(len(to), HALF)) if stay else (src, dst, spoken.first[to], spoken.enter[to]))
    ends = number[-1][there[-1]]
    parts.append((ends, np.full_like(ends, final), np.full_like(ends, -1), np.zeros(len(ends))))
    src, dst, label, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = np.isfinite(score)
    arcs = np.stack([src, dst, label, score.astype(np.float32).view(np.int32).astype(np.int64)], axis=1)[keep]
    return Numerator(arcs[np.argsort(arcs[:, 0], kind="stable")].astype(np.int32))


def _connected(spoken: Spoken, phone: np.ndarray, there: np.ndarray) -> bool:
    """Whether a path leads from the first output to the last."""
    known = np.isfinite(spoken.enter)
    now = {int(p) for p in phone[0][there[0]] if np.isfinite(spoken.begin_first[p]) or np.isfinite(spoken.begin_loop[p])}
    for row, ok in zip(phone[1:], there[1:], strict=True):
        low, high = int(row[0]), int(row[ok][-1])
        now = {p for p in now | {p + 1 for p in now if p < high and known[p + 1]} if low <= p <= high}
    return bool(now)
