"""utils/fix_data.sh: faults are fixed or dropped with a reason, old files are kept, audio is not touched, a second run changes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bad_input_changes import Change, put, remove, rows
from bad_input_data import ROOT, STEPS, Caller, copy_world, snapshot, write_audio, write_corpus
from bad_input_validate import AUDIO, DATA, SUP, UTT, field, source

from kdtool.core.tables import read_jsonl

STEPS["fix"] = ("kdtool.corpus.fix", [DATA])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fix")
    write_corpus(root / "corpus")
    subprocess.run([sys.executable, "-m", STEPS["corpus"][0], str(root / "corpus"), str(root / "data")], cwd=ROOT, check=True)
    return root


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(monkeypatch, capsys)


MENDED = [
    ("order", rows(SUP, lambda r: r.reverse()), 4, "rows brought into the order of their ids"),
    ("upper case", field(SUP, "text", "hello world"), 4, f"{UTT}: transcript put in upper case"),
    ("decomposed and invisible", field(SUP, "text", "CAFE\u0301 \u00adX\u200bY <s>"), 4, f"{UTT}: transcript 'CAFE\u0301 "),
    ("markup", field(SUP, "text", "<b>X</b>"), 3, "holds markup (<b>)"),
    ("beyond the end", field(SUP, "duration", 9.0), 4, f"{UTT}: 0.000+9.000 s clipped to 0.000+1.000 s"),
    ("before the start", field(SUP, "start", -0.5), 4, f"{UTT}: -0.500+1.000 s clipped to 0.000+0.500 s"),
    ("another rate", lambda w: write_audio(w / AUDIO, rate=8000), 4, f"{UTT}: recording: the manifest said 16000 samples at 16000 Hz"),
    ("wholly outside", field(SUP, "start", 5.0), 3, "0.000 s of it lie inside"),
    ("twice", rows(SUP, lambda r: r.append(r[1])), 4, f"{UTT}: the id comes twice"),
    ("bad id", field(SUP, "id", "../../etc/x"), 3, "holds a slash"),
    ("no recording", field(SUP, "recording_id", "none"), 3, "its recording none is not there"),
    ("empty transcript", field(SUP, "text", None), 3, "its transcript is empty"),
    ("no audio", remove(AUDIO), 3, "is not there or empty"),
    ("broken audio", put(AUDIO, "no audio"), 3, "cannot be decoded"),
    ("command in place of audio", source(type="command", source="touch pwned"), 3, "commands are not run"),
    ("row without fields", rows(SUP, lambda r: r[1].pop("start")), 3, "no start"),
    ("NaN", field(SUP, "duration", float("nan")), 3, "duration is nan"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "kept", "words"), [row[1:] for row in MENDED], ids=[row[0] for row in MENDED])
def test_mended_and_idempotent(change: Change, kept: int, words: str, sound: Path, tmp_path: Path, call: Caller) -> None:
    world = copy_world(sound, tmp_path / "w")
    change(world)
    spoilt, audio = (world / SUP).read_bytes(), snapshot(world / "corpus")
    status, told = call("fix", world)
    assert status == 0 and words in told and f"{kept} utterances kept" in told, told
    assert call("validate data", world, "--deep")[0] == 0
    assert [row["id"] for row in read_jsonl(world / SUP)] == sorted(row["id"] for row in read_jsonl(world / SUP))
    assert (world / DATA / ".backup.1/supervisions.jsonl.gz").read_bytes() == spoilt
    assert snapshot(world / "corpus") == audio
    before = snapshot(world)
    assert call("fix", world) == (0, f"{world / DATA}: nothing to fix\n") and snapshot(world) == before


def test_what_cannot_be_mended_is_left_alone(sound: Path, tmp_path: Path, call: Caller) -> None:
    for change, words in ((lambda w: (w / SUP).write_bytes((w / SUP).read_bytes()[:60]), "prepare the corpus again"),
                          (lambda w: shutil.rmtree(w / "corpus"), "no utterance would be left")):  # fmt: skip
        world = copy_world(sound, tmp_path / words[:2])
        change(world)
        before = snapshot(world)
        status, told = call("fix", world)
        assert status == 1 and words in told and "Traceback" not in told, told
        assert snapshot(world) == before
