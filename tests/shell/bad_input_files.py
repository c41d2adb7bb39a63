"""Files that cannot be aligned or imported, one case each; beside good ones each is a row of dropped.tsv (test_one_bad_file.py).

Here a file stands alone, so that nothing is left and the command ends with the reason. Names, permissions, disks.
"""

from __future__ import annotations

import os
from pathlib import Path

from bad_input_changes import Case, Change
from bad_input_data import STEPS
from bad_input_kaldi import SCP, spoil, table
from odd_files import BAD_AUDIO, GOOD_AUDIO, NOT_FILES, content, put

STEPS["aligner"] = ("kdtool.aligner.align", ["wavs", "=--model", "model", "=--out", "OUT", "=--g2p", "=false"])
ALIGNED, IMPORTED, DISK = "file to align", "recording to import", "full disk"
TEXT = content(b"ABBA KA")


def files(audio: Change | None = GOOD_AUDIO["wav"], text: Change | None = TEXT, name: str = "a") -> Change:
    """A folder with one audio file and its text."""

    def change(world: Path) -> None:
        (world / "wavs").mkdir()
        for what, suffix in ((audio, ".wav"), (text, ".txt")):
            if what:
                put(world / "wavs" / f"{name}{suffix}", what)

    return change


def both(*changes: Change) -> Change:
    return lambda world: [change(world) for change in changes]


ALIGNMENTS = [
    ("no files", lambda w: (w / "wavs").mkdir(), ["wavs: no audio", "check the path"]),
    ("name that is not UTF-8", files(name=os.fsdecode(b"caf\xe9")), ["caf\\xe9: ", "its name is not UTF-8", "convmv"]),
    ("audio without text", files(text=None), ["a: ", "a.wav has no text beside it", "remove the audio"]),
    ("text without audio", files(None), ["a: ", "a.txt has no audio file beside it", "remove the text"]),
    ("two texts", both(files(), lambda w: put(w / "wavs/a.lab", TEXT)), ["a: which of a.lab, a.txt counts?", "keep one"]),
    ("text without words", files(text=content(b" ... \n")), ["a: its text holds no words", "write down what is said"]),
    ("text that is not UTF-8", files(text=content(b"caf\xe9")), ["a: ", "a.txt, line 1: not UTF-8", "iconv"]),
    ("audio that is a folder", files(NOT_FILES["folder"]), ["a.wav beside it is a folder", "add the audio"]),
    *((f"audio that is a {kind}", files(NOT_FILES[kind]), ["a.wav: ", words])
      for kind, words in (("FIFO", "a FIFO (named pipe), not a file"), ("socket", "a socket, not a file"),
                          ("link to nowhere", "which is not there"), ("link to itself", "Too many levels"))),
    *((f"text that is a {kind}", files(text=NOT_FILES[kind]), ["a.txt: ", words])
      for kind, words in (("FIFO", "a FIFO (named pipe), not a file"), ("link to nowhere", "which is not there"))),
    ("folder in itself", lambda w: (w / "wavs").mkdir() or (w / "wavs/loop").symlink_to("."), ["loop: ", "no end to what is below"]),
    *((f"audio that is {kind}", files(BAD_AUDIO[kind]), ["a: ", "a.wav", words])
      for kind, words in (("empty", "empty (0 bytes)"), ("zeros", "silent"), ("constant", "silent"), ("short", "100 samples"),
                          ("text", "cannot be decoded"), ("cut", "a.wav"))),
]  # fmt: skip
IMPORTS = [
    *((f"audio that is a {kind}", both(spoil(lambda k: None), lambda w, k=kind: [(w / "kaldi/audio/a-1.wav").unlink(),
                                                                              NOT_FILES[k](w / "kaldi/audio/a-1.wav")]),
       ["a-1: ", "wav.scp, line 1: ", words])
      for kind, words in (("folder", "it is a folder, not a file"), ("FIFO", "a FIFO (named pipe), not a file"),
                          ("link to nowhere", "which is not there"))),
    ("path too long", table("wav.scp", SCP.format(f"AUDIO/{'x' * 300}.wav")), ["b-1: ", "wav.scp, line 3: ", "File name too long"]),
    ("table that is a FIFO", both(spoil(lambda k: (k / "text").unlink()), lambda w: os.mkfifo(w / "kaldi/text")),
     ["text: it is a FIFO (named pipe), not a file"]),
]  # fmt: skip
# Limit on the size of files, which ends a write as a full disk does; what the message says.
FULL = [
    ("while audio is copied for an alignment", 9000, ["temporary/audio/000000", "File too large"]),
    ("while an alignment is written", 20000, ["report.html: File too large", "run the same command again"]),
]
CASES = [
    *(Case(ALIGNED, name, "aligner", change, words) for name, change, words in ALIGNMENTS),
    Case(ALIGNED, "model folder that is not there", "aligner", both(files(), lambda w: (w / "model").rename(w / "elsewhere")),
         ["model: no such folder", "give the GMM folder of a finished recipe"], status=2),
    *(Case(IMPORTED, name, "import", change, words) for name, change, words in IMPORTS),
]
DISKS = [Case(DISK, name, "aligner", files(), words, [str(limit)]) for name, limit, words in FULL]
