"""ARPA language model -> word graph G.

In: an ARPA file and the word ids that the graph may use. Out: a transducer over word ids, back-off arcs labelled #0.
A context gets a state only if a longer n-gram starts with it. So states that can only back off (kaldilm keeps
them: 344,000 of 442,000 measured) never appear, which makes the later determinization several times faster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.graph.fst import FstArrays
from kdtool.lm.arpa import LOG10, read_ngrams

_BOS, _EOS = -1, -2
_NEVER = -90.0  # SRILM and KenLM write log10 probability -99 for <s>


@dataclass
class Arpa:
    """N-grams by order: ``grams[n-1]`` maps a tuple of n word ids to (log-probability, back-off weight), in nats.

    <s> is -1, </s> is -2. ``skipped``: n-grams left out because one of their words has no id; ``skipped_words``: these
    words, <unk> not among them.
    """

    grams: list[dict[tuple[int, ...], tuple[float, float]]]
    skipped: int
    skipped_words: list[str]


def read_arpa(path: Path, words: Mapping[str, int]) -> Arpa:
    """Read an ARPA file, keeping the n-grams whose words all have an id in ``words``.

    Raises:
        KdError: not an ARPA file, a malformed line (its number is named), counts that do not match the header.
    """
    ids = {**words, "<s>": _BOS, "</s>": _EOS}
    arpa = Arpa([], 0, [])
    for names, log_prob, back_off in read_ngrams(path):
        if len(names) > len(arpa.grams):
            arpa.grams.append({})
        key = tuple(ids.get(w, 0) for w in names)
        if 0 not in key:
            arpa.grams[-1][key] = log_prob * LOG10, back_off * LOG10
            continue
        arpa.skipped += 1
        if len(names) == 1 and names[0].lower() != "<unk>":
            arpa.skipped_words.append(names[0])
    return arpa


def grammar_fst(arpa: Arpa, back_off_label: int) -> FstArrays:
    """The back-off LM as a transducer: start state <s>, word arcs, '#0:eps' back-off arcs; ends cost -log P(</s> | h)."""
    states = _context_states(arpa)
    src: list[int] = []
    dst: list[int] = []
    label: list[int] = []
    output: list[int] = []
    weight: list[float] = []
    final: dict[int, float] = {}
    for table in arpa.grams:
        for gram, (log_prob, _) in table.items():
            word, state = gram[-1], states[gram[:-1]]
            if word == _BOS or log_prob < _NEVER * LOG10:
                continue
            if word == _EOS:
                final[state] = -log_prob
                continue
            # An n-gram that ends in a shorter state has backed off on the way: add its back-off weights.
            target, cost = _longest(states, gram, arpa)
            src.append(state)
            dst.append(target)
            label.append(word)
            output.append(word)
            weight.append(-log_prob - cost)
    for context, state in states.items():
        if context:
            target, cost = _longest(states, context[1:], arpa)
            src.append(state)
            dst.append(target)
            label.append(back_off_label)
            output.append(0)
            weight.append(-_back_off(arpa, context) - cost)
    if not final:
        raise KdError("the LM never ends a sentence: no n-gram with </s>; train it on text with one sentence per line")
    return FstArrays.build(src, dst, label, output, weight, final, start=states[(_BOS,)], num_states=len(states))


def _context_states(arpa: Arpa) -> dict[tuple[int, ...], int]:
    """A state for each context that some n-gram extends, closed under dropping the oldest word; <s> and () always."""
    contexts: dict[tuple[int, ...], int] = {(): 0, (_BOS,): 1}
    for table in arpa.grams[1:]:
        for gram in table:
            context = gram[:-1]
            while context not in contexts:
                contexts[context] = len(contexts)
                context = context[1:]
    return contexts


def _longest(states: dict[tuple[int, ...], int], context: tuple[int, ...], arpa: Arpa) -> tuple[int, float]:
    """The longest suffix of a context that has a state, and the back-off log-weight of the way there."""
    spent = 0.0
    while context not in states:
        spent += _back_off(arpa, context)
        context = context[1:]
    return states[context], spent


def _back_off(arpa: Arpa, context: tuple[int, ...]) -> float:
    if len(context) >= len(arpa.grams):
        return 0.0
    return arpa.grams[len(context) - 1].get(context, (0.0, 0.0))[1]
