"""The posterior dump: what a language model expects at each unit of each aligned utterance.

In: per utterance the unit segments and the teacher's distributions over units. Out: a folder with
``shard-00000.safetensors`` ... (a fixed number of utterances each), ``index.jsonl`` (id -> shard and rows) and
``meta.json`` (teacher, unit table, alignment, temperature, what was kept, a sha256 a shard), read by ``PosteriorDump``.

One row stands for one unit, that is for all the frames of its segment; frames of silence have none. Log-probabilities
are natural logs in float16 (relative error below 0.05%); whole numbers take the smallest type that holds them.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.ali.store import Segments
from kdtool.core.errors import KdError
from kdtool.posteriors.truncate import Kept

FORMAT = "kdtool posteriors 1"
INDEX_FILE, META_FILE = "index.jsonl", "meta.json"
_ARRAYS = {"unit_ids", "gap", "length", "counts", "rest_logp", "ids", "logp"}


@dataclass
class UnitPosteriors:
    """One utterance: N units, M kept entries.

    ``unit_ids``, ``start``, ``length`` int32 (N,): the unit itself and its 10 ms frames in the original utterance.
    Entries ``offsets[i]:offsets[i + 1]`` of ``ids`` int32 (M,) and ``logp`` float32 (M,) are the kept units of row i
    and their log-probabilities (nats), the likeliest first; ``rest_logp`` float32 (N,) is the log mass of all units
    not kept, -inf where none is left.
    """

    unit_ids: np.ndarray
    start: np.ndarray
    length: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray
    logp: np.ndarray
    rest_logp: np.ndarray

    def __len__(self) -> int:
        return len(self.unit_ids)

    def padded(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids int64 (N, k) padded with 0, logp float32 (N, k) padded with -inf): the k likeliest entries of each row.

        What a row holds beyond k is cut off and not added to ``rest_logp``: ask for ``k >= most_kept`` to lose nothing.
        """
        counts = np.minimum(np.diff(self.offsets), k)
        columns = np.arange(k)
        filled = columns < counts[:, None]
        source = (self.offsets[:-1, None] + columns)[filled]
        ids = np.zeros((len(self), k), dtype=np.int64)
        logp = np.full((len(self), k), -np.inf, dtype=np.float32)
        ids[filled], logp[filled] = self.ids[source], self.logp[source]
        return ids, logp

    @property
    def most_kept(self) -> int:
        """The largest number of entries a row holds (0 without units)."""
        return int(np.diff(self.offsets).max(initial=0))


def write_shard(path: Path, utterances: Iterable[tuple[str, Segments, Kept]]) -> list[dict[str, Any]]:
    """Write some utterances to one shard; returns their index rows (without the shard's number)."""
    from kdtool.core.tensors import save_tensors

    rows: list[dict[str, Any]] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in sorted(_ARRAYS)}
    first = entry = 0
    for utterance, segments, kept in utterances:
        if not len(segments) == len(kept.counts) == len(kept.rest_logp):
            raise KdError(f"{utterance}: {len(segments)} units, {len(kept.counts)} posteriors; this is a bug, please report it")
        end = segments.start + segments.length
        gap = segments.start - np.concatenate([[0], end[:-1]])
        if np.any(gap < 0):
            raise KdError(f"{utterance}: unit {int(np.argmax(gap < 0))} starts before the one before it ends; align again")
        parts = (segments.ids, gap, segments.length, kept.counts, kept.rest_logp, kept.ids, kept.logp)
        for name, part in zip(("unit_ids", "gap", "length", "counts", "rest_logp", "ids", "logp"), parts, strict=True):
            columns[name].append(part)
        rows.append({"id": utterance, "first": first, "units": len(segments), "entry": entry, "entries": len(kept.ids)})
        first, entry = first + len(segments), entry + len(kept.ids)
    arrays = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in columns.items()}
    floats = {"rest_logp", "logp"}
    save_tensors(path, {n: a.astype(np.float16) if n in floats else _narrow(a) for n, a in arrays.items()})
    return rows


