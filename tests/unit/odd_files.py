"""Random folders of good and broken files for the aligner and the import.  Out: the files, and which of them must come out.

Every kind of bad audio, bad text and odd name stands in a table; an entry is drawn from one audio, one text and one name.
`python odd_files.py BYTES MODULE ARGUMENT ..` runs a step, its jobs in the same process, with a limit on the size of files (0: none).
"""

from __future__ import annotations

import importlib
import os
import random
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gmm_data
import numpy as np
import soundfile

from kdtool.formats.tree import Tree
from kdtool.gmm import fmllr
from kdtool.gmm.feats import FrontEnd
from kdtool.gmm.folder import save_gmm
from kdtool.gmm.model import DiagGmm
from kdtool.lang.lang import Lang

RATE = 16000
SOUND = np.random.default_rng(0).standard_normal(8000) * 0.1  # half a second
WORDS = sorted(set(gmm_data.LEXICON) - {"<UNK>"})
Put = Callable[[Path], object]


def write_model(folder: Path) -> Path:
    """A GMM of speaker-adapted MFCC that has learned nothing, and its lang folder: alignment with it takes no time."""
    gmm_data.write_lang(folder / "lang")
    lang = Lang.load(folder / "lang")
    tree, rng = Tree.monophone(lang.num_states), np.random.default_rng(1)
    means = rng.standard_normal((tree.num_pdfs, 13))
    model = DiagGmm(means, np.ones(means.shape), np.ones(len(means)), np.arange(len(means) + 1), tree.digest)
    how = fmllr.Adaptation(fmllr.expected(model, np.ones(len(means))), 200.0, 0.0)
    save_gmm(folder, model, tree, lang, FrontEnd("16 kHz mfcc", 13, adapted=True), [], first=model, adaptation=how)
    return folder


