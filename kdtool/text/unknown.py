"""Words without a pronunciation, in two lines for the terminal.  In: their counts.  Out: how many, the most frequent, where all are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

SHOWN = 10
_LONGEST = 40  # letters of a word that are shown


def unknown_words(what: str, words: Counter[str], unknown: Collection[str], fate: str, listed: str) -> str:
    """The summary of a text's unknown words; '' when there are none.

    Args:
        what: whose words they are: "training transcripts".
        words: how often each word of the text occurs.
        unknown: those without a pronunciation.
        fate: what is said of them: "are without a pronunciation and become <UNK>".
        listed: where all of them stand.
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
