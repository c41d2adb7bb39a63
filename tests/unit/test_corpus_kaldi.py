"""Kaldi data folders in and out: import and export agree to the sample, and nothing runs unless that is allowed."""

from __future__ import annotations

import shlex
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kaldi_data import FILES, SECONDS, put, write_audio, write_kaldi, write_segmented

from kdtool.core.errors import KdError, UsageError
from kdtool.core.findings import Level
from kdtool.core.inputs import validate
from kdtool.core.tables import read_jsonl, read_lines, write_jsonl
from kdtool.corpus import kaldi_export, kaldi_import
from kdtool.corpus.kaldi_audio import recognise
from kdtool.corpus.kaldi_export import decimal_seconds
from kdtool.formats.rows import id_fault
from kdtool.text.marks import transcript, words_fault


def rows(data: Path, name: str = "supervisions") -> list[dict[str, Any]]:
    return list(read_jsonl(data / f"{name}.jsonl.gz"))


def load(folder: Path, out: Path, *options: str) -> Path:
    kaldi_import.main([str(folder), str(out), "--nj", "1", *options])
    return out


def export(data: Path, out: Path, *options: str) -> Path:
    kaldi_export.main([str(data), str(out), *options])
    return out


def test_files_of_any_rate_and_format_come_in_without_a_command_being_run(tmp_path: Path) -> None:
    data = load(write_kaldi(tmp_path / "k"), tmp_path / "data")
    assert [(s["id"], s["speaker"], s["text"], s["start"], s["duration"]) for s in rows(data)] == [
        ("a-1", "a", "HELLO WORLD", 0.0, SECONDS), ("a-2", "a", "HELLO", 0.0, SECONDS), ("b-1", "b", "THE WORLD", 0.0, SECONDS),
    ]  # fmt: skip
    for row in rows(data, "recordings"):
        name, rate = FILES[row["id"]]
        source = {"type": "file", "channels": [0], "source": str(tmp_path / "k/audio" / name)}
        assert (row["sampling_rate"], row["num_samples"], row["sources"]) == (rate, round(rate * SECONDS), [source])
    assert (data / "dropped.tsv").read_text() == ""
    assert [line.split("\t")[0] for line in read_lines(data / "audio.tsv")] == ["a-1", "a-2", "b-1"]


def test_import_is_up_to_date_until_audio_or_a_table_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_kaldi(tmp_path / "k")
    for change, told in (
        (lambda: None, "no output yet"),
        (lambda: None, "up to date"),
        (lambda: write_audio(folder / "audio/a-1.wav", seconds=1.5), "changed: input audio of a-1"),
        (lambda: put(folder, text="a-1 HELLO\na-2 HELLO\nb-1 THE WORLD\n"), "changed: input text"),
    ):
        change()
        load(folder, tmp_path / "data")
        assert told in capsys.readouterr().out


def test_segments_channels_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load(write_segmented(tmp_path / "k"), tmp_path / "data")
    assert "1 segments end after their recording and were cut there" in capsys.readouterr().err
    found = {s["id"]: (s["recording_id"], s["channel"], s["start"], s["duration"]) for s in rows(data)}
    assert found["a-1"] == ("talk", 0, 0.0, round(1.3333 * 8000) / 8000)
    assert found["a-2"] == ("talk", 0, 2.1, 1.9)
    assert found["b-1"] == ("talk", 1, 1.25, 1.25)
    start = round(0.123456 * 22050)
    assert found["c-1"] == ("mono", 0, start / 22050, (3 * 22050 - start) / 22050)


def test_features_of_segments_are_those_of_the_parts(tmp_path: Path) -> None:
    from kdtool.features import extract
    from kdtool.features.store import FeatureSet

    folder = write_segmented(tmp_path / "k")
    data = load(folder, tmp_path / "data")
    samples, rate = soundfile.read(folder / "audio/talk.wav", dtype="int16")
    soundfile.write(tmp_path / "part.wav", samples[10000:20000, 1], rate, subtype="PCM_16")
    put(tmp_path / "p", wav_scp=f"b-1 {tmp_path}/part.wav\n", text="b-1 HELLO WORLD\n", utt2spk="b-1 b\n")
    part = load(tmp_path / "p", tmp_path / "part")
    for folder in (data, part):
        extract.main([str(folder), str(folder / "mfcc"), "--nj", "1", "--kind", "mfcc"])
    whole, alone = (FeatureSet.open(d / "mfcc").get("b-1", normalise=False) for d in (data, part))
    assert len(alone) == 125
    np.testing.assert_array_equal(whole, alone)