def _narrow(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest unsigned type that holds them."""
    top = int(values.max(initial=0))
    kind = next(t for t in (np.uint8, np.uint16, np.uint32, np.uint64) if top <= np.iinfo(t).max)
    return values.astype(kind)


def sha256(path: Path) -> str:
    """sha256 of a file's content, 64 hex digits; KdError when there is no such file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as f:
            while block := f.read(1 << 20):
                digest.update(block)
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; make {Path(path).parent} again") from e
    return digest.hexdigest()


def finish_dump(folder: Path, shards: Sequence[tuple[str, list[dict[str, Any]]]], meta: dict[str, Any]) -> dict[str, Any]:
    """Write index and meta over shards that are in ``folder``; returns the completed meta.

    Args:
        shards: (file name, its index rows) in order.
        meta: what is known of teacher, units and alignment; counts and checksums are added.
    """
    from kdtool.core.tables import write_json, write_jsonl

    folder = Path(folder)
    rows = [{**row, "shard": number} for number, (_, rows) in enumerate(shards) for row in rows]
    if len({row["id"] for row in rows}) != len(rows):
        raise KdError(f"{folder}: an utterance comes twice among {len(rows)}; make the ids unique and align again")
    files = [{"file": n, "sha256": sha256(folder / n), "bytes": (folder / n).stat().st_size} for n, _ in shards]
    meta = {
        **meta, "format": FORMAT, "shards": files, "bytes": sum(f["bytes"] for f in files), "utterances": len(rows),
        "units": sum(r["units"] for r in rows), "entries": sum(r["entries"] for r in rows),
    }  # fmt: skip
    write_jsonl(folder / INDEX_FILE, rows)
    meta["index_sha256"] = sha256(folder / INDEX_FILE)
    write_json(folder / META_FILE, meta)
    return meta


class PosteriorDump:
    """A dump on disk, by the id of the original utterance. Shards are checked against their sha256 when first read."""

    def __init__(self, folder: Path, meta: dict[str, Any], rows: list[dict[str, Any]], cache: int) -> None:
        self.folder, self.meta, self.rows = folder, meta, rows
        self.unit: str = meta["unit"]
        self.num_units: int = meta["num_units"]
        self.ids: list[str] = [row["id"] for row in rows]
        self._rows = {row["id"]: row for row in rows}
        self._cache_size = cache
        self._cache: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()

    @classmethod
    def open(
        cls, folder: Path | str, *, units_digest: str | None = None, alignment_digest: str | None = None, cache: int = 1024
    ) -> PosteriorDump:
        """Open a dump.

        Args:
            units_digest: digest of the reader's own unit table (``kdtool.units.table.units_digest``).
            alignment_digest: digest of the reader's own alignment (``AlignmentSet.digest``).
            cache: shards kept in memory.

        Raises:
            KdError: not a dump, or made for other units or another alignment (both digests are named).
        """
        from kdtool.core.tables import read_json, read_jsonl

        folder = Path(folder)
        meta = read_json(folder / META_FILE)
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise KdError(f"{folder / META_FILE} does not describe a dump of this version ({FORMAT}); dump again")
        for what, wanted in (("units_digest", units_digest), ("alignment_digest", alignment_digest)):
            if wanted is not None and meta[what] != wanted:
                raise KdError(
                    f"{folder} was dumped for {what.replace('_digest', '')} {meta[what][:16]}, yours is {wanted[:16]}; "
                    "dump this teacher again for your alignment (steps/dump_posteriors.sh)"
                )
        rows = list(read_jsonl(folder / INDEX_FILE))
        units = sum(r.get("units", 0) for r in rows)
        if len(rows) != meta["utterances"] or units != meta["units"]:
            raise KdError(
                f"{folder}: {INDEX_FILE} lists {len(rows)} utterances and {units} units, "
                f"{META_FILE} {meta['utterances']} and {meta['units']}; dump again"
            )
        if (said := meta.get("index_sha256")) not in (None, found := sha256(folder / INDEX_FILE)):
            raise KdError(f"{folder / INDEX_FILE}: sha256 is {found}, {META_FILE} says {said}; the file changed: dump again")
        return cls(folder, meta, rows, cache)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._rows

    def get(self, source_id: str) -> UnitPosteriors:
        """The posteriors of one utterance.

        Raises:
            KdError: an utterance that the dump does not have, or a shard that is not what was written.
        """
        row = self._rows.get(source_id)
        if row is None:
            raise KdError(f"{self.folder} has no posteriors of {source_id}; see dropped.tsv there, or dump its alignment")
        shard = self._shard(row["shard"])
        units = slice(row["first"], row["first"] + row["units"])
        entries = slice(row["entry"], row["entry"] + row["entries"])
        length = shard["length"][units].astype(np.int32)
        end = np.cumsum(shard["gap"][units].astype(np.int32) + length, dtype=np.int32)
        return UnitPosteriors(
            unit_ids=shard["unit_ids"][units].astype(np.int32),
            start=end - length,
            length=length,
            offsets=np.concatenate([[0], np.cumsum(shard["counts"][units], dtype=np.int64)]),
            ids=shard["ids"][entries].astype(np.int32),
            logp=shard["logp"][entries].astype(np.float32),
            rest_logp=shard["rest_logp"][units].astype(np.float32),
        )

    def verify(self) -> None:
        """Check every shard; KdError names the first bad one."""
        for number in range(len(self.meta["shards"])):
            self._shard(number)

    def _shard(self, number: int) -> dict[str, np.ndarray]:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        from kdtool.core.tensors import load_tensors

        entry = self.meta["shards"][number]
        path = self.folder / entry["file"]
        found = sha256(path)
        if found != entry["sha256"]:
            raise KdError(f"{path}: sha256 is {found}, {META_FILE} says {entry['sha256']}; the file changed: dump again")
        shard = load_tensors(path)
        if set(shard) != _ARRAYS:
            raise KdError(f"{path} holds {sorted(shard)}, not {sorted(_ARRAYS)}; dump again")
        self._cache[number] = shard
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return shard
