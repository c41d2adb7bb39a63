"""Data folders with random faults: every utterance is accounted for, or one message says what is wrong and where.

Whatever is generated, the exit status is 0, 1 or 2, there is no traceback, and nothing is written outside of the output.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_input_data import snapshot, write_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdtool.core.cli import cli_main
from kdtool.core.tables import read_jsonl, read_lines, write_jsonl
from kdtool.corpus import fix, kaldi_import
from kdtool.validate import main
from local.librispeech import prepare_data

FEW = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
SHELL = [
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned;",
    "a\tb",
    "../../../x",
    "/etc/x",
    "..",
    "-rf",
    "*",
    "é",
    "a b",
    "\x1b[31m",
    "A" * 300,
    "",
]
odd_text = st.one_of(st.sampled_from([*SHELL, "HELLO WORLD", "<eps>", "hello"]), st.text(max_size=12))


def run(entry: Callable[[], Any], *argv: str) -> tuple[int, str, str]:
    """A command line in this process: exit status, output, messages; any exception that a user would see as a traceback goes on."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO
    from unittest.mock import patch

    out, err = StringIO(), StringIO()
    quiet = (patch.object(sys, "argv", ["step", *argv]), patch("signal.signal"), redirect_stdout(out), redirect_stderr(err))
    with quiet[0], quiet[1], quiet[2], quiet[3], pytest.raises(SystemExit) as ended:
        cli_main(entry)
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The current folder is empty before and after."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert os.listdir(tmp_path / "here") == []


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sound of each kind."""
    folder = tmp_path_factory.mktemp("audio")
    write_audio(folder / "good.flac", 0.4)
    write_audio(folder / "slow.flac", 0.4, rate=8000)
    write_audio(folder / "stereo.flac", 0.4, channels=2)
    (folder / "empty.flac").write_bytes(b"")
    (folder / "cut.flac").write_bytes((folder / "good.flac").read_bytes()[:4000])
    (folder / "text.flac").write_text("no audio")
    return folder


kinds = st.sampled_from(["good.flac"] * 5 + ["slow.flac", "stereo.flac", "empty.flac", "cut.flac", "text.flac"])
names = st.one_of(st.sampled_from(["1-2-0001", "1-2-0002", "1-2-0003", "3-4-0001"]), odd_text)


def save_as(source: Path, folder: Path, name: str) -> bool:
    """Whether there can be a file of that name."""
    if not name or "/" in name or "\0" in name or len(name.encode("utf-8", "replace")) > 200 or name in (".", ".."):
        return False
    try:
        shutil.copy(source, folder / name)
    except (OSError, UnicodeEncodeError):
        return False
    return True


@FEW
@given(
    files=st.lists(st.tuples(names, kinds), max_size=5),
    texts=st.lists(st.tuples(names, odd_text), max_size=5),
    share=st.sampled_from(["0.9", "0"]),
)
def test_a_corpus_in_librispeechs_layout(audio: Path, files: list[tuple[str, str]], texts: list[tuple[str, str]], share: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        world = Path(place)
        for part in ("train-clean-5", "dev-clean-2"):
            (world / "corpus" / part / "1").mkdir(parents=True)
        write_audio(world / "corpus/dev-clean-2/1/5-5-0001.flac", 0.4)
        (world / "corpus/dev-clean-2/1/5-5.trans.txt").write_text("5-5-0001 HELLO\n")
        here = world / "corpus/train-clean-5/1"
        made = {n for n, kind in files if save_as(audio / kind, here, f"{n}.flac")}
        lines = [f"{n} {t}" for n, t in texts]
        (here / "1-2.trans.txt").write_text("\n".join(lines), encoding="utf-8", errors="replace")
        before = snapshot(world)
        status, _, told = run(prepare_data.main, "--nj", "1", "--max-dropped", share, str(world / "corpus"), str(world / "out"))
        assert snapshot(world) == before and status in (0, 1, 2)
        if status:
            assert told.startswith(("error:", "corpus", "")) and str(world) in told, told
            return
        data = world / "out/train_clean_5"
        kept = {row["id"] for row in read_jsonl(data / "supervisions.jsonl.gz")}
        dropped = {line.split("\t")[0] for line in read_lines(data / "dropped.tsv")}
        assert not kept & dropped and {n for n in made if n} <= kept | dropped
        assert run(lambda: main.main(["data", "--deep", str(data)]))[0] == 0


places = [
    "{audio}/slow.flac",
    "{audio}/cut.flac",
    "{audio}/none.flac",
    "touch pwned |",
    "cat {audio}/good.flac |",
    "/dev/null",
    "{audio}",
    "-",
]
scp = st.one_of(st.sampled_from(["{audio}/good.flac"] * 6 + places), odd_text)
ids = st.one_of(st.sampled_from(["a-1", "a-2", "b-1", "b-2"]), odd_text)
times = st.one_of(st.floats(-1, 2), st.sampled_from([float("nan"), float("inf"), -1.0, 1e300]))
cut_out = st.lists(st.tuples(ids, ids, times, times), max_size=4)


@FEW
@given(
    wav=st.lists(st.tuples(ids, scp), max_size=4), text=st.lists(st.tuples(ids, odd_text), max_size=4),
    speakers=st.lists(st.tuples(ids, ids), max_size=4), segments=st.none() | cut_out,
    tidy=st.booleans(), share=st.sampled_from(["0.9", "0"]),
)  # fmt: skip
def test_a_kaldi_folder(
    audio: Path, wav: list[Any], text: list[Any], speakers: list[Any], segments: list[Any] | None, tidy: bool, share: str
) -> None:
    with tempfile.TemporaryDirectory() as place:
        world = Path(place)
        (world / "kaldi").mkdir()
        tables = {"wav.scp": wav, "text": text, "utt2spk": speakers, **({} if segments is None else {"segments": segments})}
        for name, table in tables.items():
            if tidy:  # sorted and unique, so that other faults get their turn
                table = sorted({row[0]: row for row in table}.values())
            lines = [" ".join(str(cell).replace("{audio}", str(audio)) for cell in row) for row in table]
            (world / "kaldi" / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8", errors="replace")
        before = snapshot(world)
        argv = [
            "--nj",
            "1",
            "--upper",
            "true",
            "--max-dropped",
            share,
            "--relative-to",
            str(world),
            str(world / "kaldi"),
            str(world / "out"),
        ]
        status, _, told = run(kaldi_import.main, *argv)
        assert snapshot(world) == before and status in (0, 1, 2)
        if status:
            assert str(world) in told or "kaldi" in told, told
            return
        kept = {row["id"] for row in read_jsonl(world / "out/supervisions.jsonl.gz")}
        dropped = {line.split("\t")[0] for line in read_lines(world / "out/dropped.tsv")}
        wanted = {str(row[0]) for row in (segments if segments is not None else wav)}
        assert not kept & dropped and kept <= wanted
        assert run(lambda: main.main(["data", "--deep", str(world / "out")]))[0] == 0


values = st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.floats(), odd_text, st.lists(st.integers(), max_size=2))
keys = st.sampled_from(["id", "recording_id", "start", "duration", "text", "speaker", "sources", "sampling_rate", "num_samples", "channel"])


@FEW
@given(edits=st.lists(st.tuples(st.booleans(), st.integers(0, 3), keys, values), min_size=1, max_size=4), order=st.permutations(range(4)))
def test_manifests_of_another_program(audio: Path, edits: list[tuple[bool, int, str, Any]], order: list[int]) -> None:
    """The validator says something or finds it fine; what the fixing tool has fixed is fine, and stays as it is."""
    with tempfile.TemporaryDirectory() as place:
        world = Path(place)
        tables: list[list[dict[str, Any]]] = [[], []]
        for n in order:
            source = {"type": "file", "channels": [0], "source": str(audio / "good.flac")}
            tables[0].append({"id": f"u{n}", "sources": [source], "sampling_rate": 16000, "num_samples": 6400, "duration": 0.4})
            tables[1].append(
                {"id": f"u{n}", "recording_id": f"u{n}", "start": 0.0, "duration": 0.4, "channel": 0, "text": "HELLO", "speaker": "s"}
            )
        for recording, row, key, value in edits:
            tables[not recording][row][key] = value
        (world / "data").mkdir()
        for name, table in zip(("recordings", "supervisions"), tables, strict=True):
            write_jsonl(world / "data" / f"{name}.jsonl.gz", table)
        before = snapshot(world)
        items = str(world / "out.tsv")
        status, told, _ = run(lambda: main.main(["data", "--deep", "--items", items, str(world / "data")]))
        assert status in (0, 1) and snapshot(world) == before
        assert all(len(line.split("\t")) == 5 for line in read_lines(items))
        if run(lambda: fix.main([str(world / "data")]))[0] == 0:
            status, told, _ = run(lambda: main.main(["data", "--deep", str(world / "data")]))
            assert status == 0, told
            assert "nothing to fix" in run(lambda: fix.main([str(world / "data")]))[1]
