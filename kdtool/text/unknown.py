"""Summary of words without a pronunciation, for the terminal.  In: their counts.  Out: two lines: how many, most frequent, list file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

SHOWN = 10
_LONGEST = 40  # letters shown per word


def unknown_words(what: str, words: Counter[str], unknown: Collection[str], fate: str, listed: str) -> str:
    """The summary of a text's unknown words; '' if there are none.

    Args:
        what: source of the words: "training transcripts".
        words: count of each word of the text.
        unknown: those without a pronunciation.
        fate: what happens to them: "are without a pronunciation and become <UNK>".
        listed: file that lists all of them.
    """
    found = Counter({w: words[w] for w in set(unknown) if words[w]})
    if not found:
        return ""
    total, share = words.total(), 100 * found.total() / words.total()
    first = ", ".join(f"{_shown(w)} {n}" for w, n in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:SHOWN])
    return (f"{what}: {len(found)} of {len(words)} words {fate} ({found.total()} of {total} "
            f"tokens, {share:.2f}%)\n  {'all' if len(found) <= SHOWN else 'most frequent'}: {first}; list: {listed}")  # fmt: skip


def _shown(word: str) -> str:
    return word if len(word) <= _LONGEST else word[:_LONGEST] + ".."
