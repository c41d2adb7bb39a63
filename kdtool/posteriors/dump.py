"""The posterior dump: a teacher's distribution for each unit (or frame) of each utterance.

In: per utterance the unit segments and the teacher's distributions over units. Out: a folder with ``coder.safetensors``,
``shard-00000.safetensors`` ... (a fixed number of utterances each), ``index.jsonl.gz`` (id -> shard and number of units) and
``meta.json`` (teacher, unit table, alignment, temperature, kept and lost mass, a sha256 per file), read by ``PosteriorDump``.

One row covers one unit, that is all the frames of its segment, and frames of silence have no row (meta.json: rows "unit"); or
one frame, silence included (rows "frame", one every ``frame_shift`` seconds). ``kdtool.posteriors.codec`` codes the rows.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json, read_jsonl, write_json, write_jsonl
from kdtool.core.tensors import load_tensors, save_tensors
from kdtool.formats.alignment import Segments
from kdtool.posteriors.codec import Coder, Levels, before_units, pack, unpack

FORMAT = "kdtool posteriors 3"
UNIT, FRAME = "unit", "frame"  # what a row covers
INDEX_FILE, META_FILE, CODER_FILE = "index.jsonl.gz", "meta.json", "coder.safetensors"
_ARRAYS = {"rank", "gap", "length", "counts", "rest", "words", "others"}


@dataclass
class UnitPosteriors:
    """One utterance: N units, M kept entries.

    ``unit_ids``, ``start``, ``length`` int32 (N,): the unit itself and its 10 ms frames in the original utterance. In a dump of rows by
    frame the unit is the label that the writer gave the row, by default the likeliest one. Entries ``offsets[i]:offsets[i + 1]`` of ``ids``
    int32 (M,) and ``logp`` float32 (M,) are the kept units of row i and their log-probabilities (nats), the likeliest first; ``rest_logp``
    float32 (N,) is the log mass of all units not kept, -inf if none is left.
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

    @property
    def end(self) -> int:
        """The 10 ms frame after the last one that has a row."""
        return int((self.start + self.length).max(initial=0))

    def dense(self, num_units: int) -> np.ndarray:
        """Log-probabilities float32 (N, num_units), each row summing to one: the rest is spread evenly over units not kept."""
        left = num_units - np.diff(self.offsets)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(left > 0, self.rest_logp - np.log(left), -np.inf)
        out = np.repeat(share.astype(np.float32)[:, None], num_units, axis=1)
        out[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.ids] = self.logp
        return out

    def frame_rows(self, num_frames: int, name: str) -> np.ndarray:
        """Row of each 10 ms frame, int32 (num_frames,), -1 without a unit; KdError, naming ``name``, when the units exceed the frames."""
        frames = np.full(num_frames, -1, dtype=np.int32)
        if self.end > num_frames:
            raise KdError(f"{name} ends at frame {self.end} of {num_frames}: the dump is of other audio; dump again")
        begin = np.cumsum(self.length) - self.length
        frames[np.repeat(self.start - begin, self.length) + np.arange(self.length.sum())] = np.repeat(np.arange(len(self)), self.length)
        return frames

    def dense_frames(self, num_units: int, rows: np.ndarray, dtype: Any) -> np.ndarray:
        """Log-probabilities (T, V) of frames with these ``rows`` (-1 for none: all -inf)."""
        table = np.concatenate([self.dense(num_units), np.full((1, num_units), -np.inf, np.float32)]).astype(dtype)
        return table[rows]  # type: ignore[no-any-return]


