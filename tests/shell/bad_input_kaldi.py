"""Bad Kaldi data folders, one case each: the fault, and the expected message of the import or export.

Each change writes a valid folder `kaldi` (or data folder) into the world first, so that no other test has to make one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from bad_input_changes import Case
from bad_input_data import STEPS
from kaldi_data import put, write_audio, write_kaldi, write_segmented

from kdtool.core.tables import write_jsonl

STEPS["import"] = ("kdtool.corpus.kaldi_import", ["kaldi", "OUT"])
STEPS["export"] = ("kdtool.corpus.kaldi_export", ["exported", "OUT"])
KIND = "Kaldi data folder"


def table(name: str, content: str | bytes) -> Callable[[Path], object]:
    """A valid folder in which one table is another; AUDIO in it is the folder of the audio."""

    def change(world: Path) -> None:
        folder = write_kaldi(world / "kaldi")
        text = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(text.replace(b"AUDIO", str(folder / "audio").encode()))

    return change


def segments(line: str) -> Callable[[Path], object]:
    """A valid folder with segments, one of whose lines is another."""

    def change(world: Path) -> None:
        folder = write_segmented(world / "kaldi")
        lines = {text.split()[0]: text for text in (folder / "segments").read_text().splitlines()}
        lines[line.split(maxsplit=1)[0]] = line
        put(folder, segments="".join(f"{text}\n" for text in lines.values()))

    return change


def spoil(what: Callable[[Path], object], write: Callable[[Path], Path] = write_kaldi) -> Callable[[Path], object]:
    """A valid folder and something done to it."""
    return lambda world: what(write(world / "kaldi"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def data_folder(**changed: object) -> Callable[[Path], object]:
    """A data folder to export whose rows have other values: supervision_... and recording_..."""

    def change(world: Path) -> None:
        folder = world / "exported"
        folder.mkdir()
        write_audio(world / "a.wav", seconds=1.0)
        source = {"type": "file", "channels": [0], "source": str(world / "a.wav")}
        rows = {
            "supervisions": {"id": "a-1", "recording_id": "r", "start": 0.0, "duration": 1.0, "channel": 0, "text": "A", "speaker": "a"},
            "recordings": {"id": "r", "sources": [source], "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0},
        }
        for name, value in changed.items():
            manifest, _, key = name.partition("_")
            rows[manifest + "s"][key] = value
        other = {**rows["supervisions"], "id": "b-1", "speaker": "b", "recording_id": "r"}
        write_jsonl(folder / "supervisions.jsonl.gz", [rows["supervisions"], other])
        write_jsonl(folder / "recordings.jsonl.gz", [rows["recordings"]])

    return change


SCP = "a-1 AUDIO/a-1.wav\na-2 AUDIO/a-1.wav\nb-1 {}\n"
IMPORTS = [
    ("missing folder", lambda w: None, ["kaldi: no such folder", "give a Kaldi data folder"]),
    ("no wav.scp", spoil(lambda k: (k / "wav.scp").unlink()), ["wav.scp: no such file"]),
    ("no utt2spk", spoil(lambda k: (k / "utt2spk").unlink()), ["utt2spk: no such file", "awk '{print $1, $1}'"]),
    ("empty text", table("text", ""), ["text: no lines in it"]),
    ("empty transcript", table("text", "a-1 HELLO\na-2\nb-1 B\n"), ["a-2: its transcript is empty", "add the words"]),
    ("duplicate utterance", table("text", "a-1 A\na-2 B\na-1 C\nb-1 D\n"), ["text, line 3: a-1 stands in line 1", "remove one"]),
    ("duplicate recording", table("wav.scp", SCP.format("x") + "a-1 y\n"), ["wav.scp, line 4: a-1 stands in line 1"]),
    ("id with a slash", table("utt2spk", "a/1 a\n"), ["utt2spk, line 1: the id 'a/1' holds a slash", "rename it in all files"]),
    ("id that leads out", table("utt2spk", "../../x a\n"), ["utt2spk, line 1: the id '../../x' holds a slash"]),
    ("speaker with a slash", table("utt2spk", "a-1 a/b\na-2 a\nb-1 b\n"), ["utterance a-1 has speaker a/b in utt2spk and a in spk2utt"]),
    ("line without a value", table("utt2spk", "a-1\n"), ["utt2spk, line 1: a-1 has no value"]),
    ("missing speaker", spoil(lambda k: [put(k, utt2spk="a-1 a\nb-1 b\n"), (k / "spk2utt").unlink()]),
     ["a-2: ", "text, line 2 has it, utt2spk not", "add a line there"]),
    ("missing transcript", table("text", "a-1 A\nb-1 B\n"), ["a-2: ", "utt2spk, line 2 has it, text not"]),
    ("transcript without audio", table("text", "a-1 A\na-2 B\nb-1 B\nc-1 C\n"), ["c-1: ", "text, line 4 has it, utt2spk and wav.scp not"]),
    ("spk2utt says another speaker", table("spk2utt", "a a-1\nb a-2 b-1\n"), ["utterance a-2 has speaker a in utt2spk and b in spk2utt"]),
    ("spk2utt lacks an utterance", table("spk2utt", "a a-1 a-2\n"), ["b-1 has speaker b in utt2spk and none in spk2utt", "remove it"]),
    ("two speakers of one utterance", table("spk2utt", "a a-1 a-2\nb b-1 a-1\n"), ["spk2utt, line 2: utterance a-1 has speaker a as well"]),
    ("not UTF-8", table("text", b"a-1 \xe9\na-2 caf\xe9\nb-1 B\n"), ["text, line 1: not UTF-8 (byte 0xe9", "iconv"]),
    ("one transcript not UTF-8", table("text", b"a-1 A\na-2 caf\xe9\nb-1 B\n"), ["a-2: ", "text, line 2: 'caf\\xe9' is not UTF-8"]),
    ("id not UTF-8", table("text", b"a-1 A\na-\xe9 B\nb-1 B\n"), ["text, line 2: not UTF-8 (byte 0xe9", "iconv"]),
    ("file name not UTF-8", table("wav.scp", SCP.encode().replace(b"{}", b"caf\xe9.wav")),
     ["b-1: ", "wav.scp, line 3: ", "caf\\xe9.wav: its name is not UTF-8", "rename it"]),
    ("UTF-16", table("text", "a-1 A\na-2 B\nb-1 C\n".encode("utf-16")), ["text: not UTF-8 but UTF-16", "iconv -f UTF-16"]),
    ("markup in a transcript", table("text", "a-1 A\na-2 <i>B</i>\nb-1 C\n"),
     ["a-2: ", "text, line 2: '<i>B</i>' holds markup (<i>)", "give the words alone"]),
    ("entity in a transcript", table("text", "a-1 A\na-2 B &amp; C\nb-1 C\n"), ["text, line 2: 'B &amp; C' holds markup (&amp;)"]),
    ("transcript of punctuation", table("text", "a-1 A\na-2 - ...\nb-1 C\n"),
     ["2 x token of punctuation alone left out", "a-2: its transcript is empty"]),
    ("transcript without blanks", table("text", "a-1 A\na-2 " + "x" * 101 + "\nb-1 C\n"),
     ["text, line 2: a word of 101 characters", "put blanks"]),
    ("audio file missing", table("wav.scp", SCP.format("AUDIO/none.wav")), ["b-1: ", "wav.scp, line 3: no such file", "none.wav"]),
    ("relative path", table("wav.scp", SCP.format("audio/none.wav")), ["relative paths count from", "--relative-to"]),
    ("truncated audio", spoil(lambda k: cut(k / "audio/a 2.flac")), ["a-2: ", "a 2.flac", "fetch it again"]),
    ("empty audio", spoil(lambda k: (k / "audio/a-1.wav").write_bytes(b"")), ["a-1.wav is empty (0 bytes)"]),
    ("stereo", spoil(lambda k: write_audio(k / "audio/a-1.wav", channels=2)), ["a-1.wav has 2 channels", "fifth column", "sox IN"]),
    ("rate too low", spoil(lambda k: write_audio(k / "audio/a-1.wav", 6000)), ["a-1.wav has 6000 Hz, less than 8000"]),
    ("command in wav.scp", table("wav.scp", SCP.format("sox AUDIO/b.wav -t wav - |")),
     ["wav.scp, line 3: recording b-1 is a command that would be run", "1 of 3", "--allow-pipes true"]),
    ("command behind a decoder", table("wav.scp", SCP.format("flac -c -d -s a.flac; touch touched |")), ["is a command that would be run"]),
    ("archive in wav.scp", table("wav.scp", SCP.format("raw.ark:123")), ["is a place in an archive (raw.ark:123)", "wav-copy"]),
    ("standard input in wav.scp", table("wav.scp", SCP.format("-")), ["recording b-1 is '-', which is no file"]),
    ("transcript of other audio", table("text", f"a-1 {'WORD ' * 20}\na-2 A\nb-1 B\n"), ["99 characters of transcript for 1.25 s"]),
    ("wrong reco2dur", table("reco2dur", "a-1 9.5\n"), ["a-1 has 1.250 s of audio, reco2dur says 9.500 s", "remove reco2dur"]),
    ("wrong utt2dur", table("utt2dur", "a-1 0.5\n"), ["wav.scp, line 1: it has 1.250 s, utt2dur says 0.500 s"]),
    ("reco2dur without a number", table("reco2dur", "a-1 long\n"), ["reco2dur, line 1: 'long' is no time in seconds"]),
    ("segment of an unknown recording", segments("a-1 other 0 1"), ["segments, line 1: its recording other is not in wav.scp"]),
    ("segment beyond the recording", segments("a-1 talk 3.5 4.8 0"),
     ["it ends at 4.800 s, its recording talk at 4.000 s", "--max-overshoot 0.5"]),
    ("segment after the recording", segments("a-1 talk 4.5 4.6 0"), ["4.5 s to 4.6 s is no part of talk, which has 4.000 s"]),
    ("segment that ends before it begins", segments("a-1 talk 2 1 0"), ["2 s to 1 s is no part of talk"]),
    ("segment before the recording", segments("a-1 talk -1 1 0"), ["-1 s to 1 s is no part of talk"]),
    ("too short a segment", segments("a-1 talk 1 1.05 0"), ["0.050 s, less than 0.1 s"]),
    ("segment with three fields", segments("a-1 talk 0"), ["'a-1 talk 0' is not 'utterance recording start end [channel]'"]),
    ("segment with a word for a time", segments("a-1 talk 0 end"), ["segments, line 1: 'end' is no time in seconds"]),
    ("segment of stereo without a channel", segments("a-1 talk 0 1"), ["talk.wav has 2 channels", "fifth column of segments"]),
    ("segment of a channel that is not there", segments("a-1 talk 0 1 2"), ["channel 2 of", "talk.wav, which has 2"]),
]  # fmt: skip
EXPORTS = [
    ("no data folder", lambda w: shutil.rmtree(w / "exported", ignore_errors=True), ["recordings.jsonl.gz is missing"]),
    ("id with a blank", data_folder(supervision_id="a 1"), ["exported is not fit to work with", "bad-id: 1 x", "'a 1' holds a blank"]),
    ("utterance of an unknown recording", data_folder(supervision_recording_id="q"), ["no-recording: 1 x", "a-1 (recording q)"]),
    ("command as a source", data_folder(recording_sources=[{"type": "command", "channels": [0], "source": "touch touched"}]),
     ["audio-source: 1 x", "commands are not run"]),
    ("audio with its own speed", data_folder(recording_transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}]),
     ["recording r is not one audio file as it is"]),
    ("utterances out of their speakers' order", data_folder(supervision_speaker="z"), ["a-1 of speaker z sorts before b-1 of b",
                                                                                        "--prefix-speakers true"]),
]  # fmt: skip
FAILING = ("b-1 sh -c 'echo broken >&2; exit 3' |", ["b-1: ", "failed with exit status 3 (broken)", "run it by hand"])
CASES = [
    *(Case(KIND, name, "import", change, words) for name, change, words in IMPORTS),
    *(Case(KIND, f"export: {name}", "export", change, words) for name, change, words in EXPORTS),
    Case(KIND, "command that fails", "import", table("wav.scp", SCP.rpartition("b-1")[0] + FAILING[0] + "\n"), FAILING[1],
         ["--allow-pipes", "true"]),
    Case(KIND, "command without audio", "import", table("wav.scp", SCP.format("echo hello |")), ["wrote 6 bytes that are no audio"],
         ["--allow-pipes", "true"]),
    Case(KIND, "unknown folder of relative paths", "import", spoil(lambda k: None), ["--relative-to /nowhere"],
         ["--relative-to", "/nowhere"], 2),
]  # fmt: skip
