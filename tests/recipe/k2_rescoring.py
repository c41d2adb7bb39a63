"""Rescoring by composition in k2.  In: a lattice, a KenLM model.  Out: the best path's words and total with that LM, to hold others to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kdtool.graph.lattice import Lattice


def rescored_by_k2(lattice: Lattice, words: list[str], model: Any, prior_scale: float, lm_scale: float) -> tuple[tuple[str, ...], float]:
    """The best path where the LM replaces the graph's, silence and no silence costing the same; the total in nats of the LM."""
    import k2

    fsa = lattice.to_k2(prior_scale, lm_scale)
    fsa.scores = fsa.scores - fsa.lm_scores
    both = k2.intersect(k2.arc_sort(k2.invert(fsa)), lm_acceptor(lattice, words, model), treat_epsilons_specially=True)
    best = k2.shortest_path(k2.top_sort(k2.connect(k2.create_fsa_vec([both]))), use_double_scores=True)
    said = tuple(words[w] for w in best.labels.tolist() if w > 0)
    return said, float(best.scores.double().sum())


def lm_acceptor(lattice: Lattice, words: list[str], model: Any) -> Any:
    """The LM as a k2 Fsa without back-off arcs: a state per history that the lattice's neighbouring words lead to."""
    import k2
    import kenlm

    following = followers(lattice)
    start, half = kenlm.State(), math.log(0.5)
    model.BeginSentenceWrite(start)
    numbers, todo, rows = {(start, 0): 0}, [(start, 0)], []
    for state, last in todo:
        for word in sorted(following[last]):
            out = kenlm.State()
            score = model.BaseScore(state, words[word] if word > 0 else "</s>", out) * math.log(10) + half
            if word > 0 and (out, word) not in numbers:
                numbers[out, word] = len(numbers)
                todo.append((out, word))
            rows.append((numbers[state, last], numbers[out, word] if word > 0 else -1, word, score))
    lines = [f"{src} {len(numbers) if dst < 0 else dst} {word} {score:.9g}" for src, dst, word, score in rows]
    return k2.arc_sort(k2.Fsa.from_str("\n".join([*lines, str(len(numbers))]), acceptor=True))


def followers(lattice: Lattice) -> dict[int, set[int]]:
    """Word (0: the start) -> words that may come next in the lattice, -1: the end."""
    last: list[set[int]] = [{0}, *(set() for _ in range(lattice.num_states - 1))]
    result: dict[int, set[int]] = {0: set()}
    for a in np.argsort(lattice.src, kind="stable").tolist():
        before = last[lattice.src[a]]
        for word in [int(w) for w in lattice.words[a] if w] + ([-1] if lattice.pdf[a] < 0 else []):
            for w in before:
                result.setdefault(w, set()).add(word)
            before = {word}
        last[lattice.dst[a]] |= before
    return result
