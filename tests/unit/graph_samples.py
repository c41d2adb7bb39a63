"""A language of five phones for graph tests: tree, lexicon, LM, and scores by brute force that share no code with kdtool."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.formats.tree import CHAIN, Tree
from kdtool.graph.arpa import grammar_fst, read_arpa
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.hclg import build_graph
from kdtool.graph.lexicon_fst import lexicon_fst
from kdtool.lang.probs import LexiconProbs

WORDS = ["<eps>", "A", "B", "C", "D", "#0"]
IDS = {"A": 1, "B": 2, "C": 3, "D": 4}
SIL = 1
# A and C are homophones, A has a variant, D begins like B and is one phone long.
PRONS: dict[int, list[tuple[int, ...]]] = {1: [(2, 3), (4,)], 2: [(5, 2)], 3: [(2, 3)], 4: [(5,)]}
FLAT = LexiconProbs.flat(0.5)
# Backing off is never better than an n-gram that exists, so that a graph and KenLM agree exactly.
ARPA = """\\data\\
ngram 1=7
ngram 2=5
ngram 3=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.9
-0.9\t</s>
-0.7\tA\t-0.6
-0.9\tB\t-0.5
-1.1\tC
-1.3\tD\t-0.3

\\2-grams:
-0.2\t<s> A\t-0.4
-0.4\tA B\t-0.7
-0.2\tB </s>
-0.5\tD A
-0.3\tB A

\\3-grams:
-0.1\t<s> A B
-0.15\tA B A

\\end\\
"""


def tree(states: int = 2, seed: int = 0) -> Tree:
    """Silence free of context, two or three pdfs for each state of the other phones."""
    rng = np.random.default_rng(seed)
    table = np.full((6, 6, 6, states), -1, dtype=np.int32)
    pdf = 0
    for phone in range(1, 6):
        for s in range(states):
            variants = 1 if phone == SIL else 2 + s % 2
            choice = rng.permutation(np.arange(36) % variants).reshape(6, 6)
            table[:, phone, :, s] = pdf + choice
            pdf += variants
    return Tree(table)


def chain_tree(seed: int = 0) -> Tree:
    """Chain topology: silence free of context, two first pdfs and three loops for each other phone, by the phone before."""
    rng = np.random.default_rng(seed)
    table = np.full((6, 6, 6, 2), -1, dtype=np.int32)
    pdf = 0
    for phone in range(1, 6):
        for s in range(2):
            variants = 1 if phone == SIL else 2 + s
            table[:, phone, :, s] = pdf + (rng.permutation(6) % variants)[:, None]
            pdf += variants
    return Tree(table, None, CHAIN)


def write_arpa(folder: Path) -> Path:
    """The LM as a file."""
    path = folder / "lm.arpa"
    path.write_text(ARPA)
    return path


def word_graph(folder: Path, model: Tree, sil: int | None = SIL, probs: LexiconProbs = FLAT) -> DecodingGraph:
    """HCLG of the sample language."""
    grammar = grammar_fst(read_arpa(write_arpa(folder), IDS), 5)
    lexicon = lexicon_fst(PRONS, num_phones=5, back_off_word=5, sil=sil, probs=probs, words=WORDS)
    return build_graph(grammar, lexicon, model, WORDS)


def align(model: Tree, phones: tuple[int, ...], scores: np.ndarray) -> float:
    """Score of the best alignment of a phone string: plain Viterbi over its chain of states."""
    if model.topology == CHAIN:
        return align_chain(model, phones, scores)
    edged = (0, *phones, 0)
    chain = [
        int(p) for n in range(1, len(edged) - 1) for p in model.pdf_map[edged[n - 1], edged[n], edged[n + 1]] if p >= 0
    ]  # fmt: skip
    best = np.full(len(chain), -np.inf)
    best[0] = scores[0, chain[0]]
    for frame in scores[1:]:
        best = np.maximum(best, np.concatenate([[-np.inf], best[:-1]])) + frame[chain]
    return float(best[-1])


def align_chain(model: Tree, phones: tuple[int, ...], scores: np.ndarray) -> float:
    """The same for the chain topology: each phone takes its first pdf once, then its other pdf any number of times, or not at all."""
    own = [model.pdf_map[left, phone, 0] for left, phone in zip((0, *phones[:-1]), phones, strict=True)]
    first, loop = np.full(len(own), -np.inf), np.full(len(own), -np.inf)  # best score that ends in either
    first[0] = scores[0, own[0][0]]
    for frame in scores[1:]:
        left = np.concatenate([[-np.inf], np.maximum(first, loop)[:-1]])
        first, loop = left + frame[[p[0] for p in own]], np.maximum(first, loop) + frame[[p[1] for p in own]]
    return float(max(first[-1], loop[-1]))


def said_at(words: tuple[int, ...], prons: tuple[tuple[int, ...], ...], silences: tuple[bool, ...], probs: LexiconProbs) -> float:
    """Log-probability of saying the words in these ways, with silence in these gaps (one more than words)."""
    ways = [probs.of(WORDS[w], p) for w, p in zip(words, prons, strict=True)]
    total = 0.0
    for gap, silent in enumerate(silences):
        after = ways[gap - 1].sil if gap else probs.start
        total += np.log(after if silent else 1 - after)
        before = ways[gap] if gap < len(ways) else probs.end
        total += np.log(before.after_sil if silent else before.after_speech)
    return total + sum(np.log(w.pron) for w in ways)


def brute_force(
    folder: Path, model: Tree, scores: np.ndarray, *, lm_scale: float, max_words: int, probs: LexiconProbs = FLAT
) -> dict[tuple[int, ...], float]:
    """Best score of every word sequence, over all pronunciations and silences; the LM's part by KenLM."""
    lm = kenlm_model(folder)
    result = {}
    for length in range(max_words + 1):
        for words in itertools.product(IDS.values(), repeat=length):
            text = " ".join(WORDS[w] for w in words)
            lm_score = lm.score(text, bos=True, eos=True) * np.log(10)
            best = -np.inf
            for prons in itertools.product(*(PRONS[w] for w in words)):
                for silences in itertools.product([(), (SIL,)], repeat=length + 1):
                    phones = silences[0] + tuple(itertools.chain(*(p + s for p, s in zip(prons, silences[1:], strict=True))))
                    if not phones:
                        continue
                    graph = lm_score + said_at(words, prons, tuple(map(bool, silences)), probs)
                    best = max(best, align(model, phones, scores) + lm_scale * graph)
            if np.isfinite(best):
                result[words] = best
    return result


def kenlm_model(folder: Path) -> Any:
    """The sample LM in KenLM."""
    import kenlm

    return kenlm.Model(str(write_arpa(folder)))


def random_scores(model: Tree, frames: int, seed: int) -> np.ndarray:
    """float32 (frames, num_pdfs) log-likelihoods with some structure in time."""
    rng = np.random.default_rng(seed)
    return (2 * rng.standard_normal((frames, model.num_pdfs))).astype(np.float32)
