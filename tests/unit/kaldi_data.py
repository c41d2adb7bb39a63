"""A small Kaldi data folder to import and to spoil: two speakers, wav, flac and sphere files, one of them at 8 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

SECONDS = 1.25
FILES = {"a-1": ("a-1.wav", 16000), "a-2": ("a 2.flac", 44100), "b-1": ("b-1.sph", 8000)}


def write_audio(path: Path, rate: int = 16000, seconds: float = SECONDS, channels: int = 1) -> None:
    """Noise, 16 bit; each channel another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(-3000, 3000, (round(seconds * rate), channels), dtype=np.int16)
    form = {".sph": "NIST", ".flac": "FLAC", ".wav": "WAV"}[path.suffix]
    soundfile.write(path, noise, rate, subtype="PCM_16", format=form)


def put(folder: Path, **tables: str) -> None:
    """Write tables; 'wav_scp' is wav.scp."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (folder / name.replace("_", ".")).write_text(content)


def write_kaldi(folder: Path) -> Path:
    """The folder with its audio below `folder`/audio, named by absolute paths; one entry is a flac command."""
    audio = folder / "audio"
    for name, rate in FILES.values():
        write_audio(audio / name, rate)
    put(
        folder,
        wav_scp=f"a-1 {audio}/a-1.wav\na-2 flac -c -d -s '{audio}/a 2.flac' |\nb-1 sph2pipe -f wav {audio}/b-1.sph |\n",
        text="a-1 HELLO WORLD\na-2 HELLO\nb-1 THE  WORLD\n",
        utt2spk="a-1 a\na-2 a\nb-1 b\n",
        spk2utt="a a-1 a-2\nb b-1\n",
    )
    return folder


def write_segmented(folder: Path) -> Path:
    """Two speakers in one stereo recording, a channel each, and a mono one that is used to its end."""
    write_audio(folder / "audio" / "talk.wav", 8000, 4.0, 2)
    write_audio(folder / "audio" / "mono.flac", 22050, 3.0)
    put(
        folder,
        wav_scp=f"mono {folder}/audio/mono.flac\ntalk {folder}/audio/talk.wav\n",
        segments="a-1 talk 0.000 1.3333 0\na-2 talk 2.1 4.2 0\nb-1 talk 1.25 2.5 1\nc-1 mono 0.123456 -1\n",
        text="a-1 HELLO\na-2 WORLD\nb-1 HELLO WORLD\nc-1 THE WORLD\n",
        utt2spk="a-1 a\na-2 a\nb-1 b\nc-1 c\n",
        reco2dur="mono 3.00\ntalk 4.0\n",
        utt2dur="a-1 1.33\na-2 2.1\nb-1 1.25\nc-1 2.88\n",
    )
    return folder