def write_shard(path: Path, coder: Coder, utterances: Iterable[tuple[str, Segments, Levels]]) -> list[dict[str, Any]]:
    """Write some utterances to one shard; returns their index rows (without the shard's number)."""
    rows: list[dict[str, Any]] = []
    # Start with zero units, so that a shard whose utterances were all dropped has no rows.
    none = np.zeros(0, np.int32)
    parts: list[tuple[np.ndarray, ...]] = [(none, none, none, none, np.zeros((0, coder.num_units), coder.level_type), np.zeros(0))]
    for utterance, segments, levels in utterances:
        if not len(segments) == len(levels.level) == len(levels.left):
            raise KdError(f"{utterance}: {len(segments)} units, {len(levels.level)} posteriors; this is a bug, please report it")
        end = segments.start + segments.length
        gap = segments.start - np.concatenate([[0], end[:-1]])
        if np.any(gap < 0):
            raise KdError(f"{utterance}: unit {int(np.argmax(gap < 0))} starts before the one before it ends; align again")
        before = before_units(segments.ids, coder.num_units)
        parts.append((coder.ranks(segments.ids, before), gap, segments.length, before, levels.level, levels.left))
        rows.append({"id": utterance, "units": len(segments), "entries": int((levels.level > 0).sum())})
    rank, gap, length, before, level, left = (np.concatenate(p) for p in zip(*parts, strict=True))
    save_tensors(path, {"rank": pack(rank), "gap": pack(gap), "length": pack(length), **coder.encode(Levels(level, left), before)})
    return rows


def save_coder(folder: Path, coder: Coder) -> None:
    """Write the coder that all shards of a dump share."""
    save_tensors(Path(folder) / CODER_FILE, coder.tensors())


def dump_name(folder: Path) -> str:
    """The default name of a dump, after its teacher: exp/teacher_phone/post_train is teacher_phone."""
    return folder.parent.name if folder.name.startswith("post") and folder.parent.name else folder.name


