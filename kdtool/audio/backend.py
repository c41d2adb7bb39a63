"""Lhotse's reading of audio by the one reader.  In: a path, seconds.  Out: what `kdtool.audio.reader` reads.

Lhotse itself would choose a decoder by the suffix, and read sphere and Opus files by a shell line with their name.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


def use_in_lhotse(tolerance: float) -> None:
    """Have Lhotse load audio by the one reader, and refuse audio that is `tolerance` seconds shorter than its manifest says."""
    from lhotse import set_audio_duration_mismatch_tolerance
    from lhotse.audio.backend import LibsndfileBackend, LibsndfileCompatibleAudioInfo, set_current_audio_backend

    from kdtool.audio.reader import header, open_audio

    class OneReader(LibsndfileBackend):
        """kdtool.audio.reader in Lhotse's terms."""

        def read_audio(
            self, path_or_fd: Any, offset: float = 0.0, duration: float | None = None, force_opus_sampling_rate: int | None = None
        ) -> tuple[Any, int]:
            """(float32 (channels, samples), Hz)."""
            from lhotse.utils import compute_num_samples

            with open_audio(Path(path_or_fd)) as audio:
                rate = audio.sound.rate
                start = compute_num_samples(offset, rate) if offset > 0 else 0
                stop = None if duration is None else start + compute_num_samples(duration, rate)
                return audio.samples(start, stop), rate

        def info(self, path_or_fd: Any, force_opus_sampling_rate: int | None = None) -> Any:
            """Length, rate and channels."""
            sound = header(Path(path_or_fd))
            return LibsndfileCompatibleAudioInfo(sound.channels, sound.samples, sound.rate, sound.seconds)

    set_current_audio_backend(OneReader())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lhotse warns against any tolerance below its half second
        set_audio_duration_mismatch_tolerance(tolerance)
