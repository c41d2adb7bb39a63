"""Where silence begins and ends, from the waveform.  In: phones in frames, samples.  Out: the boundaries' times in seconds.

An HMM places the edges of silence too far inside the silence: a 25 ms window that touches speech, which is louder, looks like
speech, and the derivatives reach 40 ms further. So these edges (and no others) are moved to where the energy steps. A very short
"pause" is the closure of the next plosive, or an artefact of the HMM; it is given to the phone after it.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from kdtool.aligner.posterior import BestPath, Piece
from kdtool.features.store import FRAME_SHIFT

HOP = 0.001
WINDOW = 0.010
REACH = 0.06  # seconds on each side of the HMM's boundary in which a step is searched
SPEECH_LEFT = 0.01  # least remaining length of a phone, seconds
MIN_STEP = 1.5  # nepers of power (6.5 dB): smaller steps are ignored


def join_short_silences(best: BestPath, silence: Collection[int], frames: int) -> BestPath:
    """Silences between words shorter than `frames` frames join the next phone."""
    phones, words, pending = list[Piece](), list(best.words), 0
    for n, phone in enumerate(best.phones):
        inside = 0 < n < len(best.phones) - 1
        if inside and phone.word < 0 and phone.id in silence and phone.length < frames and best.phones[n + 1].word >= 0:
            pending = phone.length
            continue
        if pending:
            states = (phone.states[0] + pending, *phone.states[1:])
            phone = replace(phone, start=phone.start - pending, length=phone.length + pending, states=states)
            word = words[phone.word]
            words[phone.word] = replace(word, start=word.start - pending, length=word.length + pending)
            pending = 0
        phones.append(phone)
    return replace(best, words=words, phones=phones)


def log_energy(samples: np.ndarray, rate: int) -> np.ndarray:
    """Log power every HOP seconds of 10 ms Hann windows centred there; a first difference removes hum and offset."""
    hop, size = round(HOP * rate), round(WINDOW * rate)
    high = np.diff(samples.astype(np.float64), prepend=samples[:1])
    power = np.convolve(high**2, np.hanning(size + 1) / np.hanning(size + 1).sum(), mode="same")[::hop]
    return np.log(power + 1e-12)


def step(values: np.ndarray, rising: bool) -> int | None:
    """Step position of the best two-level fit, an index into `values`; None when the step is too small or in the wrong direction."""
    size = len(values)
    if size < 4:
        return None
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(2, size - 1)
    left, right = total[at] / at, (total[-1] - total[at]) / (size - at)
    gain = left**2 * at + right**2 * (size - at)
    change = (right - left) if rising else (left - right)
    best = int(np.where(change >= MIN_STEP, gain, -np.inf).argmax())
    return int(at[best]) if change[best] >= MIN_STEP else None


def edges(phones: Sequence[Piece], silence: Collection[int], samples: np.ndarray, rate: int, duration: float) -> list[float]:
    """Times of all boundaries, from 0 to `duration`: len(phones) + 1, ascending."""
    frames = [0.0, *(p.start * FRAME_SHIFT for p in phones[1:]), duration]
    energy, times = log_energy(samples, rate), list(frames)
    for n in range(1, len(phones)):
        before, after = phones[n - 1].id in silence, phones[n].id in silence
        if before == after:
            continue
        low = max(frames[n] - REACH, (frames[n - 1] + frames[n]) / 2 if before else times[n - 1] + SPEECH_LEFT)
        high = min(frames[n] + REACH, (frames[n] + frames[n + 1]) / 2 if after else frames[n + 1] - SPEECH_LEFT)
        first = int(np.ceil(low / HOP))
        place = step(energy[first : int(high / HOP) + 1], rising=before)
        if place is not None:
            times[n] = (first + place - 0.5) * HOP
    return [round(t, 6) for t in times[:-1]] + [duration]