@pytest.mark.parametrize("write", [write_kaldi, write_segmented])
def test_export_and_import_give_the_same_set(write: Any, tmp_path: Path) -> None:
    data = load(write(tmp_path / "k"), tmp_path / "data")
    assert not validate("data", data, Level.DEEP).problems
    kaldi = export(data, tmp_path / "out")
    again = load(kaldi, tmp_path / "again")
    for name in ("supervisions", "recordings"):
        assert rows(again, name) == rows(data, name)
    assert (again / "audio.tsv").read_text() == (data / "audio.tsv").read_text()
    for table in kaldi.glob("*"):
        if table.suffix not in (".json", ".yaml"):
            subprocess.run(["sort", "-c", str(table)], env={"LC_ALL": "C"}, check=True)
    assert export(again, tmp_path / "twice") and (tmp_path / "twice/wav.scp").read_bytes() == (kaldi / "wav.scp").read_bytes()


def test_exported_times_are_the_sample_for_who_rounds_and_for_who_cuts_off() -> None:
    for rate in (8000, 11025, 16000, 22050, 44100, 48000):
        for sample in (*range(0, 2000, 7), rate * 3600 + 1, rate * 3600 + 12345):
            seconds = float(decimal_seconds(sample, rate))
            assert int(seconds * rate) == round(seconds * rate) == sample
    assert [decimal_seconds(n, 16000) for n in (0, 16000, 24000, 1)] == ["0", "1", "1.5", "0.0000625"]


def test_export_sorts_by_speaker_or_says_how_to(tmp_path: Path) -> None:
    data = load(write_kaldi(tmp_path / "k"), tmp_path / "data")
    table = rows(data)
    for row, speaker in zip(table, ("zoe", "zoe", "abe"), strict=True):
        row["speaker"] = speaker
    (tmp_path / "other").mkdir()
    write_jsonl(tmp_path / "other/supervisions.jsonl.gz", table)
    write_jsonl(tmp_path / "other/recordings.jsonl.gz", rows(data, "recordings"))
    with pytest.raises(KdError, match=r"utterance a-2 of speaker zoe sorts before b-1 of abe.*--prefix-speakers true"):
        export(tmp_path / "other", tmp_path / "out")
    out = export(tmp_path / "other", tmp_path / "out", "--prefix-speakers", "true")
    assert read_lines(out / "utt2spk") == ["abe-b-1 abe", "zoe-a-1 zoe", "zoe-a-2 zoe"]
    assert [line.split()[:2] for line in read_lines(out / "segments")] == [["abe-b-1", "b-1"], ["zoe-a-1", "a-1"], ["zoe-a-2", "a-2"]]
    assert [s["id"] for s in rows(load(out, tmp_path / "again"))] == ["abe-b-1", "zoe-a-1", "zoe-a-2"]


def test_relative_paths_count_from_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_kaldi(tmp_path / "k")
    put(folder, wav_scp="a-1 audio/a-1.wav\na-2 audio/a-1.wav\nb-1 audio/b-1.sph\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KdError, match=rf"no such file {tmp_path}/audio/a-1.wav; relative paths count from {tmp_path}: .*--relative-to"):
        load(folder, tmp_path / "data")
    load(folder, tmp_path / "data", "--relative-to", str(folder))
    monkeypatch.chdir(folder)
    load(folder, tmp_path / "here")
    assert rows(tmp_path / "here", "recordings") == rows(tmp_path / "data", "recordings")
    with pytest.raises(UsageError, match="--relative-to"):
        load(folder, tmp_path / "data", "--relative-to", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("flac -c -d -s x/y.flac", ("x/y.flac", None)),
        ("/opt/bin/flac -cds 'a b.flac'", ("a b.flac", None)),
        ("flac --decode --stdout --silent a.flac", ("a.flac", None)),
        ("sph2pipe -f wav a.sph", ("a.sph", None)),
        ("sph2pipe -f wav -p -c 2 a.sph", ("a.sph", 1)),
        ("cat a.wav", ("a.wav", None)),
        ("flac -d -s a.flac", None),
        ("flac -c -d -s --until=100 a.flac", None),
        ("flac -c -d -s a.flac | sox -t wav - -r 8000 -t wav -", None),
        ("flac -c -d -s $(id).flac", None),
        ("flac -c -d -s a.flac; rm -rf x", None),
        ("flac -c -d -s *.flac", None),
        ("sph2pipe -f wav -t 0:1 a.sph", None),
        ("sox a.wav -t wav -", None),
        ("cat -", None),
        ("cat 'a.wav", None),
    ],
)
def test_only_commands_that_decode_one_file_are_known(command: str, wanted: tuple[str, int | None] | None) -> None:
    assert recognise(command) == wanted


