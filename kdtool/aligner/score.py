"""Boundary errors of an alignment.  In: true times, a folder of `kdtool align`.  Out: a table, JSON.

True times: JSON lines {"id", "words": [[word, start, end] ..], "phones": [[phones, start, end] ..]} in seconds; None where the
truth is not known; an entry of several phones says nothing about the boundaries inside it. Files or a folder of *.jsonl.
Scored are the start and the end of every word, and of every phone that the alignment has at the same place (by edit distance:
the lexicon may differ from what the speaker said).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.own_file import check_file, write_own_text
from kdtool.core.tables import json_text, read_json, read_jsonl

Span = tuple[str, float | None, float | None]
WITHIN = (10, 20, 30, 50)


@dataclass(frozen=True)
class Config:
    """Options."""

    json: Path | None = field(default=None, metadata={"help": "write the figures to this file too"})


def match(truth: Sequence[str], found: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of equal symbols in a best alignment of two sequences (edit distance)."""
    rows, columns = len(truth) + 1, len(found) + 1
    cost = [[i + j if not i or not j else 0 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            changed = cost[i - 1][j - 1] + (truth[i - 1] != found[j - 1])
            cost[i][j] = min(changed, cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    pairs, i, j = [], rows - 1, columns - 1
    while i and j:
        if cost[i][j] == cost[i - 1][j - 1] + (truth[i - 1] != found[j - 1]):
            i, j = i - 1, j - 1
            pairs += [(i, j)] * (truth[i] == found[j])
        elif cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def errors(truth: Sequence[Span], found: Sequence[Span]) -> list[float]:
    """Found minus true time, seconds, for starts and ends of the matching entries that have a true time."""
    pairs = match([t[0] for t in truth], [f[0] for f in found])
    return [f - t for i, j in pairs for t, f in ((truth[i][1], found[j][1]), (truth[i][2], found[j][2])) if t is not None and f is not None]


def single_phones(entries: Iterable[Sequence[Any]]) -> list[Span]:
    """Split entries of several phones: only the outer times are known."""
    out: list[Span] = []
    for names, start, end in entries:
        parts = names.split()
        out += [(p, start if n == 0 else None, end if n == len(parts) - 1 else None) for n, p in enumerate(parts)]
    return out


def figures(values: Sequence[float]) -> dict[str, float]:
    """Count; mean and median absolute error, 90th percentile, mean signed error, milliseconds; percent within 10 to 50 ms."""
    import numpy as np

    off = 1000.0 * np.asarray(values, dtype=np.float64)
    if not len(off):
        raise KdError("no boundary of the alignment has a true time; do the truth's ids and words match the files' names and texts?")
    size = np.abs(off)
    shares = {f"within_{n}ms": round(100 * float((size <= n + 1e-6).mean()), 2) for n in WITHIN}
    return {"boundaries": len(off), "mean": round(float(size.mean()), 2), "median": round(float(np.median(size)), 2),
            "p90": round(float(np.quantile(size, 0.9)), 2), "bias": round(float(off.mean()), 2), **shares}  # fmt: skip


def read_truth(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """True times by id."""
    rows = [row for p in paths for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p]) for row in read_jsonl(f)]
    if not rows:
        raise KdError(f"{', '.join(map(str, paths))}: no true times (*.jsonl) there; check the path")
    return {row["id"]: row for row in rows}


def compare(folder: Path, truth: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Figures of words and of phones over all files that have both; KdError when an aligned file has no truth."""
    words, phones = list[float](), list[float]()
    files = sorted((folder / "json").rglob("*.json"))
    if not files:
        raise KdError(f"{folder}: no alignment there (json/ is empty or missing); name a folder of kdtool align")
    for file in files:
        name, found = file.relative_to(folder / "json").with_suffix("").as_posix(), read_json(file)
        true = truth.get(name) or truth.get(file.stem)
        if true is None:
            raise KdError(f"{file}: the truth has no entry for {name}; give the truth of these files")
        words += errors([(w.upper(), s, e) for w, s, e in true["words"]], [(w["key"], w["start"], w["end"]) for w in found["words"]])
        phones += errors(single_phones(true["phones"]), [(p["label"], p["start"], p["end"]) for p in found["phones"] if not p["silence"]])
    return {"words": figures(words), "phones": figures(phones)}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    positionals = [("aligned", "folder of kdtool align"), ("truth...", "true times: *.jsonl files or their folder")]
    paths, cfg, _ = parse_args(Config, positionals, argv, prog="kdtool boundary-error", description=__doc__ or "")
    if cfg.json:
        check_file(cfg.json)
        if any(cfg.json.resolve() in (p.resolve(), *(f.resolve() for f in p.glob("*.jsonl"))) for p in paths["truth"]):
            raise UsageError(f"--json {cfg.json}: is an input, the true times; choose another name")
    result = compare(paths["aligned"], read_truth(paths["truth"]))
    rows = [["", *result["words"]], *([kind, *(f"{value:g}" for value in row.values())] for kind, row in result.items())]
    print("\n".join("\t".join(row) for row in rows).expandtabs(13))
    if cfg.json:
        write_own_text(cfg.json, json_text(result))


if __name__ == "__main__":
    cli_main(main)
