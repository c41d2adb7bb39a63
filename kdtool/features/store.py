"""Reading a feature folder.  In: data/<set>/<kind> as made by kdtool.features.extract.  Out: arrays and facts by id.

Needs numpy only: training code can read features without importing Lhotse. All times are 10 ms frames.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import read_json
from kdtool.core.tensors import load_tensors

FRAME_SHIFT = 0.01
LOW_FREQ, EDGE = 20, 400  # Hz: where the filters begin; how far below half the rate they end by default
MIN_STD = 1e-3  # a constant coefficient (digital silence) must not be amplified into noise


@dataclass(frozen=True)
class UttInfo:
    """One utterance or speed-perturbed copy; `source_id` is the supervision from which it was made, num_frames in 10 ms frames."""

    id: str
    source_id: str
    speaker: str
    text: str
    speed: float
    num_frames: int


class FeatureKind(NamedTuple):
    """What to extract: mfcc or fbank, sampling rate in Hz, upper edge of the filters in Hz (0: EDGE below half the rate)."""

    kind: str
    sample_rate: int
    high_freq: int = 0

    @property
    def top(self) -> int:
        """Upper edge of the highest filter, in Hz."""
        return self.high_freq or self.sample_rate // 2 - EDGE


def kind_label(kind: str, sample_rate: int, high_freq: int = 0) -> str:
    """The name of a kind of features with rate and band, of models and folders: ("mfcc", 8000) -> '8 kHz mfcc'; '.. to 5500 Hz'."""
    return f"{sample_rate / 1000:g} kHz {kind}" + (f" to {high_freq} Hz" if high_freq else "")


def parse_label(label: str) -> FeatureKind:
    """The inverse of `kind_label`."""
    match = re.fullmatch(r"([\d.]+) kHz (\w+)(?: to (\d+) Hz)?", label)
    if not match:
        raise KdError(f"features {label!r}: a kind with its rate expected, as '16 kHz mfcc'; make the model again")
    return FeatureKind(match[2], round(float(match[1]) * 1000), int(match[3] or 0))


def source_frames(num_frames: int, speed: float, num_source_frames: int) -> np.ndarray:
    """Index of the original utterance's frame for each frame of a speed-perturbed copy.

    Returns:
        int64 (num_frames,): min(floor((t + 0.5) * speed), num_source_frames - 1). Frame t is centred on
        (t + 0.5) * 10 ms of the copy, which is (t + 0.5) * speed * 10 ms of the original.
    """
    if num_frames < 0 or num_source_frames < 1 or not speed > 0:
        raise KdError(f"source_frames: {num_frames} frames of {num_source_frames} at speed {speed} make no sense")
    index = np.floor((np.arange(num_frames) + 0.5) * speed).astype(np.int64)
    return np.minimum(index, num_source_frames - 1)


class FeatureSet:
    """The features of one data set, read from disk on demand.

    Attributes:
        ids: utterance ids in the order of the data set (copies of one utterance are adjacent).
        kind, dim: kind with sampling rate and band (`kind_label`), number of coefficients D. A set fits a model only when both are equal.
        folder: the feature folder.
        header: contents of index.json; cmvn: mean and deviation, "<speaker>.mean" and "<speaker>.std".
    """

    def __init__(self, folder: Path, header: dict[str, Any], cmvn: dict[str, np.ndarray], *, cache: bool) -> None:
        self.folder = folder
        self.header, self.cmvn = header, cmvn
        self.kind = kind_label(header["kind"], header["sample_rate"], header.get("high_freq", 0))
        self.dim: int = header["dim"]
        self._infos: dict[str, UttInfo] = {}
        self._files: dict[str, str] = {}
        for row in header["utterances"]:
            self._files[row["id"]] = row["file"]
            self._infos[row["id"]] = UttInfo(**{k: v for k, v in row.items() if k != "file"})
        self.ids: list[str] = list(self._infos)
        self._cache: dict[tuple[str, bool], np.ndarray] | None = {} if cache else None

    @classmethod
    def open(cls, folder: Path | str, *, cache: bool = False) -> "FeatureSet":
        """Open a feature folder; cache=True keeps every array in memory once read. Raises KdError: the folder is not a feature folder or is
        damaged."""
        folder = Path(folder)
        if not (folder / "index.json").is_file():
            raise KdError(f"{folder}: no features here (index.json is missing); run steps/extract_features.sh first")
        header = read_json(folder / "index.json")
        cmvn = load_tensors(folder / "cmvn.safetensors")
        try:
            return cls(folder, header, cmvn, cache=cache)
        except (KeyError, TypeError) as e:
            raise KdError(f"{folder / 'index.json'}: no index of features ({e!r}); delete the folder and extract them again") from e

    def info(self, utt: str) -> UttInfo:
        """Facts about one utterance; KdError when the id is unknown."""
        try:
            return self._infos[utt]
        except KeyError:
            raise KdError(f"{self.folder}: no features for utterance {utt}; was it dropped? see dropped.tsv there") from None

    def by_speaker(self, ids: Iterable[str]) -> list[list[str]]:
        """The utterances of each speaker, speakers and utterances in the order of `ids`."""
        groups: dict[str, list[str]] = {}
        for utt in ids:
            groups.setdefault(self.info(utt).speaker, []).append(utt)
        return list(groups.values())

    def get(self, utt: str, normalise: bool = True) -> np.ndarray:
        """Features of one utterance: float32 (T, D), contiguous; normalised to mean 0 and variance 1 per speaker. Raises KdError: unknown
        id, or a file that is missing, damaged or not of the shape the index says."""
        if self._cache is not None and (utt, normalise) in self._cache:
            return self._cache[utt, normalise]
        info = self.info(utt)
        feats = self._read(info)
        if normalise:
            feats = (feats - self.cmvn[f"{info.speaker}.mean"]) / self.cmvn[f"{info.speaker}.std"]
        feats = np.ascontiguousarray(feats, dtype=np.float32)
        if self._cache is not None:
            self._cache[utt, normalise] = feats
        return feats

    def _read(self, info: UttInfo) -> np.ndarray:
        path = self.folder / self._files[info.id]
        redo = "delete the folder and extract the features again"
        try:
            feats = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise KdError(f"{path} (utterance {info.id}): unreadable features ({e}); {redo}") from e
        if feats.shape != (info.num_frames, self.dim):
            raise KdError(f"{path} (utterance {info.id}): shape {feats.shape}, the index says "
                          f"{(info.num_frames, self.dim)}; {redo}")  # fmt: skip
        return feats
