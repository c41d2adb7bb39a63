"""Frames to seconds.  In: words and phones in frames, the exact duration.  Out: intervals that cover the file exactly.

Frame t stands for the 10 ms from 10 t to 10 t + 10 ms: its 25 ms window is centred there (see kdtool.features.job), and
the derivatives reach equally far on both sides, so the boundary between frames t - 1 and t lies at 10 t ms, without correction
(for silence see refine.py). The end of the audio may shorten the last frame, or stretch it by less than half a frame.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kdtool.core.errors import KdError
from kdtool.features.store import FRAME_SHIFT

# Fit below which a file or a word looks wrong. With an adapted triphone model this happens for about 1 in 100 words and up to 3 in 100
# files with a correct transcript (utils/README.md; tests/bench/bench_confidence.py measures it).
LOOKS_WRONG = 0.5


@dataclass
class Interval:
    """A word, phone or HMM state; seconds; confidence 0 to 1; log-likelihood per frame in nats.

    `word`: for a phone, the word's place in the text, -1 for silence; `key`: for a word, its form in the lexicon; `llr`, `fit`,
    `heard`: for a word, as in `fit.WordFit`, phones by name.
    """

    label: str
    start: float
    end: float
    confidence: float
    loglike: float
    word: int = -1
    key: str = ""
    llr: float = 0.0
    fit: float = 1.0
    heard: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the word looks wrong."""
        return self.fit < LOOKS_WRONG


@dataclass(frozen=True)
class Doubt:
    """The worst fit in an utterance: seconds, its words, the phones recognised there; whether two words look exchanged."""

    start: float
    end: float
    words: str
    heard: str
    exchanged: bool


@dataclass
class Aligned:
    """One utterance: a file, or a part of a longer recording. `llr`, `fit`: as in `fit.TextFit`.

    `phones` (and `states`) cover 0 to `duration` without gap; between `words` there may be silence.
    """

    name: str
    audio: str
    duration: float
    words: list[Interval]
    phones: list[Interval]
    states: list[Interval] = field(default_factory=list)
    loglike: float = 0.0
    llr: float = 0.0
    fit: float = 1.0
    doubt: Doubt | None = None

    @property
    def wrong(self) -> Doubt | None:
        """The worst fit of a file that looks wrong."""
        return self.doubt if self.fit < LOOKS_WRONG else None

    @property
    def wrong_words(self) -> int:
        """Number of words that look wrong."""
        return sum(w.wrong for w in self.words)

    @property
    def confidence(self) -> float:
        """Mean over words, weighted by length; 1 for a file of silence."""
        total = sum(w.end - w.start for w in self.words)
        return sum(w.confidence * (w.end - w.start) for w in self.words) / total if total else 1.0

    def check(self) -> None:
        """KdError unless times rise, nothing overlaps and nothing exceeds the file: a bug of ours otherwise."""
        for kind, items, whole in (("word", self.words, False), ("phone", self.phones, True), ("state", self.states, True)):
            last = 0.0
            for item in items:
                if not (last <= item.start < item.end <= self.duration) or (whole and item.start != last):
                    raise KdError(f"{self.name}: {kind} {item.label} at {item.start} to {item.end} s after {last} s, in {self.duration} s")
                last = item.end
            if whole and items and last != self.duration:
                raise KdError(f"{self.name}: {kind}s end at {last} s, the audio at {self.duration} s")


def to_aligned(
    row: dict[str, Any], name: str, audio: str, duration: float, words: Sequence[tuple[str, str]], phone_names: Sequence[str]
) -> Aligned:
    """A line of the job's output as intervals. words: (written, key) of each word of the text; duration: seconds, exact. Raises
    KdError: the path does not hold each word once, in order."""
    ids = [w["id"] for w in row["words"]]
    if ids != list(range(len(words))):
        raise KdError(f"{name}: the alignment says words {ids[:5]}.. of {len(words)}; this is a bug, please report it")
    edge, phones, judged = row["edges"], row["phones"], row["fit"]  # phone n lies from edge[n] to edge[n + 1]
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for n, phone in enumerate(phones):
        first.setdefault(phone["word"], n)
        last[phone["word"]] = n

    def interval(label: str, piece: dict[str, Any], start: float, end: float, **more: Any) -> Interval:
        return Interval(label, start, end, round(piece["confidence"], 4), round(piece["loglike"], 3), **more)

    def heard(ids: Sequence[int]) -> str:
        return " ".join(phone_names[p] for p in ids)

    start, stop = judged["start"], judged["stop"]
    touched = [words[w["id"]][0] for w in row["words"] if w["start"] < stop and w["start"] + w["length"] > start]
    aligned = Aligned(
        name, audio, duration,
        [interval(label, piece, edge[first[n]], edge[last[n] + 1], key=key, llr=round(one["llr"], 3), fit=round(one["fit"], 4),
                  heard=heard(one["heard"]))
         for n, ((label, key), piece, one) in enumerate(zip(words, row["words"], judged["words"], strict=True))],
        [interval(phone_names[p["id"]], p, edge[n], edge[n + 1], word=p["word"]) for n, p in enumerate(phones)],
        loglike=round(row["loglike"] / row["frames"], 4), llr=round(judged["llr"], 4), fit=round(judged["fit"], 4),
        doubt=Doubt(min(round(start * FRAME_SHIFT, 3), duration), min(round(stop * FRAME_SHIFT, 3), duration), " ".join(touched),
                    heard(judged["heard"]), judged["exchanged"] >= 0),
    )  # fmt: skip
    for n, piece in enumerate(phones):
        inner = _inner_edges(piece["states"], edge[n], edge[n + 1])
        aligned.states += [
            interval(f"{phone_names[piece['id']]}_{number}", piece, start, end, word=piece["word"])
            for number, (start, end) in enumerate(itertools.pairwise(inner))
            if end > start  # a path may leave a state out only in topologies that allow it
        ]
    aligned.check()
    return aligned


def _inner_edges(lengths: Sequence[int], start: float, end: float) -> list[float]:
    """Divide a phone's time among its states in proportion to their frames; a moved edge of the phone stretches them."""
    total = sum(lengths)
    return [start, *(end if done == total else round(start + (end - start) * done / total, 6) for done in itertools.accumulate(lengths))]
