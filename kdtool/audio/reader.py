"""Reads audio of any format: kind, length, samples.  In: a file.  Out: float32 samples at the file's rate.

The only place that reads audio: import, aligner, features, reports, validation. The content counts, not the suffix, and
a file with less audio than it announces is never accepted. egs/kaldi_dir/README.md lists the treatment of each case.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kdtool.audio import chunks, headers, kinds, mpeg, packets
from kdtool.audio.faults import BYTES, AudioFault, Sound, length, sound_of, truncated, undecodable
from kdtool.audio.layout import Broken, Layout, Overlay, Window

if TYPE_CHECKING:
    import numpy as np

BLOCK = 1 << 18  # samples of all channels per block
CHAINED = ("MPEG", "OPUS", "VORBIS")
BEFORE = 5  # seconds of these formats decoded before a part; one is too little for MP3 of 8 kbit/s
MAX_PEAK = 16.0  # of float samples; larger ones are unscaled integers
SCALE = "ffmpeg -i IN -af volume=1/32768 -c:a pcm_f32le OUT.wav"
FLOATS = ("FLOAT", "DOUBLE")
BY_MARK = (*chunks.BY_MARK, *headers.BY_MARK, (b"fLaC", packets.flac), (b"OggS", packets.ogg))


class AudioFile:
    """An open audio file; `sound` is its header's content, checked against the file."""

    def __init__(self, path: Path, decoder: Any, layout: Layout) -> None:
        self.path, self.decoder, self._layout, self._float = path, decoder, layout, decoder.subtype in FLOATS
        self.sound = sound_of(path, decoder, layout)

    def blocks(self, start: int = 0, stop: int | None = None) -> "Iterator[np.ndarray]":
        """Samples from `start` to `stop` (None: the end) as float32 (n, channels), block by block. Raises AudioFault: fewer can be
        decoded; a sample is NaN, infinite or far above full scale."""
        import soundfile

        stop = self.sound.samples if stop is None else min(stop, self.sound.samples)
        at = start
        try:
            if 0 < start < stop:
                self._seek(start)
            while at < stop:
                block = self._read(min(max(1, BLOCK // self.sound.channels), stop - at))
                if not len(block):
                    break
                self._check(block, at)
                at += len(block)
                yield block
        except (soundfile.LibsndfileError, RuntimeError) as e:
            raise _damaged(self.path, self.sound, self._layout, e) from e
        if at < stop:
            raise truncated(self.path, length(at, self.sound.rate), length(self.sound.samples, self.sound.rate))

    def samples(self, start: int = 0, stop: int | None = None) -> "np.ndarray":
        """The same in one array, float32 (channels, n)."""
        import numpy as np

        blocks = [np.zeros((0, self.sound.channels), np.float32), *self.blocks(start, stop)]
        return np.ascontiguousarray(np.concatenate(blocks).T)

    def read_through(self) -> Sound:
        """Format and length, with the smallest and largest sample."""
        low, high = float("inf"), float("-inf")
        for block in self.blocks():
            low, high = min(low, float(block.min())), max(high, float(block.max()))
        loud = self._float and max(-low, high) > 1
        note = [f"its float samples reach {max(-low, high):.3g}, above full scale (1.0); they are kept as they are"] * loud
        return replace(self.sound, low=low, high=high, notes=(*self.sound.notes, *note))

    def _read(self, count: int) -> Any:
        return self.decoder.read(count, dtype="float32", always_2d=True)

    def _seek(self, start: int) -> None:
        """Go to a sample. MPEG and Opus frames depend on earlier ones: the first ones after a jump are decoded wrongly."""
        coding = self.sound.coding
        before = 0 if coding in BYTES else min(start, BEFORE * self.sound.rate) if coding.startswith(CHAINED) else start
        if start > before:
            self.decoder.seek(start - before)
        while before and len(block := self._read(min(before, BLOCK))):
            before -= len(block)

    def _check(self, block: "np.ndarray", at: int) -> None:
        import numpy as np

        low, high = float(block.min()), float(block.max())
        if not np.isfinite(low + high):
            row, channel = (int(i) for i in np.argwhere(~np.isfinite(block))[0])
            what = "not a number (NaN)" if np.isnan(block[row, channel]) else "infinite"
            where = f"sample {at + row:,} of channel {channel}, both from 0 ({(at + row) / self.sound.rate:.3f} s)"
            raise AudioFault(f"{self.path} holds a sample that is {what}: {where}; convert it again from the original")
        if self._float and max(-low, high) > MAX_PEAK:
            peak = f"{self.path} has float samples up to {max(-low, high):g}, full scale is 1.0"
            raise AudioFault(f"{peak}: integers that were not scaled, or damage; scale them, if they were 16-bit integers: {SCALE}")


@contextmanager
def open_audio(path: Path) -> Iterator[AudioFile]:
    """Open a file of any name. Raises AudioFault: it cannot be read, is no supported audio, or holds less than it announces."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would block
            raise AudioFault(f"{path} is no file; name an audio file")
        file = open(path, "rb")  # noqa: SIM115
    except OSError as e:
        raise AudioFault(f"{path} cannot be read ({e.strerror}); check the path and its permissions") from e
    with file, _opened(path, file) as audio:
        yield audio


@contextmanager
def _opened(path: Path, file: BinaryIO) -> Iterator[AudioFile]:
    import soundfile

    try:
        status = os.fstat(file.fileno())
        if status.st_size == 0:
            raise AudioFault(f"{path} is empty (0 bytes); fetch it again")
        layout = _layout(path, status.st_size, status.st_mtime_ns)
        decoder = _decoder(file, layout)
    except OSError as e:
        raise AudioFault(f"{path} cannot be read ({e.strerror}); check its disk") from e
    except (soundfile.LibsndfileError, RuntimeError) as e:
        if layout.lacks:
            raise truncated(path, f"{layout.held:,} bytes of audio", f"{layout.announced:,}") from e
        if layout.cut:
            raise AudioFault(f"{path} is truncated: nothing of it can be decoded, and {layout.cut}; fetch it again") from e
        raise undecodable(path, layout.kind, e) from e
    with decoder:
        yield AudioFile(path, decoder, layout)


@cache
def _decoder_class() -> Any:
    import soundfile

    class Decoder(soundfile.SoundFile):
        """Reads without seeking between blocks, as soundfile does in seekable files: MP3 is decoded wrongly after a seek."""

        def seekable(self) -> bool:
            return False

    return Decoder


def _decoder(file: BinaryIO, layout: Layout) -> Any:
    """Open libsndfile on the bytes that the layout shows."""
    whole = not (layout.prefix or layout.patches or layout.first) and layout.last >= os.fstat(file.fileno()).st_size
    # By file descriptor, not by name: libsndfile treats any .au, .gsm or .vox file as headerless audio.
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    source: Any = os.dup(file.fileno()) if whole else Overlay(file, layout)
    if layout.raw is None:
        return _decoder_class()(source)
    rate, subtype = layout.raw
    return _decoder_class()(source, samplerate=rate, channels=1, subtype=subtype, format="RAW")


def is_audio(path: Path) -> bool:
    """Whether a file's content is audio, supported or convertible."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        data = Window(file)
        head = data.get(0, 64)
        if kinds.other(head) or not head:
            return False
        if kinds.foreign(head) or any(head.startswith(mark) for mark, _ in BY_MARK if len(mark) > 2) or headers.gsm(data):
            return True
        try:
            return bool(mpeg.mpeg_layout(data, 0, data.size))
        except Broken:
            return False


def header(path: Path) -> Sound:
    """A file's format and length, without decoding it. Raises as `open_audio`."""
    with open_audio(path) as audio:
        return audio.sound


def check(path: Path) -> Sound:
    """A file's format and length, decoded to its end block by block. Raises as `open_audio` and `AudioFile.blocks`."""
    with open_audio(path) as audio:
        return audio.read_through()


def read(path: Path, start: int = 0, stop: int | None = None) -> "tuple[np.ndarray, int]":
    """(samples float32 (channels, n), rate in Hz); only from `start` to `stop`, as far as the file goes. Raises as `check`."""
    with open_audio(path) as audio:
        return audio.samples(start, stop), audio.sound.rate


@lru_cache(maxsize=256)
def _layout(path: Path, _size: int, _time: int) -> Layout:
    """The audio's layout; cached, because a long recording is read for each of its utterances."""
    with open(path, "rb") as file:
        data = Window(file)
        head = data.get(0, 64)
        try:
            if fault := kinds.foreign(head) or kinds.other(head):
                raise Broken(fault)
            for mark, parse in BY_MARK:
                if head.startswith(mark):
                    return parse(data)
            return headers.gsm(data) or headers.htk(data) or _other(path, data, head)
        except Broken as e:
            raise AudioFault(f"{path} {e}") from e


def _other(path: Path, data: Window, head: bytes) -> Layout:
    """A file without a mark: MP3, or FLAC after an ID3 tag, or another format of libsndfile."""
    if data.get(data.skip_id3(0), 4) == b"fLaC":
        return packets.flac(data)
    try:
        return mpeg.mpeg_layout(data, 0, data.size)
    except Broken as e:
        if head.startswith(b"ID3") or mpeg.frame(head[:4]):
            raise
        raise Broken(kinds.unknown(path, head)) from e


def _damaged(path: Path, sound: Sound, layout: Layout, error: Exception) -> AudioFault:
    """The fault of a file whose decoding fails in the middle, with the number of samples before."""
    import soundfile

    held = 0
    with open(path, "rb") as file, _decoder(file, layout) as decoder:
        try:
            while count := len(decoder.read(1024, dtype="float32", always_2d=True)):
                held += count
        except (soundfile.LibsndfileError, RuntimeError):
            pass  # the reported error; it ends the count
    reason = " ".join(str(error).split())
    return AudioFault(f"{path} is truncated or damaged: {length(held, sound.rate)} can be decoded, its header announces "
                      f"{length(sound.samples, sound.rate)} ({reason}); fetch it again")  # fmt: skip
