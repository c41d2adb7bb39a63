"""Posteriors for other programs.  In: dumps.  Out: dense arrays (safetensors, npy), an Arrow table, or Lhotse cuts.

safetensors, npy: log-probabilities (units, V) of each utterance, or (frames, V) with --frames, where frames without a unit (silence)
are all -inf. For a dump of rows by frame (rows, V), and with --frames each row at all its 10 ms frames. Entries that the dump did not
keep share the rest evenly, so that each row sums to one. Units' segments are stored with them, int32 (units, 3): unit, first frame,
number of frames. Arrow: one row per unit or frame, with exactly the kept entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tensors import save_tensors
from kdtool.formats.alignment import AlignmentSet
from kdtool.posteriors.dump import PosteriorDump

ARROW_FILE = "posteriors.arrow"
CHOICES = {"format": ("safetensors", "npy", "arrow", "lhotse"), "dtype": ("float16", "float32"), "storage": ("numpy", "dump")}


@dataclass(frozen=True)
class ExportConfig:
    """Options of export."""

    format: str = field(default="safetensors", metadata={"help": "safetensors (one file per shard), npy (one file per utterance), "
                                                         "arrow (one table of the kept entries), lhotse (cuts with a field per dump)"})
    dtype: str = field(default="float16", metadata={"help": "type of dense log-probabilities: float16 or float32"})
    frames: bool = field(default=False, metadata={"help": "safetensors, npy: one row per 10 ms frame instead of per unit"})
    ali: Path | None = field(default=None, metadata={"help": "alignment, with --frames: arrays cover its frames, not only up to "
                                                     "the last unit"})
    data: Path | None = field(default=None, metadata={"help": "lhotse: data or feature folder, or a file of cuts"})
    storage: str = field(default="numpy", metadata={"help": "lhotse: numpy (dense arrays that Lhotse can read by itself) or dump (rows "
                                                    "stay there; programs import kdtool.posteriors.lhotse_field)"})  # fmt: skip

    def check(self, num_dumps: int) -> None:
        """UsageError for values that are unknown, that do not go together, or whose library is missing."""
        if any(getattr(self, name) not in known for name, known in CHOICES.items()):
            raise UsageError(f"--format {self.format} --dtype {self.dtype} --storage {self.storage}: known are "
                             + "; ".join(map(", ".join, CHOICES.values())))  # fmt: skip
        if (self.format == "lhotse") != (self.data is not None) or (self.format != "lhotse" and num_dumps > 1):
            raise UsageError("--format lhotse wants --data and takes several dumps; the other formats take one dump and no --data")
        if self.ali and not self.frames:
            raise UsageError("--ali tells how many frames there are: it goes with --frames")
        if self.format == "arrow":
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
    ali = AlignmentSet.open(cfg.ali) if cfg.ali else None
    if ali is not None and dump.meta["alignment_digest"] and ali.digest != dump.meta["alignment_digest"]:
        raise KdError(f"{dump.folder} was dumped for alignment {dump.meta['alignment_digest'][:16]}, {cfg.ali} is {ali.digest[:16]}; "
                      "name the one it was made for")  # fmt: skip
    for shard, names in _by_shard(dump):
        tensors: dict[str, np.ndarray] = {}
        for name in names:
            post = dump.get(name)
            if cfg.frames:
                frames = ali.get(name).num_frames if ali is not None else post.end
                rows = post.frame_rows(frames, f"{dump.folder}: {name}")
                tensors[name] = post.dense_frames(dump.num_units, rows, cfg.dtype)
            else:
                tensors[name] = post.dense(dump.num_units).astype(cfg.dtype)
            tensors[f"{name}.segments"] = np.stack([post.unit_ids, post.start, post.length], axis=1)
        if cfg.format == "safetensors":
            save_tensors(work / f"posteriors-{shard:05d}.safetensors", tensors)
            continue
        for name, values in tensors.items():
            path = work / f"{name}.npy"
            if not path.resolve().is_relative_to(work.resolve()):
                raise KdError(f"utterance {name} would be written to {path}, outside of the folder; take --format safetensors")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values, allow_pickle=False)


def _by_shard(dump: PosteriorDump) -> list[tuple[int, list[str]]]:
    return [(shard, [row["id"] for row in rows]) for shard, rows in groupby(dump.rows, key=lambda row: row["shard"])]


def write_arrow(dump: PosteriorDump, path: Path) -> None:
    """One Arrow IPC file (``pyarrow.ipc.open_file``, or memory-mapped), one record batch per shard, one row per unit.

    Columns: utterance, unit, start and length (10 ms frames), ids and logp (kept entries, the likeliest first), rest_logp.
    """
    import pyarrow as pa

    kinds = {"utterance": pa.string(), "unit": pa.int32(), "start": pa.int32(), "length": pa.int32(), "ids": pa.list_(pa.int32()),
             "logp": pa.list_(pa.float32()), "rest_logp": pa.float32()}  # fmt: skip
    named = ("unit", "num_units", "units_digest", "alignment_digest", "temperature", "rows", "frame_shift")
    schema = pa.schema(list(kinds.items()), metadata={k: str(dump.meta[k]) for k in named if k in dump.meta})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as sink:
        for _, names in _by_shard(dump):
            posts = [dump.get(name) for name in names]
            counts = np.concatenate([np.diff(p.offsets) for p in posts])
            offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
            columns = {"utterance": pa.array(np.repeat(np.array(names, dtype=object), [len(p) for p in posts]), pa.string())}
            for name, kind in list(kinds.items())[1:]:
                values = np.concatenate([getattr(p, "unit_ids" if name == "unit" else name) for p in posts])
                values = values.astype(np.float32 if "logp" in name else np.int32)
                columns[name] = pa.ListArray.from_arrays(offsets, pa.array(values)) if pa.types.is_list(kind) else pa.array(values)
            sink.write_batch(pa.record_batch(list(columns.values()), schema=schema))