def test_a_path_of_any_name_survives_the_shell_quoting(tmp_path: Path) -> None:
    for name in ("a b.flac", "it's.flac", "$(touch x).flac", "a;b|c.flac", "x  y.flac"):
        words = shlex.quote(f"/d/{name}")
        assert recognise(f"flac -c -d -s {words}") == (f"/d/{name}", None)


def test_channel_of_a_sphere_command(tmp_path: Path) -> None:
    write_audio(tmp_path / "k/call.sph", 8000, channels=2)
    line = "sph2pipe -f wav -p -c {} {} |\n"
    put(
        tmp_path / "k", wav_scp="".join(f"call-{s} {line.format(c, tmp_path / 'k/call.sph')}" for s, c in (("A", 1), ("B", 2))),
        text="call-A HELLO\ncall-B WORLD\n", utt2spk="call-A call-A\ncall-B call-B\n",
    )  # fmt: skip
    data = load(tmp_path / "k", tmp_path / "data")
    assert [(s["id"], s["channel"]) for s in rows(data)] == [("call-A", 0), ("call-B", 1)]
    again = load(export(data, tmp_path / "out"), tmp_path / "again")
    assert rows(again) == rows(data)


def test_pipes_run_only_when_allowed_and_leave_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_kaldi(tmp_path / "k")
    mark = tmp_path / "mark"
    command = f"cat {folder}/audio/a-1.wav | tee $TMPDIR/temporary && touch {mark}"
    put(folder, wav_scp=f"a-1 {command} |\na-2 {folder}/audio/a-1.wav\nb-1 {folder}/audio/b-1.sph\n")
    with pytest.raises(KdError, match=r"wav.scp, line 1: recording a-1 is a command that would be run.*1 of 3.*--allow-pipes"):
        load(folder, tmp_path / "data")
    assert not mark.exists()
    data = load(folder, tmp_path / "data", "--allow-pipes", "true")
    assert mark.exists() and sorted(p.name for p in (data / "audio").iterdir()) == ["000001.flac"]
    source = rows(data, "recordings")[0]["sources"][0]
    assert source == {"type": "file", "channels": [0], "source": str(data / "audio/000001.flac")}
    kept, original = (soundfile.read(p, dtype="int16")[0] for p in (source["source"], folder / "audio/a-1.wav"))
    np.testing.assert_array_equal(kept, original)
    mark.unlink()
    load(folder, tmp_path / "data", "--allow-pipes", "true")
    assert not mark.exists()