def sound(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16") -> Put:
    """Writes audio under the given name, whatever its suffix."""
    return lambda path: soundfile.write(path.open("wb"), samples, rate, format=kind, subtype=subtype)


def content(data: bytes) -> Put:
    return lambda path: path.write_bytes(data)


def cut(path: Path) -> None:
    sound(np.tile(SOUND, 4), kind="FLAC")(path)
    path.write_bytes(path.read_bytes()[:9000])


def cut_wav(path: Path) -> None:
    sound(SOUND)(path)
    path.write_bytes(path.read_bytes()[:9000])


def listen(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket has room for 100 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("s")
        os.rename("s", path.name)
    finally:
        os.chdir(here)


NOT_FILES: dict[str, Put] = {
    "folder": lambda p: p.mkdir(), "FIFO": os.mkfifo, "socket": listen, "link to nowhere": lambda p: p.symlink_to("not there"),
    "link to itself": lambda p: p.symlink_to(p.name),
}  # fmt: skip
GOOD_AUDIO: dict[str, Put] = {
    "wav": sound(SOUND), "8 kHz": sound(SOUND[:4000], 8000), "stereo": sound(np.stack([SOUND, -0.5 * SOUND], axis=1)),
    "flac": sound(SOUND, kind="FLAC"), "24 bit": sound(SOUND, subtype="PCM_24"), "float": sound(SOUND, subtype="FLOAT"),
    "mu-law": sound(SOUND, subtype="ULAW"), "near silence": sound(np.eye(1, 8000, 99)[0] / 32768),
    "long": sound(np.tile(SOUND, 20)),
    "link": lambda p: (sound(SOUND)(p.with_name(f".{p.name}"[:90])), p.symlink_to(f".{p.name}"[:90])),
}  # fmt: skip
BAD_AUDIO: dict[str, Put] = {
    "empty": content(b""), "text": content(b"hello, no audio"), "header only": content(b"RIFF\x24\0\0\0WAVEfmt "), "cut": cut,
    "not a number": sound(np.where(np.arange(8000) == 4321, np.nan, SOUND), subtype="FLOAT"), "cut wav": cut_wav,
    "zeros": sound(np.zeros(8000)), "constant": sound(np.full(8000, 0.25)), "short": sound(SOUND[:100]), **NOT_FILES,
}  # fmt: skip
GOOD_TEXT: dict[str, bytes] = {
    "words": b"ABBA KA", "one word": b"KA", "unknown": b"[laughter]", "digits": b"42", "Chinese": "\u4f60\u597d".encode(),
    "mixed": b"ka, [noise] abba!\r\n", "byte order mark": b"\xef\xbb\xbfKA", "accents": "ab\u00e9ba".encode(),
}  # fmt: skip
BAD_TEXT: dict[str, Put] = {
    "no words": content(b" \n\t"), "punctuation": content(b"... - !"), "empty": content(b""), "not UTF-8": content(b"caf\xe9 KA"),
    "too long": content(b"ABBA BAS SSK " * 40), **NOT_FILES,
}  # fmt: skip
NAMES = (
    "plain {}", "{}", "quote'\"{}", "-dash {}", "tab\t{}", "newline\n{}", "return\r{}", "bell\a{}", "dot {}.", "\u8b1b" * 78 + "{}",
    "x" * 244 + "{}", "nfc \u00e9 {}", "nfd e\u0301 {}", "\u3000{}", "\U0001f600 {}", "% $(touch x) `y` {}", "back\\slash {}", ";; {}",
    "<b>&amp; {}", "sub/{}", "sub/x.json/{}", "\u202egnp {}", "\u2028{}", "{} ~", "a,b;c {}", "*?[{}]", "COM1 {}", "{}.wav",
)  # fmt: skip


def in_this_process(module: str, argv: Sequence[str], *, nj: int, **_: Any) -> None:
    """Replaces run_array: starting Python takes a hundred times as long as such a job."""
    for job in range(1, nj + 1):
        importlib.import_module(module).main([*argv, "--job", str(job), "--num-jobs", str(nj)])


@dataclass
class Folder:
    """good: names that must come out; bad: names that must be in dropped.tsv, with the kind of fault."""

    path: Path
    good: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)


def put(path: Path, what: Put) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    what(path)


def random_folder(path: Path, rng: random.Random, count: int) -> Folder:
    """Audio with its text beside it."""
    made = Folder(path)
    path.mkdir()
    for number in range(count):
        name = rng.choice(NAMES).format(f"{number:02d}")
        kind = rng.choice(["good", "good", "bad audio", "bad text", "no text", "no audio", "two texts", "bad name"])
        if kind == "bad name":
            name = os.fsdecode(f"caf{number}".encode() + b"\xe9")
        audio = rng.choice(sorted(BAD_AUDIO)) if kind == "bad audio" else rng.choice(sorted(GOOD_AUDIO))
        text = rng.choice(sorted(BAD_TEXT)) if kind == "bad text" else rng.choice(sorted(GOOD_TEXT))
        if kind == "bad text" and text == "too long":
            audio = "wav"
        if kind != "no audio":
            put(path / f"{name}.wav", {**GOOD_AUDIO, **BAD_AUDIO}[audio])
        if kind != "no text":
            put(path / f"{name}.txt", BAD_TEXT[text] if kind == "bad text" else content(GOOD_TEXT[text]))
        if kind == "two texts":
            put(path / f"{name}.lab", content(b"KA"))
        if kind == "good":
            made.good.append(name)
        else:
            made.bad[name] = f"{kind}: {audio}, {text}"
    add_twins(made, rng)
    return made


def add_twins(made: Folder, rng: random.Random) -> None:
    """Names that some disk takes for one, an accent written in two ways, what is no audio at all, and a folder without end."""

    def good(*names: str) -> None:
        for name in names:
            put(made.path / f"{name}.wav", GOOD_AUDIO["wav"])
            put(made.path / f"{name}.txt", content(b"KA"))
            made.good.append(name)

    extras: list[Callable[[], object]] = [
        lambda: good("Twin", "twin", "TWIN"), lambda: good("\u00e9 two", "e\u0301 two"), lambda: good("y.json/z", "y", "y.TextGrid/z"),
        lambda: (good("o\u0308"), (made.path / "o\u0308.txt").rename(made.path / "\u00f6.txt")),
        lambda: ((made.path / "loop.d").symlink_to("."), made.bad.update({"loop.d": "folder without end"})),
        lambda: (os.mkfifo(made.path / "notes"), put(made.path / "readme.md", content(b"\xff")), put(made.path / ".x.wav", content(b""))),
        lambda: (good("pair"), os.mkfifo(made.path / "pair.flac"), made.bad.update({"pair.flac": "beside a good pair"})),
    ]  # fmt: skip
    for extra in rng.sample(extras, rng.randint(0, 3)):
        extra()


def random_librispeech(path: Path, rng: random.Random, count: int) -> Folder:
    """Transcripts in *.trans.txt files, audio anywhere below."""
    made, lines = Folder(path), ["1-1-first KA"]
    put(path / "1" / "1-1-first.flac", GOOD_AUDIO["flac"])
    made.good.append("1-1-first")
    for number in range(count):
        name = f"{number % 2}-1-{number:04d}"
        kind = rng.choice(["good", "good", "bad audio", "no text", "no line", "no audio", "two lines", "two files"])
        audio = rng.choice(sorted(BAD_AUDIO)) if kind == "bad audio" else rng.choice(sorted(GOOD_AUDIO))
        if kind != "no audio":
            put(path / name[0] / f"{name}.flac", {**GOOD_AUDIO, **BAD_AUDIO}[audio])
        if kind == "two files":
            put(path / "more" / f"{name}.flac", GOOD_AUDIO["flac"])
        said = "" if kind == "no text" else rng.choice(["ABBA KA", "[NOISE]", "42"])
        lines += [f"{name} {said}"] * {"no line": 0, "two lines": 2}.get(kind, 1)
        if kind == "good":
            made.good.append(name)
        else:
            made.bad[name] = f"{kind}: {audio}"
    rng.shuffle(lines)
    put(path / "1" / "1-1.trans.txt", content("".join(f"{line}\n" for line in lines[:3]).encode()))
    put(path / "2" / "2.trans.txt", content("".join(f"{line}\n" for line in lines[3:]).encode()))
    if rng.random() < 0.3:
        put(path / "3" / "bad.trans.txt", content("3-1-0000 KA".encode("utf-16")))
        made.bad["3/bad.trans.txt"] = "UTF-16"
    if rng.random() < 0.3:
        put(path / "3" / "latin.trans.txt", content(b"4-1-0000 KA\n4-1-0001 caf\xe9\n4-1-0002 KA\n"))
        for n in range(3):
            put(path / "4" / f"4-1-000{n}.flac", GOOD_AUDIO["flac"])
        made.good += ["4-1-0000", "4-1-0002"]
        made.bad["4-1-0001"] = "not UTF-8"
    return made


def random_kaldi(path: Path, rng: random.Random, count: int) -> Folder:
    """A Kaldi data folder, its audio outside of it; faults of a single utterance only."""
    made, tables = Folder(path), {name: [] for name in ("wav.scp", "text", "utt2spk")}
    path.mkdir()
    for number in range(count):
        utt, speaker = f"s{number % 3}-{number:02d}", f"s{number % 3}"
        # A table without any line is a fault of the whole folder.
        kind = rng.choice(["good", "good", "bad audio", "bad text", "missing", "long path", *["lacking"] * (number > 0)])
        audio = rng.choice(sorted(BAD_AUDIO)) if kind == "bad audio" else rng.choice(sorted(set(GOOD_AUDIO) - {"stereo"}))
        said = rng.choice(["", "ABBA " * 20]) if kind == "bad text" else rng.choice(["ABBA KA", "[LAUGHTER]", "42", "KA"])
        audio = "wav" if kind == "bad text" else audio
        name = rng.choice([n for n in NAMES if not set(n) & set("\n\r")]).format(f"{number:02d}").strip()
        file = path.with_name(path.name + " audio") / (f"{'z' * 300}.wav" if kind == "long path" else f"{name}.wav")
        if kind not in ("missing", "long path"):
            put(file, {**GOOD_AUDIO, **BAD_AUDIO}[audio])
        rows = {"wav.scp": f"{utt} {file}", "text": f"{utt} {said}", "utt2spk": f"{utt} {speaker}"}
        if kind == "lacking":
            del rows[rng.choice(sorted(rows))]
        for table, row in rows.items():
            tables[table].append(row + "\n")
        if kind == "good":
            made.good.append(utt)
        else:
            made.bad[utt] = f"{kind}: {audio}, {said[:10]}"
    for name, rows in tables.items():
        (path / name).write_text("".join(rows))
    return made


def main() -> None:
    from kdtool.core.cli import cli_main
    from kdtool.features import extract

    limit, module = int(sys.argv[1]), importlib.import_module(sys.argv[2])
    extract.run_array = in_this_process  # type: ignore[assignment]
    importlib.import_module("kdtool.core.jobs").run_array = in_this_process
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    cli_main(lambda: module.main(sys.argv[3:]))


if __name__ == "__main__":
    main()
