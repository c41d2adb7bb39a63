"""The denominator of LF-MMI: all phone sequences of an n-gram, as one acceptor of pdfs.

In: a phone LM, a chain tree. Out: ``Denominator``; denominator.safetensors, meta.json in a folder. The acceptor has no epsilons; its arcs
carry pdf + 1, one per 30 ms.

As in Kaldi a chunk may begin anywhere in an utterance: initial probabilities are the mean occupancies of the first hundred outputs of
the model, and all states are final. The end of an utterance leads on to the begin of one, so the probabilities of the arcs that leave a
state sum to one. Staying in a phone and going on have a half each; with one output per arc that adds the same to all paths.
"""

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.chain.labels import FIRST, LOOP
from kdtool.chain.phone_lm import PhoneLm
from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, write_json
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.formats.tree import Tree

DENOMINATOR_FILE, META_FILE = "denominator.safetensors", "meta.json"
AVERAGED = 100  # outputs that the initial probabilities are averaged over
HALF = float(np.log(0.5))


@dataclass
class Hmm:
    """H states: ``lm_state``, ``loop`` int64 (H,), the self-loop's pdf; state 0 is the begin of an utterance, which has none (-1).

    Arcs into other phones: ``src``, ``dst``, ``pdf`` int64 (A,), ``log_prob`` float64 (A,), nats; a state's arcs and its self-loop (a
    half) sum to one. ``log_init`` float64 (H,).
    """

    lm_state: np.ndarray
    loop: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    pdf: np.ndarray
    log_prob: np.ndarray
    log_init: np.ndarray


@dataclass
class Denominator:
    """``lm``, ``hmm``, and the acceptor that k2 takes: ``arcs`` int32 (A, 3) of source, target, label (pdf + 1; -1 into the final state),
    sorted by source; ``scores`` float32 (A,), nats. State 0 is the start, from which a chunk may begin in all states of the HMM.
    ``pdfs`` int32 (P, P, 2): pdf by left phone, phone, first or loop. ``meta``: tree_digest, sizes, what it was made with."""

    lm: PhoneLm
    hmm: Hmm
    pdfs: np.ndarray
    arcs: np.ndarray
    scores: np.ndarray
    meta: dict[str, Any]

    @classmethod
    def make(cls, lm: PhoneLm, tree: Tree) -> "Denominator":
        """Compose the LM with the tree."""
        pdfs = np.ascontiguousarray(tree.pdf_map[:, :, 0, :])
        hmm = _hmm(lm, pdfs)
        arcs, scores = _acceptor(hmm)
        meta = {"tree_digest": tree.digest, "num_pdfs": tree.num_pdfs, "lm_states": lm.num_states, "states": int(arcs[:, :2].max()) + 1,
                "arcs": len(arcs)}  # fmt: skip
        return cls(lm, hmm, pdfs, arcs, scores, meta)

    @functools.cached_property
    def numbers(self) -> dict[tuple[int, int], int]:
        """State of the HMM by (state of the LM, the self-loop's pdf)."""
        return {(int(s), int(p)): h for h, (s, p) in enumerate(zip(self.hmm.lm_state, self.hmm.loop, strict=True))}

    @functools.cached_property
    def log_begin(self) -> float:
        """Log-probability that a chunk begins with the first output of an utterance: at the begin, or behind another's end."""
        after = self.hmm.log_init[1:] + HALF + self.lm.log_end[self.hmm.lm_state[1:]]
        return float(np.logaddexp.reduce([self.hmm.log_init[0], *after]))

    def save(self, folder: Path) -> None:
        """Write both files into an existing folder."""
        tensors = {f"lm.{f.name}": getattr(self.lm, f.name) for f in fields(PhoneLm)}
        tensors |= {f"hmm.{f.name}": getattr(self.hmm, f.name) for f in fields(Hmm)}
        save_tensors(folder / DENOMINATOR_FILE, {**tensors, "pdfs": self.pdfs, "arcs": self.arcs, "scores": self.scores})
        write_json(folder / META_FILE, self.meta)

    @classmethod
    def load(cls, folder: Path) -> "Denominator":
        """Read a folder back; KdError when it is no denominator or damaged."""
        tensors, meta = load_tensors(folder / DENOMINATOR_FILE), read_json(folder / META_FILE)
        names = {*(f"lm.{f.name}" for f in fields(PhoneLm)), *(f"hmm.{f.name}" for f in fields(Hmm)), "pdfs", "arcs", "scores"}
        if set(tensors) != names or "tree_digest" not in meta:
            raise KdError(f"{folder}: {DENOMINATOR_FILE} and {META_FILE} are no denominator; make it again (steps/make_denominator.sh)")
        lm = PhoneLm(**{f.name: tensors[f"lm.{f.name}"] for f in fields(PhoneLm)})
        hmm = Hmm(**{f.name: tensors[f"hmm.{f.name}"] for f in fields(Hmm)})
        return cls(lm, hmm, tensors["pdfs"], tensors["arcs"], tensors["scores"], meta)

    def fsa(self) -> Any:
        """The acceptor as a k2 Fsa."""
        from kdtool.graph.k2api import make_fsa

        return make_fsa(self.arcs[:, 0], self.arcs[:, 1], self.arcs[:, 2], self.scores)