def test_a_header_written_before_the_length_was_known_is_read(tmp_path: Path) -> None:
    folder = write_kaldi(tmp_path / "k")
    content = bytearray((folder / "audio/a-1.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (folder / "streamed.wav").write_bytes(content)
    put(folder, wav_scp=f"a-1 cat < {folder}/streamed.wav |\na-2 {folder}/audio/a-1.wav\nb-1 {folder}/audio/b-1.sph\n")
    data = load(folder, tmp_path / "data", "--allow-pipes", "true")
    assert rows(data, "recordings")[0]["num_samples"] == round(SECONDS * 16000)


def test_transcripts_become_upper_case_when_asked(tmp_path: Path) -> None:
    folder = write_kaldi(tmp_path / "k")
    put(folder, text="a-1 hello wörld\na-2 hello\nb-1 the world\n")
    assert rows(load(folder, tmp_path / "data"))[0]["text"] == "hello wörld"
    assert rows(load(folder, tmp_path / "data", "--upper", "true"))[0]["text"] == "HELLO WÖRLD"


def test_what_harms_nobody_is_accepted_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_kaldi(tmp_path / "k")
    put(folder, text="b-1 THE WORLD\r\na-1 HELLO\r\n\na-2 WORLD\r\n")
    with open(folder / "wav.scp", "a") as f:
        f.write(f"c-9 {folder}/audio/a-1.wav\n")
    put(folder, segments="a-1 a-1 0 -1\na-2 a-2 0 1.25\nb-1 b-1 0 1.25\n")
    data = load(folder, tmp_path / "data")
    told = capsys.readouterr().err
    assert f"{folder}/text: 3 of 3 lines end in CRLF" in told and f"{folder}/text: not sorted as 'LC_ALL=C sort'" in told
    assert "1 of 4 recordings have no utterance and are left out, the first is c-9" in told
    assert [s["text"] for s in rows(data)] == ["HELLO", "WORLD", "THE WORLD"]


def test_the_account_of_dropped_utterances(tmp_path: Path) -> None:
    folder = write_kaldi(tmp_path / "k")
    put(folder, text="a-1 HELLO WORLD\na-2\nx-1 NOBODY\nb-1 HELLO\n")
    data = load(folder, tmp_path / "data", "--max-dropped", "0.5")
    dropped = dict(line.split("\t") for line in read_lines(data / "dropped.tsv"))
    assert [s["id"] for s in rows(data)] == ["a-1", "b-1"] and set(dropped) == {"a-2", "x-1"}
    assert "transcript is empty" in dropped["a-2"] and "text, line 3 has it, utt2spk and wav.scp not" in dropped["x-1"]


def test_transcripts_come_in_clean_and_markup_is_a_fault_with_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_kaldi(tmp_path / "k")
    put(folder, text="\ufeffa-1 CAFE\u0301\u200b<unk> - \u00adX\n\ufeffa-2 <s> HELLO </s>\nb-1 <i>HELLO</i>\n")
    data = load(folder, tmp_path / "data", "--max-dropped", "0.5")
    assert [s["text"] for s in rows(data)] == ["CAF\u00c9 <UNK> X", "HELLO"]
    said = capsys.readouterr().err
    for part in ("2 x sentence mark", "1 x unknown word", "1 x zero-width space", "1 x soft hyphen", "1 x token of punctuation alone"):
        assert f"note: import data: {part}" in said
    assert f"b-1\t{folder}/text, line 3: '<i>HELLO</i>' holds markup (<i>)" in (data / "dropped.tsv").read_text()


def test_no_utterance_is_in_two_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = load(write_kaldi(tmp_path / "k"), tmp_path / "train")
    with pytest.raises(KdError, match=rf"{tmp_path}/k: utterance a-1 is in {train} too \(3 such\)"):
        load(tmp_path / "k", tmp_path / "test", "--apart-from", str(train))
    put(tmp_path / "t", wav_scp=f"a-9 {tmp_path}/k/audio/a-1.wav\n", text="a-9 HELLO\n", utt2spk="a-9 a\n")
    load(tmp_path / "t", tmp_path / "test", "--apart-from", str(train))
    assert f"speaker a is in {train} too (1 such)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--apart-from"):
        load(tmp_path / "t", tmp_path / "test", "--apart-from", str(tmp_path))


IDS = st.text("abZ09_+=.@é", min_size=1, max_size=4).filter(lambda name: not id_fault(name))
WORDS = st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=4).map(lambda w: transcript(w, Counter()))
WORDS = WORDS.filter(lambda w: len(w.split()) == 1 and not words_fault(w))  # what is clean comes back as it went
# Clean words may be markup together: '<A' and 'B>'.
TEXTS = st.lists(WORDS, min_size=1, max_size=3).filter(lambda words: transcript(" ".join(words), Counter()) == " ".join(words))
TEXTS = TEXTS.filter(lambda words: not words_fault(" ".join(words)))
PARTS = st.tuples(st.integers(0, 15000), st.integers(4410, 5000), st.integers(0, 1), TEXTS)
SETS = st.dictionaries(IDS, st.dictionaries(IDS, PARTS, min_size=1, max_size=3), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
@given(rate=st.sampled_from([8000, 11025, 16000, 44100]), sets=SETS)
def test_any_set_comes_back_from_kaldi_as_it_went(rate: int, sets: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("any")
    write_audio(root / "a.wav", rate, 20000 / rate, 2)
    table = [
        {"id": f"{speaker}-{name}", "recording_id": "r", "start": start / rate, "duration": length / rate, "channel": channel,
         "text": " ".join(words), "speaker": speaker}
        for speaker, utterances in sets.items() for name, (start, length, channel, words) in utterances.items()
    ]  # fmt: skip
    source = {"type": "file", "channels": [0, 1], "source": str(root / "a.wav")}
    (root / "data").mkdir()
    write_jsonl(root / "data/supervisions.jsonl.gz", sorted(table, key=lambda row: row["id"]))
    recording = {"id": "r", "sources": [source], "sampling_rate": rate, "num_samples": 20000, "duration": 20000 / rate}
    write_jsonl(root / "data/recordings.jsonl.gz", [recording])
    if len({row["id"] for row in table}) < len(table):
        return
    speakers = [row["speaker"] for row in sorted(table, key=lambda row: row["id"])]
    if speakers != sorted(speakers):
        with pytest.raises(KdError, match="sorted by speaker"):
            export(root / "data", root / "kaldi")
        return
    again = load(export(root / "data", root / "kaldi"), root / "again", "--max-chars-per-second", "1000")
    assert rows(again) == rows(root / "data")
