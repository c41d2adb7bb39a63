"""Files and words that look wrong.  In: a job's evidence (fit.py), the aligned files.  Out: their fit; table columns; a summary.
A file or a word looks wrong when its fit is below LOOKS_WRONG. With an adapted triphone model this happens for about 1 in 100 words and
up to 3 in 100 files with a correct transcript (utils/README.md; tests/bench/bench_confidence.py measures it).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdtool.aligner.times import Aligned, Doubt
from kdtool.core.tables import read_lines
from kdtool.features.store import FRAME_SHIFT

LOOKS_WRONG = 0.5
NAMED = 5  # files named in the summary
MOST_WORDS = 12  # words of a stretch that are printed
COLUMNS = ("llr_per_frame", "fit", "doubtful_words", "worst_start", "worst_end", "worst_words", "heard")


def add_fit(aligned: Aligned, row: dict[str, Any], phone_names: Sequence[str]) -> None:
    """Add a job's evidence to an utterance and its words, in place."""
    judged = row["fit"]
    for word, one in zip(aligned.words, judged["words"], strict=True):
        word.llr, word.fit, word.heard = round(one["llr"], 3), round(one["fit"], 4), _names(one["heard"], phone_names)
    aligned.llr, aligned.fit = round(judged["llr"], 4), round(judged["fit"], 4)
    start, stop = judged["start"], judged["stop"]
    touched = [w.label for w, p in zip(aligned.words, row["words"], strict=True) if p["start"] < stop and p["start"] + p["length"] > start]
    aligned.doubt = Doubt(
        min(round(start * FRAME_SHIFT, 3), aligned.duration), min(round(stop * FRAME_SHIFT, 3), aligned.duration),
        " ".join(touched), _names(judged["heard"], phone_names), judged["exchanged"] >= 0,
    )  # fmt: skip


def _names(phones: Sequence[int], names: Sequence[str]) -> str:
    return " ".join(names[p] for p in phones)


def doubtful(fit: float) -> bool:
    """Whether this fit looks wrong."""
    return fit < LOOKS_WRONG


def ranked(files: Sequence[Aligned]) -> list[Aligned]:
    """Files, worst fit first."""
    return sorted(files, key=lambda a: (a.fit, a.llr, a.name))


def fields(one: Aligned) -> list[str]:
    """Values of COLUMNS; the last four are empty unless the file looks wrong."""
    d = one.doubt if doubtful(one.fit) else None
    worst = [f"{d.start:.2f}", f"{d.end:.2f}", d.words, d.heard] if d else [""] * 4
    return [f"{one.llr:.3f}", f"{one.fit:.4f}", str(sum(doubtful(w.fit) for w in one.words)), *worst]


def say_doubts(out: Path) -> None:
    """Print how many files and words look wrong and name the worst; reads files.tsv, so it also works on a finished output."""
    head, *lines = [line.split("\t") for line in read_lines(out / "files.tsv")]
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    wrong = sorted((r for r in rows if doubtful(float(r["fit"]))), key=lambda r: (float(r["fit"]), float(r["llr_per_frame"])))
    words, all_words = (sum(int(r[name]) for r in rows) for name in ("doubtful_words", "words"))
    said = f"align: {len(wrong)} of {len(rows)} files and {words} of {all_words} words look wrong (fit below {LOOKS_WRONG:g})"
    print(said + ("; the worst:" if wrong else ""), file=sys.stderr)
    for row in wrong[:NAMED]:
        said = repr(_short(row["worst_words"])) if row["worst_words"] else "no word"
        print(f"  {row['file']}: fit {row['fit']}; {row['worst_start']} to {row['worst_end']} s, {said}: heard {_short(row['heard'])}",
              file=sys.stderr)  # fmt: skip
    if len(wrong) > max(NAMED, len(rows) / 2):
        print("  most files look wrong: was the model trained on this language and this kind of audio?", file=sys.stderr)


def _short(text: str) -> str:
    """The first and the last words of a long text."""
    words = text.split()
    half = MOST_WORDS // 2
    return text if len(words) <= MOST_WORDS else " ".join([*words[:half], "..", *words[-half:]])
