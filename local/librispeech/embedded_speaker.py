"""One speaker of the embedded corpus.  In: a JSON file with voice and sentences.  Out: <chapter>/ID.flac and ID.trans.txt, true times.

Each speaker has a separate process: espeak keeps state, so a speaker's audio would depend on the previous speakers.
"""

import math
import random
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError
from kdtool.core.jobs import run_commands
from kdtool.core.tables import read_json, write_json, write_jsonl, write_lines
from local.librispeech.espeak import ADVICE, OWN_RATE, Espeak
from local.librispeech.truth import true_times

RATE = 16000
# Per utterance, so that speakers vary a little: pitch by up to this many units, rate by up to this share.
PITCH_JITTER, RATE_JITTER = 4, 0.07
PADDING = (0.15, 0.35)
SPEECH_PEAK = (0.35, 0.7)
NOISE_DB = -32.0
SHORTEST, LONGEST = 0.5, 10.0


def run_speakers(jobs: Sequence[tuple[Path, dict[str, Any], Path]], name: str, nj: int) -> None:
    """Speak chapters, a process each. jobs: (JSON file to write beside the log, its content as for `speak`, chapter)."""
    commands = []
    for job, content, chapter in jobs:
        write_json(job, content)
        commands.append([sys.executable, "-m", "local.librispeech.embedded_speaker", str(job), str(chapter)])
    run_commands(commands, [job.with_suffix(".log") for job, _, _ in jobs], name=name, at_once=nj)


def resample(signal: Any) -> Any:
    """(samples,) at 22,050 Hz -> (about samples * 320 / 441,) at 16 kHz: removes the spectrum above 8 kHz.

    By numpy's FFT because importing scipy.signal takes longer than speaking a speaker's sentences.
    """
    unit = math.gcd(OWN_RATE, RATE)
    blocks = -(-len(signal) // (OWN_RATE // unit))
    before, after = blocks * (OWN_RATE // unit), blocks * (RATE // unit)
    spectrum = np.fft.rfft(signal, before)[: after // 2 + 1]
    return np.fft.irfft(spectrum, after) * (after / before)


def process(speech: bytes, seed: int) -> tuple[Any, float]:
    """16-bit samples at 22,050 Hz -> float64 (samples,) at 16 kHz within -1 and 1: padded, scaled, with noise; seconds of padding before.

    The noise is NOISE_DB decibels relative to the speech's mean power: models of digital silence would have no variance.
    """
    rng = np.random.default_rng(seed)
    signal = resample(np.frombuffer(speech, dtype=np.int16) / 32768.0)
    loudest = np.abs(signal).max(initial=0.0)
    if not loudest > 0.01:
        raise KdError(f"espeak-ng gave silence ({len(signal)} samples, the loudest is {loudest:.4f} of 1); {ADVICE}")
    signal *= rng.uniform(*SPEECH_PEAK) / loudest
    noise_level = np.sqrt(np.mean(signal**2)) * 10 ** (NOISE_DB / 20)
    before, after = (int(s * RATE) for s in rng.uniform(*PADDING, size=2))
    padded = np.pad(signal, (before, after))
    return padded + noise_level * rng.standard_normal(len(padded)), before / RATE


def speak(job: dict[str, Any], chapter: Path) -> None:
    """Write a chapter: one FLAC file per utterance, and the transcripts; KdError for audio outside SHORTEST to LONGEST seconds.

    job: voice, pitch, rate, seed, utterances ([id, lower-case text]) and the file for the true times.
    """
    import soundfile

    espeak = Espeak(job["seed"])
    chapter.mkdir(parents=True, exist_ok=True)
    truth = []
    for utt, text in job["utterances"]:
        seed = zlib.crc32(f"{job['seed']} {utt}".encode())
        rng = random.Random(seed)
        pitch = job["pitch"] + rng.randint(-PITCH_JITTER, PITCH_JITTER)
        rate = round(job["rate"] * rng.uniform(1 - RATE_JITTER, 1 + RATE_JITTER))
        speech = espeak.say(text, job["voice"], pitch=pitch, rate=rate)
        signal, before = process(speech, seed)
        truth.append({"id": utt, **true_times(text, speech, espeak.events, before)})
        seconds = len(signal) / RATE
        if not SHORTEST <= seconds <= LONGEST:
            raise KdError(f"{utt}: {seconds:.2f} s of audio for {text!r}, {SHORTEST} to {LONGEST} are expected; "
                          "fix the sentence in embedded.yaml")  # fmt: skip
        soundfile.write(chapter / f"{utt}.flac", signal, RATE, subtype="PCM_16", format="FLAC")
    if not espeak.has_echo(job["voice"]):
        write_jsonl(job["truth"], truth)
    name = job["utterances"][0][0].rpartition("-")[0]
    write_lines(chapter / f"{name}.trans.txt", (f"{utt} {text.upper()}" for utt, text in job["utterances"]))


if __name__ == "__main__":
    cli_main(lambda: speak(read_json(sys.argv[1]), Path(sys.argv[2])))