def sha256(path: Path) -> str:
    """sha256 of a file's content, 64 hex digits; KdError if the file does not exist."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; make {Path(path).parent} again") from e


def finish_dump(folder: Path, shards: Sequence[tuple[str, list[dict[str, Any]]]], meta: dict[str, Any]) -> dict[str, Any]:
    """Write index and meta for the shards in ``folder``; returns the completed meta.

    Args:
        shards: (file name, its index rows) in order.
        meta: facts of teacher, units and alignment; counts and checksums are added.
    """
    folder = Path(folder)
    rows = [{**row, "shard": number} for number, (_, rows) in enumerate(shards) for row in rows]
    if len({row["id"] for row in rows}) != len(rows):
        raise KdError(f"{folder}: an utterance comes twice among {len(rows)}; make the ids unique and align again")
    write_jsonl(folder / INDEX_FILE, rows)
    files = [_file(folder, name) for name, _ in shards]
    coder, index = _file(folder, CODER_FILE), _file(folder, INDEX_FILE)
    meta = {
        **meta, "format": FORMAT, "shards": files, "coder": coder, "index": index,
        "bytes": sum(f["bytes"] for f in (*files, coder, index)), "utterances": len(rows),
        "units": sum(r["units"] for r in rows), "entries": sum(r["entries"] for r in rows),
    }  # fmt: skip
    write_json(folder / META_FILE, meta)
    return meta


def _file(folder: Path, name: str) -> dict[str, Any]:
    return {"file": name, "sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}


class PosteriorDump:
    """A dump on disk, by the id of the original utterance. Shards are checked against their sha256 when first read."""

    def __init__(self, folder: Path, meta: dict[str, Any], rows: list[dict[str, Any]], cache: int) -> None:
        self.folder, self.meta, self.rows = folder, meta, rows
        self.unit: str = meta["unit"]
        self.num_units: int = meta["num_units"]
        self.per_frame = meta.get("rows", UNIT) == FRAME
        self.ids: list[str] = [row["id"] for row in rows]
        self._rows = {row["id"]: row for row in rows}
        self._lengths: dict[int, list[int]] = {}
        for row in rows:
            before = self._lengths.setdefault(row["shard"], [])
            row["first"] = sum(before)
            before.append(row["units"])
        self._shard = lru_cache(cache)(self._read_shard)

    @classmethod
    def open(cls, folder: Path | str, *, alignment_digest: str | None = None, cache: int = 1024) -> "PosteriorDump":
        """Open a dump.

        Args:
            alignment_digest: digest of the reader's alignment (``AlignmentSet.digest``).
            cache: shards kept in memory.

        Raises:
            KdError: not a dump, or made for another alignment (names both digests). A dump of rows by frame that was made without
                an alignment fits any with as many frames as rows.
        """
        folder = Path(folder)
        meta = read_json(folder / META_FILE)
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise KdError(f"{folder / META_FILE} does not describe a dump of this version ({FORMAT}); dump again")
        if meta.get("rows", UNIT) not in (UNIT, FRAME):
            raise KdError(f"{folder / META_FILE}: rows {meta['rows']!r}, known are {UNIT} and {FRAME}; dump again")
        of, free = meta["alignment_digest"], meta.get("rows") == FRAME and not meta["alignment_digest"]
        if alignment_digest is not None and of != alignment_digest and not free:
            raise KdError(f"{folder} was dumped for alignment {of[:16]}, yours is {alignment_digest[:16]}; "
                          "dump this teacher again for your alignment (steps/dump_posteriors.sh)")  # fmt: skip
        rows = list(read_jsonl(folder / INDEX_FILE))
        units = sum(r.get("units", 0) for r in rows)
        if len(rows) != meta["utterances"] or units != meta["units"]:
            raise KdError(f"{folder}: {INDEX_FILE} lists {len(rows)} utterances and {units} units, {META_FILE} {meta['utterances']} and "
                          f"{meta['units']}; dump again")  # fmt: skip
        _check(folder, meta["index"])
        return cls(folder, meta, rows, cache)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._rows

    def get(self, source_id: str) -> UnitPosteriors:
        """The posteriors of one utterance. Raises KdError: an utterance that the dump lacks, or an altered shard."""
        row = self._rows.get(source_id)
        if row is None:
            raise KdError(f"{self.folder} has no posteriors of {source_id}; see dropped.tsv there, or dump its alignment")
        shard = self._shard(row["shard"])
        units = slice(row["first"], row["first"] + row["units"])
        offsets = shard.offsets[row["first"] : row["first"] + row["units"] + 1]
        entries = slice(offsets[0], offsets[-1])
        gap, length = shard.start[units], shard.length[units]
        end = np.cumsum(gap + length, dtype=np.int32)
        return UnitPosteriors(shard.unit_ids[units], end - length, length, offsets - offsets[0], shard.ids[entries],
                              shard.logp[entries], shard.rest_logp[units])  # fmt: skip

    def _read_shard(self, number: int) -> UnitPosteriors:
        """A shard's utterances, concatenated; ``start`` holds the gap before each unit, which does not depend on the utterance's begin."""
        packed = self._tensors(self.meta["shards"][number])
        if set(packed) != _ARRAYS:
            raise KdError(f"{self.folder}, shard {number} holds {sorted(packed)}, not {sorted(_ARRAYS)}; dump again")
        ids, before = self.coder.from_ranks(unpack(packed["rank"]), np.array(self._lengths.get(number, []), np.int64))
        gap, length = (unpack(packed[name]).astype(np.int32) for name in ("gap", "length"))
        return UnitPosteriors(ids.astype(np.int32), gap, length, *self.coder.decode(packed, before))

    @cached_property
    def coder(self) -> Coder:
        """The code of its rows."""
        return Coder.from_tensors(self._tensors(self.meta["coder"]))

    def _tensors(self, entry: dict[str, Any]) -> dict[str, np.ndarray]:
        """A file's tensors; KdError when it was altered."""
        _check(self.folder, entry)
        return load_tensors(self.folder / entry["file"])


def _check(folder: Path, entry: dict[str, Any]) -> None:
    path = folder / entry["file"]
    if (found := sha256(path)) != entry["sha256"]:
        raise KdError(f"{path}: sha256 is {found}, {META_FILE} says {entry['sha256']}; the file changed: dump again")
