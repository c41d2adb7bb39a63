"""Sentences of the embedded corpus.  In: embedded.yaml.  Out: sentences for training and dev, text for language models.

The grammar is one level deep: a template whose capitalised names are replaced by words. The first words of a list are drawn
more often (1 / (rank + 3)), so that counts decrease as in real text and n-gram discounts can be estimated.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdtool.core.cli import read_config
from kdtool.core.errors import KdError

NAME = re.compile(r"[A-Z]+")
SHORTEST, LONGEST = 5, 10
MAX_DRAWS = 200


@dataclass(frozen=True)
class Speaker:
    """One voice: its espeak name, pitch (0 to 100) and rate (words per minute)."""

    id: int
    voice: str
    pitch: int
    rate: int


@dataclass(frozen=True)
class Source:
    """Contents of embedded.yaml. Words are lower-case; pronunciations are ARPAbet phones without stress."""

    templates: list[list[str]]
    words: dict[str, list[list[str]]]
    left_out: frozenset[str]
    pronunciations: dict[str, list[tuple[str, ...]]]
    speakers: dict[str, list[Speaker]]

    def vocabulary(self) -> list[str]:
        """All words that a sentence can hold, sorted."""
        entries = [*self.templates, *(entry for entries in self.words.values() for entry in entries)]
        return sorted({word for entry in entries for word in entry if not NAME.fullmatch(word)})


def read_source(path: Path) -> Source:
    """Read embedded.yaml, a file of the toolkit."""
    raw = read_config(str(path))
    return Source(
        templates=[template.split() for template in raw["sentences"]],
        words={name: [entry.split("_") for entry in text.split()] for name, text in raw["words"].items()},
        left_out=frozenset(raw["left_out"].split()),
        pronunciations={word: [tuple(p.split()) for p in prons] for word, prons in raw["pronunciations"].items()},
        speakers={part: [Speaker(**s) for s in voices] for part, voices in raw["speakers"].items()},
    )


def draw(source: Source, rng: random.Random) -> str:
    """One sentence of 5 to 10 words, lower-case; a list that a template names twice gives two different words."""
    for _ in range(MAX_DRAWS):
        words = _fill(rng.choice(source.templates), source.words, rng)
        if SHORTEST <= len(words) <= LONGEST:
            return " ".join(words)
    raise KdError(f"embedded.yaml: no sentence of {SHORTEST} to {LONGEST} words in {MAX_DRAWS} draws; add templates of that length")


def _fill(template: Sequence[str], lists: Mapping[str, Sequence[Sequence[str]]], rng: random.Random) -> list[str]:
    words: list[str] = []
    used: set[tuple[str, int]] = set()
    for item in template:
        if item not in lists:
            words.append(item)
            continue
        weights = [0.0 if (item, rank) in used else 1 / (rank + 3) for rank in range(len(lists[item]))]
        rank = rng.choices(range(len(weights)), weights)[0]
        used.add((item, rank))
        words.extend(lists[item][rank])
    return words


def draws(source: Source, seed: int, *, without: frozenset[str] = frozenset(), distinct: bool = False) -> Iterator[str]:
    """An endless stream of sentences: none of `without`, and none twice if `distinct`; KdError when no draw gives a new one."""
    rng = random.Random(seed)
    seen = set(without)
    while True:
        new = next((s for s in (draw(source, rng) for _ in range(MAX_DRAWS + 1)) if s not in seen), None)
        if new is None:
            raise KdError(f"embedded.yaml: only {len(seen)} different sentences were found; ask for fewer utterances")
        if distinct:
            seen.add(new)
        yield new
