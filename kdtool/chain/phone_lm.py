"""A phone n-gram without back-off arcs.  In: phone sequences.  Out: a deterministic automaton over histories, with probabilities.

As Kaldi's chain-est-phone-lm: counts are not smoothed and there is no way back off, so the automaton stays small; it accepts all that it
was estimated on. All histories of ``keep - 1`` phones have a state; of longer ones, up to ``order - 1`` phones, the ``states`` that raise
the likelihood of the training sequences most. Phone 0 stands for the edge of an utterance.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdtool.core.errors import KdError

History = tuple[int, ...]
START: History = (0,)


@dataclass
class PhoneLm:
    """S states, phones below P; state 0 is an utterance's begin.

    ``last`` int64 (S,): the last phone of each state's history; ``next_state`` int32 (S, P), -1 where the phone was never seen there;
    ``log_prob`` float64 (S, P), nats, -inf there; ``log_end`` float64 (S,): of the utterance's end. exp of a row and its end sum to 1.
    ``fallback`` int32 (P,): of the states with that last phone the one that most phones can follow; -1 for unknown phones.
    """

    last: np.ndarray
    next_state: np.ndarray
    log_prob: np.ndarray
    log_end: np.ndarray
    fallback: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.last)

    def walk(self, phones: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """(state after each phone, log-probability of each phone): int64 and float64 (N,). After a phone that was never seen there (-inf)
        the walk goes on from that phone's ``fallback``."""
        states, scores = np.full(len(phones), -1, np.int64), np.full(len(phones), -np.inf)
        state = 0
        for i, phone in enumerate(phones):
            known = phone < len(self.fallback)
            to = int(self.next_state[state, phone]) if known and state >= 0 else -1
            if to >= 0:
                scores[i] = self.log_prob[state, phone]
            states[i] = state = to if to >= 0 or not known else int(self.fallback[phone])
        return states, scores


def estimate(sequences: Sequence[Sequence[int]], num_phones: int, *, order: int = 3, keep: int = 2, states: int = 200) -> PhoneLm:
    """Estimate on phone sequences. num_phones: ids are 1 to num_phones.

    Raises:
        KdError: no sequence, an empty one, or an order that is none.
    """
    if not 2 <= keep <= order:
        raise KdError(f"phone LM: order {order}, all histories kept up to order {keep}; 2 <= keep <= order is expected")
    if not sequences or min(map(len, sequences)) == 0:
        raise KdError(f"phone LM: {len(sequences)} phone sequences, some of them empty; align the training set again")
    counts = _counts(sequences, order)
    kept = _choose(counts, keep, states)
    found: dict[History, int] = {START: 0}
    arcs: dict[History, Counter[int]] = defaultdict(Counter)
    for phones in sequences:
        history = START
        for phone in (*map(int, phones), 0):
            arcs[history][phone] += 1
            if phone:
                history = _suffix((*history, phone), kept)
                found.setdefault(history, len(found))
    return _automaton(found, arcs, kept, num_phones)


def _counts(sequences: Sequence[Sequence[int]], order: int) -> dict[History, Counter[int]]:
    """What follows each history of up to ``order - 1`` phones; the end of an utterance is phone 0."""
    counts: dict[History, Counter[int]] = defaultdict(Counter)
    for phones in sequences:
        line = (0, *map(int, phones), 0)
        for i in range(1, len(line)):
            for length in range(1, min(order, i + 1)):
                counts[line[i - length : i]][line[i]] += 1
    return counts


def _choose(counts: Mapping[History, Counter[int]], keep: int, states: int) -> set[History]:
    """Histories that get a state: all up to ``keep - 1`` phones, then the most useful whose first and last parts have one, too."""
    kept = {h for h in counts if len(h) < keep}
    gains = {}
    for history in counts.keys() - kept:
        own, shorter = counts[history], counts[history[1:]]
        total, other = sum(own.values()), sum(shorter.values())
        gains[history] = sum(n * (np.log(n / total) - np.log(shorter[p] / other)) for p, n in own.items())
    left, ranked = states, sorted(gains, key=lambda h: (-gains[h], h))
    for length in range(keep, max(map(len, counts), default=0) + 1):
        for history in ranked:
            if left and len(history) == length and history[:-1] in kept and history[1:] in kept and gains[history] > 0:
                kept.add(history)
                left -= 1
    return kept


def _suffix(history: History, kept: set[History]) -> History:
    """The longest end of a history that has a state."""
    while history not in kept and len(history) > 1:
        history = history[1:]
    return history


def _automaton(found: dict[History, int], arcs: Mapping[History, Counter[int]], kept: set[History], num_phones: int) -> PhoneLm:
    size = num_phones + 1
    next_state, log_prob = np.full((len(found), size), -1, np.int32), np.full((len(found), size), -np.inf)
    log_end = np.full(len(found), -np.inf)
    for history, state in found.items():
        total = sum(arcs[history].values())
        for phone, count in arcs[history].items():
            if phone == 0:
                log_end[state] = np.log(count / total)
            else:
                next_state[state, phone] = found[_suffix((*history, phone), kept)]
                log_prob[state, phone] = np.log(count / total)
    last = np.array([h[-1] for h in found], np.int64)
    fallback = np.full(size, -1, np.int32)
    for history in sorted(found, key=lambda h: (len(arcs[h]), h)):  # the one that most can follow comes last and stays
        fallback[history[-1]] = found[history]
    return PhoneLm(last, next_state, log_prob, log_end, fallback)
