"""Candidate word sequences of each utterance with their cost parts, the result of a search for tuning and scoring.

On disk ``candidates.tsv.gz``: utterance, acoustic, prior, graph, count, rescored LM ('-' if none), words. The total at
any scales is linear in the parts, so this file suffices to tune scales:
total = acoustic - prior_scale * prior + lm_scale * (graph or rescored) + penalty * count, natural logs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text

FILE = "candidates.tsv.gz"


@dataclass
class Candidate:
    """One word sequence with one alignment. ``parts`` (4,): acoustic, prior, graph, count; ``rescored``: other LM's score."""

    words: tuple[str, ...]
    parts: np.ndarray
    rescored: float | None = None


def write_candidates(path: Path, rows: Iterable[tuple[str, list[Candidate]]]) -> None:
    """Write all utterances' candidates, in the given order."""
    with open_text(path, "w") as f:
        for utterance, candidates in rows:
            for c in candidates:
                numbers = [f"{x:.4f}" for x in c.parts[:3]] + [str(int(c.parts[3]))]
                other = "-" if c.rescored is None else f"{c.rescored:.4f}"
                f.write("\t".join([utterance, *numbers, other, " ".join(c.words)]) + "\n")


def read_candidates(path: Path) -> dict[str, list[Candidate]]:
    """Utterance -> candidates; a malformed line is a KdError with its number."""
    result: dict[str, list[Candidate]] = {}
    with open_text(path) as f:
        for number, line in enumerate(f, 1):
            fields = line.rstrip("\n").split("\t")
            try:
                utterance, *numbers, other, words = fields
                parts = np.array([float(n) for n in numbers])
                rescored = None if other == "-" else float(other)
                if len(parts) != 4:
                    raise ValueError(f"{len(parts)} numbers")
            except ValueError as e:
                raise KdError(f"{path}, line {number}: malformed ({e}); decode again") from e
            result.setdefault(utterance, []).append(Candidate(tuple(words.split()), parts, rescored))
    return result


def best(candidates: list[Candidate], weights: np.ndarray, *, use_rescored: bool) -> np.ndarray:
    """Index of the best candidate under each row of ``weights`` (G, 4); ties: the first. Returns int64 (G,)."""
    parts = np.stack([c.parts for c in candidates])
    if use_rescored:
        if any(c.rescored is None for c in candidates):
            raise KdError("candidates without a rescored LM score; decode again with --rescore-lm")
        parts[:, 2] = [c.rescored for c in candidates]
    return np.argmax(np.round(parts @ weights.T, 4), axis=0)
