"""The audio behind wav.scp.  In: an entry.  Out: a readable file, or a fault.

An entry is a path or a command that ends in '|'. The usual commands (flac -d, sph2pipe, cat: they decode one file) are replaced by
reading the file; nothing is run. Any other command is refused unless pipes are allowed; then its output is decoded into a file
of the data folder, so that it never runs again.
"""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtool.audio.reader import AudioFile, Sound, check, open_audio
from kdtool.core.errors import KdError
from kdtool.core.sound import write_fault, write_sound
from kdtool.corpus.kaldi_dir import Table

META = re.compile(r"[$`;&|<>*?~(){}\[\]!#\\\n]")  # characters that a shell changes
IN_ARCHIVE = re.compile(r"(.+):\d+")
SPH2PIPE = re.compile(r"(-p\0|-f\0(wav|riff|sph)\0|-c\0[12]\0)*")  # options that change no sample but choose a channel
SMALL_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"}  # fit into 16 bits
EXACT = {*SMALL_SUBTYPES, "PCM_24", "PCM_32"}


@dataclass(frozen=True)
class Entry:
    """A recording in wav.scp: the file to read and its channel (None: the only one), or a command to run."""

    id: str
    where: str
    file: Path | None
    channel: int | None = None
    command: str = ""
    relative: bool = False


def read_entries(table: Table, base: Path) -> list[Entry]:
    """All entries, sorted by id; relative paths start at `base`."""
    return [_entry(name, table.rows[name].value, table.where(name), base) for name in sorted(table.rows)]


def _entry(name: str, value: str, where: str, base: Path) -> Entry:
    if not value.endswith("|"):
        if value == "-" or value.startswith("|"):
            raise KdError(f"{where}: recording {name} is {value!r}, which is no file; write its audio to one and name that")
        if IN_ARCHIVE.fullmatch(value) and not (base / value).exists():
            raise KdError(f"{where}: recording {name} is a place in an archive ({value}); write its audio to a file (wav-copy) first")
        return Entry(name, where, base / value, relative=not Path(value).is_absolute())
    command = value.removesuffix("|").strip()
    if (known := recognise(command)) is None:
        return Entry(name, where, None, command=command, relative=True)
    return Entry(name, where, base / known[0], known[1], command, relative=not Path(known[0]).is_absolute())


def recognise(command: str) -> tuple[str, int | None] | None:
    """(file, channel or None) of a command that only decodes one file; None for any other command."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    # A shell would expand what is not quoted; our export quotes where needed.
    if len(words) < 2 or (META.search(command) and shlex.join(words) != command):
        return None
    tool, options, file = words[0].rsplit("/", 1)[-1], words[1:-1], words[-1]
    if file.startswith("-"):
        return None
    if tool == "sph2pipe" and SPH2PIPE.fullmatch(text := "".join(f"{o}\0" for o in options)):
        channels = re.findall(r"-c\0([12])", text)
        return file, int(channels[-1]) - 1 if channels else None
    if tool == "flac":  # the options say 'decode to standard output' and nothing else
        letters = {"--stdout": "c", "--decode": "d", "--silent": "s", "--totally-silent": "s"}
        short = "".join(letters.get(o, o.removeprefix("-") if re.fullmatch(r"-[cds]+", o) else "?") for o in options)
        return (file, None) if {"c", "d"} <= set(short) <= set("cds") else None
    return (file, None) if tool == "cat" and not options else None


def refuse_commands(entries: Sequence[Entry]) -> None:
    """KdError when an entry is a command that would have to be run."""
    commands = [e for e in entries if e.file is None]
    if commands:
        first = commands[0]
        raise KdError(f"{first.where}: recording {first.id} is a command that would be run: {first.command[:100]!r} ({len(commands)} "
                      f"of {len(entries)} recordings are); read wav.scp, then allow it with --allow-pipes true, or name files")  # fmt: skip


def run_command(command: str, target: Path, folder: Path) -> str:
    """Run a wav.scp command in `folder` and write its audio to `target` (FLAC, lossless); '' or what went wrong. Its raw output and
    its tools' temporary files lie beside `target` meanwhile. Raises OSError: the disk is full, which is no fault of the recording."""
    with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as temporary:
        raw = Path(temporary) / "output"
        with open(raw, "wb") as f:
            done = subprocess.run(
                ["bash", "-p", "-o", "pipefail", "-c", command], cwd=folder, env={**os.environ, "TMPDIR": temporary},
                stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.PIPE, check=False,
            )  # fmt: skip
        if error := write_fault(raw):  # the command may not have noticed or reported it
            raise error
        if done.returncode:
            error_line = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            return f"its command failed with exit status {done.returncode} ({error_line[0][:200]}); run it by hand: {command[:200]}"
        try:
            sound = check(raw)
            with open_audio(raw) as audio:
                bits = 16 if sound.coding in SMALL_SUBTYPES else 24
                write_sound(target, _integers(audio, sound, bits - 1), sound.rate, sound.channels, subtype=f"PCM_{bits}", kind="FLAC")
        except KdError as e:
            fault = str(e).replace(f"{raw} ", "")
            return (f"its command wrote {raw.stat().st_size} bytes that are no audio, or not all of it ({fault}); run it by hand: "
                    f"{command[:200]}")  # fmt: skip
    return ""


def _integers(audio: AudioFile, sound: Sound, bits: int) -> Iterator[Any]:
    """The samples as integers of 16 or 32 bits, `bits` plus sign of them used; scaled down where they exceed full scale."""
    import numpy as np

    top = max(1.0, -(sound.low or 0.0), sound.high or 0.0) if sound.coding not in EXACT else 1.0
    for block in audio.blocks():
        numbers = np.clip(np.rint(block.astype(np.float64) / top * (1 << bits)), -(1 << bits), (1 << bits) - 1).astype(np.int32)
        yield numbers.astype(np.int16) if bits == 15 else numbers << 8
