"""True times of an embedded utterance's words and phones.  In: espeak's samples and events.  Out: spans in seconds.

espeak's events mark the exact sample where it starts a sound (the tests check this against its digital silence), except that a
voiceless stop's event is its release, and the closure before it is digital silence. So a run of zeros directly before a phone
belongs to that phone; not after a pause, where the border between pause and closure is inaudible.
A voice with an echo has no such silence, and so no truth.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from local.librispeech.arpabet import MARKS, PHONES
from local.librispeech.espeak import OWN_RATE, PHONEME, WORD, Event

CLOSURE = 40  # length of a run of zeros that counts as a closure: 2 ms, longer than any run inside a voiced sound


def true_times(text: str, speech: bytes, events: Sequence[Event], before: float) -> dict[str, list[list[Any]]]:
    """Words and phones with their times.

    Args:
        text: the spoken text, words separated by single spaces.
        speech: 16-bit samples; events: what `Espeak.events` held after saying it.
        before: seconds of padding before the speech.

    Returns words: [word, start, end], both None where espeak joins words ("of the") without a boundary between them; and
    phones: [ARPAbet phones of one sound, start, end], "?" for a sound that ARPAbet has no phone for.
    """
    samples = np.frombuffer(speech, np.int16)
    sounds = [e for e in events if e.kind == PHONEME and e.name != ";"]
    starts = [_start(samples, sounds, i) for i in range(len(sounds))]
    ends = [*starts[1:], len(samples)]
    spans = [(e, s, t) for e, s, t in zip(sounds, starts, ends, strict=True) if not e.name.startswith("_") and t > s]

    def seconds(sample: int) -> float:
        return round(before + sample / OWN_RATE, 6)

    first = {e.sample for e in events if e.kind == WORD}
    words = [[w, *map(seconds, span)] if span else [w, None, None] for w, span in _words(text, events, spans)]
    phones: list[list[Any]] = []
    for event, s, t in spans:
        name = PHONES.get(event.name.lstrip(MARKS)) or "?"
        if name == "R" and phones and phones[-1][0].endswith("R") and event.sample not in first:
            phones[-1][2] = seconds(t)  # the r of "furry" belongs to the rhotic vowel before it, as in arpabet.py
        else:
            phones.append([name, seconds(s), seconds(t)])
    return {"words": words, "phones": phones}


def _start(samples: Any, sounds: Sequence[Event], index: int) -> int:
    """First sample of a sound, including its closure."""
    at = sounds[index].sample
    if index == 0 or sounds[index - 1].name.startswith("_") or sounds[index].name.startswith("_"):
        return at
    loud = samples[sounds[index - 1].sample : at].nonzero()[0]
    silent_from = sounds[index - 1].sample + int(loud[-1]) + 1 if len(loud) else at
    return silent_from if at - silent_from >= CLOSURE else at


def _words(
    text: str, events: Sequence[Event], spans: Sequence[tuple[Event, int, int]]
) -> list[tuple[str, tuple[int, int] | None]]:
    """Each word with its first and last sample; None beside a boundary that espeak does not report."""
    begun = {e.character: e.sample for e in events if e.kind == WORD}
    found = [(m.group(), m.start()) for m in re.finditer(r"\S+", text)]
    words: list[tuple[str, tuple[int, int] | None]] = []
    for n, (word, at) in enumerate(found):
        joined = at not in begun or (n + 1 < len(found) and found[n + 1][1] not in begun)
        last = min((begun[c] for _, c in found[n + 1 :] if c in begun), default=1 << 40)
        inside = [] if joined else [(s, t) for e, s, t in spans if begun[at] <= e.sample < last]
        words.append((word, (inside[0][0], inside[-1][1]) if inside else None))
    return words
