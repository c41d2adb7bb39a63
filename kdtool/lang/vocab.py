"""The vocabulary.  In: training transcripts and LM text.  Out: word counts and the words that get into data/lang."""

import unicodedata
from collections import Counter
from itertools import chain
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text
from kdtool.formats.rows import read_utterances
from kdtool.lang.lexicon import UNK
from kdtool.text.clean import JOINERS
from kdtool.text.marks import words_fault

RESERVED = ("<eps>", "<s>", "</s>", "#0", UNK)


def text_fault(text: str, lower_too: bool = False) -> str:
    """'' for a normalised transcript (in upper case, unless `lower_too`), else what is wrong with it.

    The unknown word, <UNK>, may be in a transcript.
    """
    if strange := next((c for c in text if not c.isprintable() and c not in JOINERS), ""):
        return f"{text[:60]!r} holds the character {strange!r}"
    if not unicodedata.is_normalized("NFC", text):
        return f"{text[:60]!r} is not in composed form (NFC)"
    if reserved := [w for w in text.split() if w in RESERVED and w != UNK]:
        return f"the word {reserved[0]} is reserved"
    if not lower_too and text != text.upper():
        return f"{text[:60]!r} is not upper-case"
    return words_fault(text)


def transcript_words(data: Path) -> Counter[str]:
    """Word counts of the transcripts in data/<set>; KdError when there are none, or one is not normalised."""
    counts: Counter[str] = Counter()
    for row in read_utterances(data):
        text = row.get("text") or ""
        if fault := text_fault(" ".join(text.split())):
            raise KdError(f"{data / 'supervisions.jsonl.gz'}, utterance {row['id']}: {fault}; normalise the transcripts first")
        counts.update(text.split())
    if not counts:
        raise KdError(f"{data / 'supervisions.jsonl.gz'}: no words in the transcripts; prepare the corpus again")
    return counts


def text_words(lm_text: Path) -> Counter[str]:
    """Word counts of an LM text folder (text.gz); KdError when it holds no words."""
    with open_text(lm_text / "text.gz") as lines:
        counts = Counter(chain.from_iterable(map(str.split, lines)))
    if not counts:
        raise KdError(f"{lm_text}/text.gz: no words in it; prepare the LM text again (steps/prepare_lm_text.sh)")
    return counts


def most_frequent(counts: Counter[str], size: int, min_count: int) -> list[str]:
    """The `size` most frequent words that occur at least `min_count` times; ties in alphabetical order."""
    enough = [(word, n) for word, n in counts.items() if n >= min_count]
    return [word for word, _ in sorted(enough, key=lambda item: (-item[1], item[0]))[:size]]
