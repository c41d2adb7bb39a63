"""A full disk ends an alignment or an import with one error that names the place, a file without permission ends nothing.

The disk is a limit on the size of files, which needs no right and behaves alike everywhere: a write fails in its middle.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bad_input_audio import CASES as AUDIO_CASES
from bad_input_changes import Case
from bad_input_data import ROOT, Caller, snapshot, without_privilege
from bad_input_files import CASES, DISKS
from odd_files import GOOD_AUDIO, SOUND, content, put, sound, write_model

from kdtool.core import sound as writing
from kdtool.core.errors import KdError
from kdtool.core.tables import read_lines

ALIGN, IMPORT = "kdtool.aligner.align", "kdtool.corpus.kaldi_import"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def step(limit: int, module: str, *argv: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """A step with a limit on the size of files, in a separate process."""
    command = [sys.executable, str(ROOT / "tests" / "unit" / "odd_files.py"), str(limit), module, *map(str, argv)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'unit'}"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **more)


def refused(done: subprocess.CompletedProcess[str], out: Path, *words: str) -> None:
    """One error with these words, no output, no word of removing anything."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1 and "remove" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert not out.exists()


def recordings(folder: Path, *names: str) -> Path:
    for name in names:
        put(folder / f"{name}.wav", GOOD_AUDIO["wav"])
        put(folder / f"{name}.txt", content(b"ABBA KA"))
    return folder


@pytest.mark.parametrize("case", [*CASES, *AUDIO_CASES], ids=str)
def test_a_file_that_cannot_be_used(
    case: Case, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").symlink_to(model)
    case.change(tmp_path)
    status, said = Caller(monkeypatch, capsys)(case.step, tmp_path, *case.options)
    assert status == case.status and "Traceback" not in said, said
    assert all(word in said for word in case.words), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", DISKS, ids=str)
def test_a_full_disk_while_aligning(case: Case, model: Path, tmp_path: Path) -> None:
    argv = [recordings(tmp_path / "in", "a", "b"), "--model", model, "--out", tmp_path / "out", "--g2p", "false"]
    before = snapshot(tmp_path / "in")
    refused(step(int(case.options[0]), ALIGN, *argv), tmp_path / "out", str(tmp_path / ".out.work"), *case.words)
    assert not (tmp_path / ".out.work" / "temporary").exists(), "what was copied is not left on the full disk"
    done = step(0, ALIGN, *argv)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in read_lines(tmp_path / "out" / "files.tsv")][1:] == ["a", "b"]
    assert snapshot(tmp_path / "in") == before


@pytest.mark.parametrize("command", ["sh -c 'cat {}' |", "trap '' XFSZ; cat {} 2>/dev/null; true |"], ids=["ends", "goes on"])
def test_a_full_disk_while_importing_is_no_fault_of_the_recordings(command: str, tmp_path: Path) -> None:
    """Neither for a command that the system kills, nor for one that ignores the error."""
    put(tmp_path / "a.wav", sound(SOUND))
    for name, value in (("wav.scp", command.format(tmp_path / "a.wav")), ("text", "ABBA"), ("utt2spk", "s")):
        put(tmp_path / "in" / name, content(f"s-1 {value}\n".encode()))
    argv = [tmp_path / "in", tmp_path / "out", "--allow-pipes", "true", "--max-dropped", "0.9"]
    refused(step(9000, IMPORT, *argv), tmp_path / "out", str(tmp_path / ".out.work" / "audio"), "File too large")
    assert step(0, IMPORT, *argv).returncode == 0


def test_a_write_that_fails_tells_the_systems_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing._Watched, "_ask", lambda self, *_: setattr(self, "error", OSError(errno.ENOSPC, "No space left")) or 0)
    for kind in ("WAV", "FLAC"):
        with pytest.raises(OSError, match="No space left") as raised:
            writing.write_sound(tmp_path / "a", [SOUND], 16000, kind=kind)
        assert raised.value.filename == str(tmp_path / "a") and not [*tmp_path.iterdir()]
    monkeypatch.undo()
    with pytest.raises(KdError, match=r"a: audio that cannot be written"):
        writing.write_sound(tmp_path / "a", [SOUND], 0)
    assert writing.write_fault(tmp_path / "a") is None and not [*tmp_path.iterdir()]
    monkeypatch.setattr(Path, "write_bytes", full)
    fault = writing.write_fault(tmp_path / "a")
    assert fault is not None and (fault.errno, fault.filename) == (errno.ENOSPC, str(tmp_path / "a"))


def test_files_and_folders_without_permission_are_rows(model: Path, tmp_path: Path) -> None:
    folder = recordings(tmp_path / "in", "good", "audio", "text", "locked/inner")
    for name in ("audio.wav", "text.txt", "locked"):
        (folder / name).chmod(0)
    argv = [folder, "--model", model, "--out", tmp_path / "out", "--g2p", "false"]
    done = step(0, ALIGN, *argv, preexec_fn=without_privilege)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "3 of 4 files" in done.stderr, done.stderr
    rows = dict(line.split("\t") for line in read_lines(tmp_path / "out" / "dropped.tsv"))
    assert set(rows) == {"audio", "text", "locked"} and all("Permission denied" in reason for reason in rows.values()), rows
    for name in ("audio.wav", "text.txt", "locked"):
        (folder / name).chmod(0o755)
    done = step(0, ALIGN, *argv, preexec_fn=without_privilege)
    assert done.returncode == 0 and "changed: input audio" in done.stdout, done.stderr


def test_recordings_without_permission_are_rows_of_an_import(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / f"{name}.wav", sound(SOUND))
    for table, value in (("wav.scp", f"{tmp_path}/{{}}.wav"), ("text", "ABBA"), ("utt2spk", "s")):
        put(tmp_path / "in" / table, content("".join(f"s-{n} {value.format(n)}\n" for n in "ab").encode()))
    (tmp_path / "b.wav").chmod(0)
    done = step(0, IMPORT, tmp_path / "in", tmp_path / "out", "--max-dropped", "0.5", preexec_fn=without_privilege)
    assert done.returncode == 0, done.stderr
    [row] = read_lines(tmp_path / "out" / "dropped.tsv")
    assert row.startswith("s-b\t") and "b.wav: it cannot be read (Permission denied)" in row
