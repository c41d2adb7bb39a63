"""espeak-ng through ctypes.  In: text and a voice.  Out: samples at 22,050 Hz, times of the sounds, phoneme mnemonics.

The library and its data come with the Python package espeakng_loader. The library keeps state from one utterance to the
next (phase, random numbers, echo) and seeds itself by the clock: its output is reproducible only in a fresh process
that speaks the same utterances in the same order after `seed`.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError

SYNCHRONOUS = 2
PHONEME_EVENTS, DONT_EXIT = 0x0001, 0x8000
RATE, PITCH = 1, 3
POSITION_CHARACTER, TEXT_UTF8, SEPARATOR = 1, 1, "_"
OWN_RATE = 22050
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
WORD, PHONEME = 1, 7
ADVICE = "set the environment up again (utils/setup_env.sh), or give a corpus of your own (--corpus)"


class _RawEvent(ctypes.Structure):
    """espeak_EVENT; the last field is a union, a phoneme's mnemonic for phoneme events."""

    _fields_ = (
        ("kind", ctypes.c_int), ("unique", ctypes.c_uint), ("text", ctypes.c_int), ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int), ("user", ctypes.c_void_p), ("name", ctypes.c_char * 8),
    )  # fmt: skip


@dataclass(frozen=True)
class Event:
    """The start of a word (kind WORD) or a phoneme (PHONEME): sample, character (0-based), mnemonic."""

    kind: int
    sample: int
    character: int
    name: str


class Espeak:
    """The synthesiser; one per process. KdError if the package is missing, or its library does not load or start."""

    def __init__(self, seed: int = 1) -> None:
        try:
            import espeakng_loader

            self.data = Path(espeakng_loader.get_data_path())
            self.lib: Any = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        except ImportError as e:
            raise KdError(f"the package espeakng_loader is not installed ({e}); {ADVICE}") from e
        except OSError as e:
            raise KdError(f"espeak-ng's library does not load ({e}); {ADVICE}") from e
        rate = self.lib.espeak_Initialize(SYNCHRONOUS, 0, str(self.data).encode(), PHONEME_EVENTS | DONT_EXIT)
        if rate != OWN_RATE:
            raise KdError(f"espeak-ng with the data in {self.data} starts with sampling rate {rate}, {OWN_RATE} is expected; {ADVICE}")
        # The library seeds by the clock at start; fricatives and flutter use these random numbers.
        self.lib.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self.lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._blocks: list[bytes] = []
        self.events: list[Event] = []  # of the last spoken text, in order of time
        self._callback = CALLBACK(self._receive)  # kept: the library holds a bare pointer to it
        self.lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._blocks.append(ctypes.string_at(samples, 2 * count))
        listed: Any = ctypes.cast(events, ctypes.POINTER(_RawEvent)) if events else ()
        for event in listed:
            if event.kind == 0:  # end of the list, which has no length
                break
            if event.kind in (WORD, PHONEME):
                name = event.name.decode() if event.kind == PHONEME else ""
                self.events.append(Event(event.kind, event.sample, event.text - 1, name))
        return 0

    def set_voice(self, voice: str) -> None:
        """Choose a voice, such as en-us+f3; KdError for an unknown one, where the library silently keeps the old one."""
        name, _, variant = voice.partition("+")
        variants = self.data / "voices" / "!v"
        # The library ignores an unknown variant with status 0.
        if (variant and not (variants / variant).is_file()) or self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            known = ", ".join(sorted(p.name for p in variants.iterdir())) if variant and variants.is_dir() else "en-us, en-gb"
            raise KdError(f"espeak-ng has no voice {voice}; {'variants of ' + name if variant else 'voices'} are: {known}")

    def has_echo(self, voice: str) -> bool:
        """Whether the voice's variant has an echo after each sound."""
        variant = voice.partition("+")[2]
        lines = (self.data / "voices" / "!v" / variant).read_text(encoding="utf-8", errors="replace").splitlines() if variant else []
        return any(line.split()[:1] == ["echo"] for line in lines)

    def say(self, text: str, voice: str, *, pitch: int, rate: int) -> bytes:
        """Speech as 16-bit samples at 22,050 Hz, native byte order; `events` then holds the times. KdError if nothing was said.

        pitch: 0 to 100; rate: 80 to 450 words per minute.
        """
        self.set_voice(voice)
        self.lib.espeak_SetParameter(RATE, rate, 0)
        self.lib.espeak_SetParameter(PITCH, pitch, 0)
        self._blocks.clear()
        self.events.clear()
        data = text.encode()
        status = self.lib.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, POSITION_CHARACTER, 0, TEXT_UTF8, None, None)
        if status != 0 or not self._blocks:
            raise KdError(f"espeak-ng said nothing for {text!r} with voice {voice} (status {status}); {ADVICE}")
        return b"".join(self._blocks)

    def mnemonics(self, text: str, voice: str) -> list[str]:
        """espeak's mnemonics of a text's phonemes, such as ["D", "@"], stress marks ("'", ",") before vowels kept."""
        self.set_voice(voice)
        rest = ctypes.c_char_p(text.encode())
        found: list[str] = []
        while rest.value is not None:
            clause = self.lib.espeak_TextToPhonemes(ctypes.byref(rest), TEXT_UTF8, ord(SEPARATOR) << 8)
            found.extend(p for word in (clause or b"").decode().split() for p in word.split(SEPARATOR) if p)
        return found
