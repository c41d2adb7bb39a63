"""One reader of audio: import, aligner and features get the same samples of a file; spoilt files give an error message, never less audio.

KD_FUZZ_AUDIO says how many spoilt files there are.
"""

from __future__ import annotations

import os
import random
import shlex
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from kaldi_data import put
from sound_files import ALL, EXACT, FOREIGN, OPEN, RATE, TONE, make, streamed, wav

from kdtool.aligner.audio import stage
from kdtool.aligner.inputs import find_items
from kdtool.audio import reader
from kdtool.audio.backend import use_in_lhotse
from kdtool.audio.faults import AudioFault
from kdtool.audio.reader import Sound, check, read
from kdtool.core.errors import KdError
from kdtool.core.findings import Level
from kdtool.core.inputs import validate
from kdtool.core.tables import read_json, read_jsonl
from kdtool.corpus.kaldi_import import main as import_kaldi

FUZZ = int(os.environ.get("KD_FUZZ_AUDIO", "300"))
INTEGERS = (np.rint(TONE * 32768) / 32768).astype("float32")  # what 16 bits hold
SCALED = INTEGERS * 32768 / 32767  # for `wav`
# Formats that hold 16 bits without loss
LOSSLESS = [k for k, (_, coding, _) in {**EXACT, **OPEN}.items() if coding in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_16")]
STREAMS = ("rf64", "w64", "caf", "aiff", "au", "flac")


def kaldi_folder(folder: Path) -> list[str]:
    """A Kaldi folder with the same audio in all lossless formats, and as streams; the ids."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    files = {kind: make(audio / kind, kind, INTEGERS) for kind in LOSSLESS}
    files |= {f"streamed.{kind}": streamed(kind, files[kind]) for kind in STREAMS}
    files |= {"zero.wav": wav(0, 0, signal=SCALED), "sox.wav": wav(0x7FFFF000, 0x7FFFF024, signal=SCALED)}
    for name, data in files.items():
        (audio / name).write_bytes(data)
    ids = sorted(name.replace(".", "-") for name in files)
    paths = {name.replace(".", "-"): audio / name for name in files}
    put(folder, wav_scp="".join(f"{i} {paths[i]}\n" for i in ids), text="".join(f"{i} HELLO\n" for i in ids),
        utt2spk="".join(f"{i} {i}\n" for i in ids))  # fmt: skip
    return ids


def test_import_features_and_aligner_read_the_same_samples(tmp_path: Path) -> None:
    from kdtool.features.job import run_job

    ids = kaldi_folder(tmp_path / "k")
    import_kaldi([str(tmp_path / "k"), str(tmp_path / "data"), "--nj", "1"])
    rows = {row["id"]: row for row in read_jsonl(tmp_path / "data" / "recordings.jsonl.gz")}
    assert sorted(rows) == ids and {(r["num_samples"], r["sampling_rate"]) for r in rows.values()} == {(len(INTEGERS), RATE)}
    assert not validate("data", tmp_path / "data", Level.DEEP, {}).problems
    items, faults = find_items(tmp_path / "k")
    assert [i.name for i in items] == ids and not faults
    staged = set()
    for item in items:
        assert np.array_equal(read(item.audio)[0][0], INTEGERS), item.name
        stage(item.audio, tmp_path / "staged.wav", RATE, None, item.part)
        staged.add((tmp_path / "staged.wav").read_bytes())
    assert len(staged) == 1
    work = tmp_path / "work"
    for name in ("storage", "parts"):
        (work / name).mkdir(parents=True)
    run_job(tmp_path / "data", work, "mfcc", [1.0], RATE, 1, 1)
    features = {row["supervisions"][0]["id"]: np.load(work / "storage" / row["features"]["storage_key"]) for row in
                read_jsonl(work / "parts" / "cuts.1.jsonl")}  # fmt: skip
    assert sorted(features) == ids and all(np.array_equal(f, features["wav"]) for f in features.values())


def test_a_cut_file_is_an_error_in_every_room(tmp_path: Path) -> None:
    from kdtool.features.job import run_job

    ids = kaldi_folder(tmp_path / "k")
    import_kaldi([str(tmp_path / "k"), str(tmp_path / "data"), "--nj", "1"])
    path = tmp_path / "k" / "audio" / "wav"
    path.write_bytes(path.read_bytes()[:9000])
    said = "is truncated: it holds 4,478 samples (0.28 s) in 8,956 bytes, its header announces 8,000 samples (0.50 s) in 16,000"
    with pytest.raises(KdError) as told:
        import_kaldi([str(tmp_path / "k"), str(tmp_path / "other"), "--nj", "1"])
    assert said in str(told.value)
    report = validate("data", tmp_path / "data", Level.DEEP, {})
    assert any(said in str(item) for item in report.items("audio-broken"))
    assert [said in reason for name, reason in find_items(tmp_path / "k")[1]] == [True]
    for name in ("storage", "parts"):
        (tmp_path / "work" / name).mkdir(parents=True)
    run_job(tmp_path / "data", tmp_path / "work", "mfcc", [1.0], RATE, 1, 1)
    dropped = dict(read_json(tmp_path / "work" / "parts" / "info.1.json")["dropped"])
    assert list(dropped) == ["wav"] and said in dropped["wav"] and len(ids) > 1


def test_a_part_is_what_the_whole_holds_there(tmp_path: Path) -> None:
    use_in_lhotse(0.01)
    from lhotse import Recording

    long = np.concatenate([TONE * g for g in np.linspace(0.1, 2, 24)])
    for kind in ALL:
        make(tmp_path / kind, kind, long)
        whole = read(tmp_path / kind)[0]
        for start, stop in ((0, 1), (1, 700), (100001, 130000), (whole.shape[1] - 5, None)):
            part = read(tmp_path / kind, start, stop)[0]
            assert np.abs(part - whole[:, start:stop]).max() < 1e-6, (kind, start)
        recording = Recording.from_file(tmp_path / kind)
        assert recording.num_samples == whole.shape[1]
        loaded = recording.load_audio(offset=1.0, duration=2.0)
        assert np.abs(loaded - whole[:, RATE : 3 * RATE]).max() < 1e-6, kind


def test_a_file_is_held_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = np.tile(np.stack([TONE, -TONE], axis=1), (5, 1))
    make(tmp_path / "a", "flac", signal)
    before = check(tmp_path / "a")
    monkeypatch.setattr(reader, "BLOCK", 1000)
    with reader.open_audio(tmp_path / "a") as audio:
        blocks = list(audio.blocks())
    assert {b.shape for b in blocks} == {(500, 2)} and sum(map(len, blocks)) == len(signal)
    assert check(tmp_path / "a") == before


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_stream_of_more_than_4_gb_is_read_to_its_end(length: int, tmp_path: Path) -> None:
    head, count = wav(length, 0, signal=TONE[:0]), 5 << 29
    with open(tmp_path / "a", "wb") as f:
        f.write(head)
        f.truncate(len(head) + 2 * count - 2)  # takes no room on the disk
        f.seek(0, os.SEEK_END)
        f.write(b"\x01\x02")
    assert reader.header(tmp_path / "a").samples == count
    assert read(tmp_path / "a", count - 2)[0].tolist() == [[0.0, 0x201 / 32768]]


def test_audio_is_found_by_content_where_its_suffix_says_nothing(tmp_path: Path) -> None:
    for name, kind in {"a.dat": "wav", "b": "flac", "c.x1": "mp3", "d.wav": "ogg"}.items():
        make(tmp_path / name, kind)
    (tmp_path / "e.m4a").write_bytes(FOREIGN["M4A"])
    (tmp_path / "f.raw").write_bytes(bytes(3000))
    (tmp_path / "g.json").write_text("{}")
    make(tmp_path / "h.wav")
    (tmp_path / "h.mp4").write_bytes(FOREIGN["M4A"])  # the video that the audio is from
    for name in "abcdefgh":
        (tmp_path / f"{name}.txt").write_text("hello")
    items, faults = find_items(tmp_path)
    assert [i.audio.name for i in items] == ["a.dat", "b", "c.x1", "d.wav", "e.m4a", "f.raw", "h.wav"]
    assert [name for name, _ in faults] == ["g"] and "no audio file beside it" in faults[0][1]
    with pytest.raises(KdError, match=r"e\.m4a is MP4, M4A or MOV .* convert it: ffmpeg -i IN"):
        stage(tmp_path / "e.m4a", tmp_path / "o.wav", RATE, None)


def test_audio_is_found_by_content_in_librispeechs_layout(tmp_path: Path) -> None:
    make(tmp_path / "7-1-0000.bin", "flac")
    (tmp_path / "7-1-0001.m4a").write_bytes(FOREIGN["M4A"])
    (tmp_path / "7-1.trans.txt").write_text("7-1-0000 HELLO\n7-1-0001 THERE\n")
    items, faults = find_items(tmp_path)
    assert [i.audio.name for i in items] == ["7-1-0000.bin", "7-1-0001.m4a"] and not faults
    with pytest.raises(KdError, match=r"talk\.m4a has to be converted first: ffmpeg"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "talk.m4a").write_bytes(b"")
        find_items(tmp_path / "other")


@pytest.mark.parametrize(
    ("data", "difference"),
    [(wav(0, 0, signal=SCALED), 0.0), (wav(0x7FFFF000, signal=SCALED), 0.0), ("float.wav", 0.0), ("32.wav", 0.0), ("mp3", 2**-22)],
)
def test_the_output_of_a_command_is_kept_without_loss(data: bytes | str, difference: float, tmp_path: Path) -> None:
    raw = tmp_path / "raw file"
    raw.write_bytes(data if isinstance(data, bytes) else make(tmp_path / "b", data, INTEGERS))
    expected = read(raw)[0]
    put(tmp_path / "k", wav_scp=f"a cat {shlex.quote(str(raw))} | cat |\n", text="a HELLO\n", utt2spk="a a\n")
    import_kaldi([str(tmp_path / "k"), str(tmp_path / "data"), "--nj", "1", "--allow-pipes", "true"])
    (row,) = read_jsonl(tmp_path / "data" / "recordings.jsonl.gz")
    kept = read(Path(row["sources"][0]["source"]))[0]
    assert kept.shape == expected.shape and np.abs(kept - expected).max() <= difference


def test_a_command_that_wrote_less_than_it_announced_is_named(tmp_path: Path) -> None:
    make(tmp_path / "b")
    put(tmp_path / "k", wav_scp=f"a head -c 9000 {tmp_path}/b |\n", text="a HELLO\n", utt2spk="a a\n")
    with pytest.raises(KdError, match=r"wrote 9000 bytes .*is truncated: it holds 4,478 samples .*announces 8,000 samples.*run it by hand"):
        import_kaldi([str(tmp_path / "k"), str(tmp_path / "data"), "--nj", "1", "--allow-pipes", "true"])


def test_the_export_names_the_decoder_that_the_content_needs(tmp_path: Path) -> None:
    from kdtool.corpus.kaldi_export import wav_entry

    commands = {"wav": "{}", "flac": "flac -c -d -s {} |", "sph": "sph2pipe -f wav {} |", "float.wav": "{}"}
    for kind, command in commands.items():
        make(tmp_path / "a.wav", kind)
        row = {"id": "r", "sources": [{"source": str(tmp_path / "a.wav")}]}
        assert wav_entry(row, tmp_path) == command.format(tmp_path / "a.wav")


def spoil(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """The file cut, with other bytes in its first ones, with bytes put in; which of them."""
    b, how = bytearray(data), rng.choice(["cut", "header", "both", "more", "zeros"])
    if how in ("header", "both"):
        for _ in range(rng.choice([1, 1, 2, 4])):
            b[rng.randrange(min(len(b), rng.choice([16, 64, 400])))] = rng.choice([0, 255, 0x7F, 0x80, rng.randrange(256)])
    if how in ("cut", "both"):
        del b[rng.randrange(len(b)) :]
    at = rng.randrange(len(b)) if b else 0
    if how == "more":
        b[at:at] = rng.randbytes(rng.choice([1, 2, 7, 1000]))
    if how == "zeros":
        b[at : at + 8] = bytes(len(b[at : at + 8]))
    return how, bytes(b)


def result(path: Path) -> Sound | str:
    reader._layout.cache_clear()  # it goes by the time, of which two files may have the same
    try:
        return check(path)
    except AudioFault as e:
        assert str(path) in str(e) and len(str(e)) < 600, e
        return str(e)


def test_spoilt_files_end_in_words_and_never_in_less_audio(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng, path = random.Random(7), tmp_path / "a"
    files = {kind: make(path, kind) for kind in ALL}
    files |= {f"streamed {kind}": streamed(kind, files[kind]) for kind in (*STREAMS, "mp3")}
    whole, seen = {}, defaultdict(set)
    for name, data in files.items():
        path.write_bytes(data)
        whole[name] = result(path)
        assert isinstance(whole[name], Sound), name
    for _ in range(FUZZ):
        name = rng.choice(sorted(files))
        how, data = spoil(files[name], rng)
        path.write_bytes(data)
        found, before = result(path), whole[name]
        seen[how].add(type(found))
        assert isinstance(before, Sound)
        if how == "cut" and isinstance(found, Sound) and name not in OPEN and not name.startswith("streamed"):
            assert found.samples == before.samples or found.notes, (name, len(data), found)
    assert all(kinds == {Sound, str} for kinds in seen.values()), seen
    said = capfd.readouterr()
    assert "Traceback" not in said.err and "from cffi callback" not in said.err and not said.out
