"""Posteriors for other programs.  In: dumps.  Out: dense arrays (safetensors, npy), an Arrow table, or Lhotse cuts.

safetensors, npy: log-probabilities (units, V) of each utterance, or (frames, V) with --frames, where frames without a unit (silence)
are all -inf. For a dump of rows by frame (rows, V), and with --frames each row at all its 10 ms frames. Entries that the dump did not
keep share the rest evenly, so that each row sums to one. Units' segments are stored with them, int32 (units, 3): unit, first frame,
number of frames. Arrow: one row per unit or frame, with exactly the kept entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.posteriors.dense import ExportConfig, dense_frames
from kdtool.posteriors.dump import PosteriorDump

ARROW_FILE = "posteriors.arrow"


def needs(kind: str) -> None:
    """UsageError, with the command that installs it, when a format's library is missing."""
    if kind != "arrow":
        return
    try:
        import pyarrow  # noqa: F401
    except ImportError as e:
        raise UsageError("--format arrow writes with pyarrow, which is not installed: "
                         "pip install pyarrow for the Python that runs kdtool, or take --format safetensors") from e  # fmt: skip


def write(dumps: Sequence[Path], work: Path, out: Path, cfg: ExportConfig) -> None:
    """Write one form of the dumps into ``work``, which will become ``out``."""
    opened = [PosteriorDump.open(d, cache=2) for d in dumps]
    if cfg.format == "lhotse":
        from kdtool.posteriors.lhotse_field import write_cuts

        assert cfg.data is not None
        write_cuts(opened, cfg.data, work, out, cfg.storage, np.dtype(cfg.dtype))
    elif cfg.format == "arrow":
        write_arrow(opened[0], work / ARROW_FILE)
    else:
        _write_dense(opened[0], work, cfg)


def _write_dense(dump: PosteriorDump, work: Path, cfg: ExportConfig) -> None:
    from kdtool.core.tensors import save_tensors
    from kdtool.formats.alignment import AlignmentSet

    ali = AlignmentSet.open(cfg.ali) if cfg.ali else None
    if ali is not None and dump.meta["alignment_digest"] and ali.digest != dump.meta["alignment_digest"]:
        raise KdError(f"{dump.folder} was dumped for alignment {dump.meta['alignment_digest'][:16]}, {cfg.ali} is {ali.digest[:16]}; "
                      "name the one it was made for")  # fmt: skip
    for shard, names in _by_shard(dump):
        tensors: dict[str, np.ndarray] = {}
        for name in names:
            post = dump.get(name)
            if cfg.frames:
                frames = ali.get(name).num_frames if ali is not None else int((post.start + post.length).max(initial=0))
                rows = post.frame_rows(frames, f"{dump.folder}: {name}")
                tensors[name] = dense_frames(post, dump.num_units, rows, np.dtype(cfg.dtype))
            else:
                tensors[name] = post.dense(dump.num_units).astype(cfg.dtype)
            tensors[f"{name}.segments"] = np.stack([post.unit_ids, post.start, post.length], axis=1)
        if cfg.format == "safetensors":
            save_tensors(work / f"posteriors-{shard:05d}.safetensors", tensors)
        else:
            _write_npy(work, tensors)


def _write_npy(work: Path, tensors: dict[str, np.ndarray]) -> None:
    for name, values in tensors.items():
        path = work / f"{name}.npy"
        if not path.resolve().is_relative_to(work.resolve()):
            raise KdError(f"utterance {name} would be written to {path}, outside of the folder; take --format safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values, allow_pickle=False)


def _by_shard(dump: PosteriorDump) -> Iterator[tuple[int, list[str]]]:
    shards: dict[int, list[str]] = {}
    for row in dump.rows:
        shards.setdefault(row["shard"], []).append(row["id"])
    yield from sorted(shards.items())


def write_arrow(dump: PosteriorDump, path: Path) -> None:
    """One Arrow IPC file (``pyarrow.ipc.open_file``, or memory-mapped), one record batch per shard, one row per unit.

    Columns: utterance, unit, start and length (10 ms frames), ids and logp (kept entries, the likeliest first), rest_logp.
    """
    import pyarrow as pa

    kinds = {"utterance": pa.string(), "unit": pa.int32(), "start": pa.int32(), "length": pa.int32(), "ids": pa.list_(pa.int32()),
             "logp": pa.list_(pa.float32()), "rest_logp": pa.float32()}  # fmt: skip
    named = ("unit", "num_units", "units_digest", "alignment_digest", "temperature", "rows", "frame_shift")
    facts = {k: str(dump.meta[k]) for k in named if k in dump.meta}
    schema = pa.schema(list(kinds.items()), metadata=facts)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as sink:
        for _, names in _by_shard(dump):
            posts = [dump.get(name) for name in names]
            counts = np.concatenate([np.diff(p.offsets) for p in posts])
            offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
            columns = {
                "utterance": pa.array(np.repeat(np.array(names, dtype=object), [len(p) for p in posts]), pa.string()),
                **{out: pa.array(np.concatenate([getattr(p, name) for p in posts]).astype(kind)) for out, name, kind in (
                    ("unit", "unit_ids", np.int32), ("start", "start", np.int32), ("length", "length", np.int32),
                    ("rest_logp", "rest_logp", np.float32))},
                **{name: pa.ListArray.from_arrays(offsets, pa.array(np.concatenate([getattr(p, name) for p in posts]).astype(kind)))
                   for name, kind in (("ids", np.int32), ("logp", np.float32))},
            }  # fmt: skip
            sink.write_batch(pa.record_batch([columns[name] for name in kinds], schema=schema))