def _hmm(lm: PhoneLm, pdfs: np.ndarray) -> Hmm:
    """States that can be reached from the begin of an utterance, and their arcs, those of the same source, target and pdf as one."""
    number: dict[tuple[int, int], int] = {(0, -1): 0}
    queue = [(0, -1)]
    rows: list[tuple[int, int, int, float]] = []
    for state, loop in queue:  # grows
        stay = 0.0 if loop < 0 else HALF
        ways = [(state, 0.0)] + ([(0, float(lm.log_end[state]))] if np.isfinite(lm.log_end[state]) else [])
        for history, score in ways:  # the state's own history, or after the utterance's end a new begin
            for phone in np.flatnonzero(lm.next_state[history] >= 0):
                own = pdfs[lm.last[history], phone]
                to = (int(lm.next_state[history, phone]), int(own[LOOP]))
                if to not in number:
                    number[to] = len(number)
                    queue.append(to)
                rows.append((number[state, loop], number[to], int(own[FIRST]), stay + score + float(lm.log_prob[history, phone])))
    keys, log_prob = _merged(np.array([r[:3] for r in rows], np.int64), np.array([r[3] for r in rows]))
    states = np.array(list(number), np.int64)
    hmm = Hmm(states[:, 0], states[:, 1], keys[:, 0], keys[:, 1], keys[:, 2], log_prob, np.zeros(len(number)))
    hmm.log_init = _initial(hmm)
    return hmm


def _merged(keys: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal keys (N, K) once, sorted, with the log of the sum of their probabilities."""
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    return unique, np.log(np.bincount(inverse.reshape(-1), np.exp(scores), len(unique)))


def _initial(hmm: Hmm) -> np.ndarray:
    """Log of the mean occupancy of each state over the first outputs, from the begin of an utterance on."""
    now = np.zeros(len(hmm.loop))
    now[0] = 1.0
    total, stay, move = np.zeros_like(now), np.where(hmm.loop < 0, 0.0, 0.5), np.exp(hmm.log_prob)
    for _ in range(AVERAGED):
        total += now
        now = now * stay + np.bincount(hmm.dst, now[hmm.src] * move, len(now))
        now /= now.sum()  # one but for rounding
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total / AVERAGED))


def _acceptor(hmm: Hmm) -> tuple[np.ndarray, np.ndarray]:
    """A start state before all of the HMM's states, arcs, self-loops, and a final state behind all but the start."""
    size = len(hmm.loop)
    loops = np.flatnonzero(hmm.loop >= 0)
    src, dst = np.concatenate([hmm.src, loops]), np.concatenate([hmm.dst, loops])
    label = np.concatenate([hmm.pdf, hmm.loop[loops]]) + 1
    score = np.concatenate([hmm.log_prob, np.full(len(loops), HALF)])
    first, first_score = _merged(np.stack([dst, label], axis=1), score + hmm.log_init[src])
    # The HMM's state 0, into which nothing leads, has arcs for the first output only: the start takes its number.
    used, ends = hmm.loop[src] >= 0, loops
    arcs = np.concatenate([
        np.stack([np.zeros(len(first), np.int64), first[:, 0], first[:, 1]], axis=1),
        np.stack([src, dst, label], axis=1)[used],
        np.stack([ends, np.full(len(ends), size), np.full(len(ends), -1)], axis=1),
    ])  # fmt: skip
    scores = np.concatenate([first_score, score[used], np.zeros(len(ends))])
    keep = np.isfinite(scores)
    arcs, scores = arcs[keep], scores[keep]
    order = np.lexsort((arcs[:, 1], arcs[:, 2].astype(np.uint32), arcs[:, 0]))
    return np.ascontiguousarray(arcs[order], np.int32), np.ascontiguousarray(scores[order], np.float32)
