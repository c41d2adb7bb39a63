"""Makes Lhotse read audio through our reader.  In: a path, seconds.  Out: what `kdtool.audio.reader` reads.

Lhotse would choose a decoder by the suffix, and read sphere and Opus files through a shell line that holds their name.
"""

import warnings
from pathlib import Path
from typing import Any

from kdtool.audio.reader import header, open_audio


def use_in_lhotse(tolerance: float) -> None:
    """Let Lhotse load audio by our reader, and refuse audio that is more than `tolerance` seconds shorter than its manifest says."""
    from lhotse import set_audio_duration_mismatch_tolerance
    from lhotse.audio.backend import LibsndfileBackend, LibsndfileCompatibleAudioInfo, set_current_audio_backend
    from lhotse.utils import compute_num_samples

    class OneReader(LibsndfileBackend):
        """kdtool.audio.reader behind Lhotse's interface; the option for Opus is not used: the header says the rate."""

        def read_audio(
            self, path_or_fd: Any, offset: float = 0.0, duration: float | None = None, force_opus_sampling_rate: Any = None
        ) -> Any:
            with open_audio(Path(path_or_fd)) as audio:
                rate = audio.sound.rate
                start = compute_num_samples(offset, rate) if offset > 0 else 0
                stop = None if duration is None else start + compute_num_samples(duration, rate)
                return audio.samples(start, stop), rate

        def info(self, path_or_fd: Any, force_opus_sampling_rate: Any = None) -> Any:
            sound = header(Path(path_or_fd))
            return LibsndfileCompatibleAudioInfo(sound.channels, sound.samples, sound.rate, sound.seconds)

    set_current_audio_backend(OneReader())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lhotse warns about any tolerance below its default of 0.5 s
        set_audio_duration_mismatch_tolerance(tolerance)
