"""One bad file never stops the others: random folders of good and broken files through the aligner and the import.

KD_FUZZ_FOLDERS says how many folders each of the two gets.
"""

from __future__ import annotations

import html.parser
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from odd_files import Folder, in_this_process, random_folder, random_kaldi, random_librispeech, write_model
from test_aligner_parts import parse_textgrid

from kdtool.core.cli import cli_main
from kdtool.core.names import escaped
from kdtool.core.tables import read_json, read_jsonl, read_lines

FOLDERS = int(os.environ.get("KD_FUZZ_FOLDERS", "8"))
SIZE = 8  # files per folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line here; exit status and messages as a user gets them."""
    monkeypatch.setattr("kdtool.features.extract.run_array", in_this_process)
    monkeypatch.setattr("kdtool.core.jobs.run_array", in_this_process)

    def run(main: Callable[[Sequence[str]], None], *argv: object) -> tuple[int, str]:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                cli_main(lambda: main([*map(str, argv)]))
        finally:
            signal.signal(signal.SIGTERM, handler)
        told = capsys.readouterr()
        assert "Traceback" not in told.err and "Exception ignored" not in told.err, told.err
        return int(ended.value.code or 0), told.err

    return run


def align(call: Call, model: Path, folder: Path, out: Path, *options: str) -> tuple[int, str]:
    from kdtool.aligner.align import main

    return call(main, folder, "--model", model, "--out", out, "--g2p", "false", "--nj", "1", *options)


def table(path: Path) -> dict[str, str]:
    """Two columns; every line must have both."""
    rows = [line.split("\t") for line in read_lines(path)] if path.exists() else []
    assert all(len(row) == 2 and all(row) for row in rows), rows
    assert len({row[0] for row in rows}) == len(rows)
    return dict(rows)


class Page(html.parser.HTMLParser):
    """Reads the report as a browser does, and keeps its text."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


def check_aligned(made: Folder, out: Path) -> None:
    """Every good file is complete in every output, every other one is a row with its reason."""
    dropped, renamed = table(out / "dropped.tsv"), table(out / "renamed.tsv")
    assert set(dropped) == {escaped(name) for name in made.bad}, (made, dropped)
    files = [line.split("\t")[0] for line in read_lines(out / "files.tsv")[1:]] if made.good else []
    assert sorted(renamed.get(name, escaped(name)) for name in files) == sorted(map(escaped, made.good))
    assert len({name.casefold() for name in files}) == len(files)
    recordings = {row["id"] for row in read_jsonl(out / "recordings.jsonl.gz")} if files else set()
    assert recordings == {row["recording_id"] for row in read_jsonl(out / "supervisions.jsonl.gz")} if files else True
    for name in files:
        found = read_json(out / "json" / f"{name}.json")
        assert Path(found["file"]).is_file() and len(found["words"]) >= 1
        high, tiers = parse_textgrid(out / "textgrid" / f"{found['recording']}.TextGrid")
        assert high >= found["duration"] and {t.rpartition(" - ")[2] for t in tiers} == {"words", "phones"}
    lines = [line.split(" ") for line in read_lines(out / "words.ctm")] if files else []
    assert all(len(line) == 6 and not line[0].startswith(";") for line in lines) and len({line[0] for line in lines}) == len(recordings)
    if files:
        page = Page()
        page.feed((out / "report.html").read_text(encoding="utf-8"))
        assert all(name in page.text for name in (*files[:1], *dropped))


@pytest.mark.parametrize("seed", range(FOLDERS))
def test_the_aligner_does_every_good_file_of_a_folder(seed: int, model: Path, tmp_path: Path, call: Call) -> None:
    rng = random.Random(seed)
    make = (random_folder, random_folder, random_kaldi, random_librispeech)[seed % 4]
    made = make(tmp_path / "in", rng, rng.randint(1, SIZE))
    out = tmp_path / "out"
    status, told = align(call, model, made.path, out)
    assert status == (1 if made.bad else 0), told
    if made.good:
        check_aligned(made, out)
        assert align(call, model, made.path, out)[0] == status  # up to date, and the same answer
    else:
        assert set(table(tmp_path / ".out.work" / "dropped.tsv")) == {escaped(name) for name in made.bad}, told


@pytest.mark.parametrize("seed", range(FOLDERS))
def test_the_import_takes_every_good_utterance(seed: int, tmp_path: Path, call: Call) -> None:
    from kdtool.corpus.kaldi_import import main

    rng = random.Random(seed)
    made = random_kaldi(tmp_path / "in", rng, rng.randint(1, 2 * SIZE))
    status, told = call(main, made.path, tmp_path / "out", "--max-dropped", "0.99", "--nj", "2")
    assert status == (0 if made.good else 1), told
    out = tmp_path / ("out" if made.good else ".out.work")
    assert set(table(out / "dropped.tsv")) == set(made.bad), made
    if made.good:
        assert sorted(row["id"] for row in read_jsonl(out / "supervisions.jsonl.gz")) == sorted(made.good)
    if made.good and made.bad:
        status, told = call(main, made.path, tmp_path / "strict", "--nj", "2")
        assert status == 1 and "more than the allowed 0.0%" in told and sorted(made.bad)[0] in told, told


