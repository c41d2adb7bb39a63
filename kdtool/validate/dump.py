"""A posterior dump: shards, index.jsonl.gz, meta.json, dropped.tsv.

DOOR checks the tables and the shards' sizes; FULL reads the first shard; DEEP reads and checksums all of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.findings import UNREADABLE, Class, Level, Report
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.posteriors.dump import INDEX_FILE, META_FILE, PosteriorDump, UnitPosteriors
from kdtool.units.table import units_digest
from kdtool.validate.checks import BROKEN, BROKEN_CLASS, check_repeated, check_same, dropped_ids, is_sound

AGAIN = "dump this teacher again (steps/dump_posteriors.sh)"
CLASSES = {
    UNREADABLE: Class("files that are missing, damaged, or do not fit each other", AGAIN),
    BROKEN: BROKEN_CLASS,
    "duplicate-id": Class("an utterance that occurs more than once", AGAIN),
    "shard": Class("a shard that is missing, of another size, or with another checksum than meta.json says", AGAIN),
    "unit": Class("a unit outside of the unit table", AGAIN),
    "log-probability": Class("a log-probability above 0, or NaN", AGAIN),
    "mass": Class("a posterior that does not sum to 1 with its rest", AGAIN),
    "nothing-kept": Class("a unit whose posterior keeps nothing", AGAIN),
    "segment": Class("units that pass the end of the alignment; in a dump of rows by frame also frames without a row", AGAIN),
    "alignment": Class("a dump of another alignment", "dump this teacher again for this alignment"),
    "units-table": Class("a dump over other units than the lang folder's or the tree's", "train this teacher again with this lang and GMM"),
    "unaccounted": Class("an aligned utterance with neither posteriors nor a reason in dropped.tsv", AGAIN),
}
OTHERS = {
    "ali": "alignment folder that it was dumped for",
    "lang": "lang folder of its units",
    "gmm": "GMM folder with the tree, for senones",
}
ROW = {"id": (str,), "units": (int,), "shard": (int,)}
SLACK = 5e-3  # float16 rounds a log-probability by up to 0.05%


def check(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    """Check a dump."""
    dump = PosteriorDump.open(folder)
    what = f"rows by frame over {dump.num_units} {dump.unit}s" if dump.per_frame else f"{dump.unit}s of {dump.num_units}"
    report.summary = f"{len(dump)} utterances, {dump.meta['units']} {what}, {len(dump.meta['shards'])} shards"
    for row in dump.rows:
        is_sound(row, ROW, str(row.get("id")), folder / INDEX_FILE, report)
    check_repeated(report, dump.ids, folder / INDEX_FILE)
    for shard in dump.meta["shards"]:
        path = folder / shard["file"]
        size = path.stat().st_size if path.is_file() and path.parent == folder else -1
        if size != shard["bytes"]:
            report.add("shard", shard["file"], path, "not there" if size < 0 else f"{size} bytes", f"{shard['bytes']} bytes")
    # FULL reads the first shard only.
    rows = [row for row in dump.rows if level == Level.DEEP or row["shard"] == 0] if level > Level.DOOR and not report.problems else []
    _check_content(report, dump, rows)
    _check_others(report, dump, rows, others)


def _check_content(report: Report, dump: PosteriorDump, rows: list[dict[str, Any]]) -> None:
    broken: set[int] = set()
    for row in rows:
        if row["shard"] in broken:
            continue
        path = dump.folder / dump.meta["shards"][row["shard"]]["file"]
        try:
            post = dump.get(row["id"])
        except (KdError, ValueError, KeyError, IndexError) as e:  # arrays that cannot be unpacked
            broken.add(row["shard"])
            report.add("shard", path.name, path, str(e))
            continue
        _check_posteriors(report, row["id"], post, dump.num_units, path)
        before = np.concatenate([[0], (post.start + post.length)[:-1]])[: len(post)]
        if dump.per_frame and (gaps := post.start != before).any():
            first = int(gaps.argmax())
            report.add("segment", f"{row['id']}, row {first}", path, f"starts at frame {post.start[first]}", f"{before[first]}")


def _check_posteriors(report: Report, name: str, post: UnitPosteriors, num_units: int, path: Path) -> None:
    counts = np.diff(post.offsets)
    top = max(int(post.unit_ids.max(initial=-1)), int(post.ids.max(initial=-1)))
    if top >= num_units or min(post.unit_ids.min(initial=0), post.ids.min(initial=0)) < 0:
        report.add("unit", name, path, top, f"below {num_units}")
    if len(post) and (counts < 1).any():
        report.add("nothing-kept", name, path, f"{int((counts < 1).sum())} units")
        return
    logs = np.concatenate([post.logp, post.rest_logp])
    if np.isnan(logs).any() or (logs > SLACK).any():
        report.add("log-probability", name, path, f"up to {logs.max()}", "at most 0")
    elif len(post):
        mass = np.add.reduceat(np.exp(post.logp.astype(np.float64)), post.offsets[:-1]) + np.exp(post.rest_logp.astype(np.float64))
        if (bad := np.abs(mass - 1) > SLACK).any():
            unit = int(bad.argmax())
            report.add("mass", f"{name}, unit {unit}", path, f"{mass[unit]:.4f}; {int(bad.sum())} of {len(mass)} units", "1")


def _check_others(report: Report, dump: PosteriorDump, rows: list[dict[str, Any]], others: Mapping[str, Path]) -> None:
    meta = dump.folder / META_FILE
    tree = Tree.load(others["gmm"]) if "gmm" in others else None
    lang = Lang.load(others["lang"]) if "lang" in others else None
    if (tree if dump.unit == "senone" else lang) is not None:
        check_same(report, "units-table", meta, dump.meta["units_digest"], units_digest(dump.unit, lang, tree))  # type: ignore[arg-type]
    if "ali" not in others:
        return
    alignments = AlignmentSet.open(others["ali"])
    if dump.meta["alignment_digest"] != alignments.digest and not (dump.per_frame and not dump.meta["alignment_digest"]):
        check_same(report, "alignment", meta, dump.meta["alignment_digest"], alignments.digest)
        return
    dropped = dropped_ids(dump.folder)
    for name in alignments.ids:
        if name not in dump and name not in dropped:
            report.add("unaccounted", name, others["ali"], "no posteriors", "some, or a reason in dropped.tsv")
    if report.problems:
        return
    # An utterance's rows must not pass its end; rows by frame must reach it.
    for row in (row for row in rows if row["id"] in alignments):
        post, frames = dump.get(row["id"]), alignments.get(row["id"]).num_frames
        end = int((post.start + post.length).max(initial=0))
        if end > frames or (dump.per_frame and end < frames):
            report.add("segment", row["id"], dump.folder, f"its rows end at frame {end}", f"{'' if dump.per_frame else 'at most '}{frames}")
