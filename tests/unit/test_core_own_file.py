"""Single files that tools write: a user's file at their place is kept, the tool's own is replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdtool.aligner import score
from kdtool.core import launch
from kdtool.core.cli import Common
from kdtool.core.errors import UsageError
from kdtool.core.own_file import check_file, keep_previous, note_own, remove_own, write_own_text
from kdtool.core.step import run_step
from kdtool.results import generated

ROOT = Path(__file__).resolve().parents[2]


def visible(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith(".made")}


def test_what_the_tool_wrote_is_replaced_and_all_else_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.tsv"
    for text in ("one", "two", "two"):
        write_own_text(path, text)
    assert visible(tmp_path) == {"table.tsv": "two"} and capsys.readouterr().err == ""
    path.write_text("edited")
    write_own_text(path, "three")
    assert visible(tmp_path) == {"table.tsv": "three", "table.tsv.backup.1": "edited"}
    assert f"what was there is kept in {path}.backup.1" in capsys.readouterr().err
    (tmp_path / ".table.tsv.made").write_text("the user's")
    for text in ("four", "five"):
        write_own_text(path, text)
    assert visible(tmp_path) == {"table.tsv": "five", **{f"table.tsv.backup.{n}": t for n, t in ((1, "edited"), (2, "three"), (3, "four"))}}
    assert (tmp_path / ".table.tsv.made").read_text() == "the user's"


def test_equal_content_empty_files_and_links(tmp_path: Path) -> None:
    mine, empty, alias = (tmp_path / n for n in ("mine", "empty", "alias"))
    mine.write_text("same")
    empty.touch()
    alias.symlink_to("mine")
    write_own_text(mine, "same")
    write_own_text(empty, "new")
    assert visible(tmp_path) == {"alias": "same", "empty": "new", "mine": "same"}
    write_own_text(alias, "other")
    assert alias.is_symlink() and visible(tmp_path) == {"alias": "other", "empty": "new", "mine": "other", "mine.backup.1": "same"}


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_own_text(pipe, "text")
    assert os.read(reader, 10) == b"text" and [p.name for p in tmp_path.iterdir()] == ["pipe"]
    os.close(reader)
    write_own_text(Path(os.devnull), "text")
    assert not os.path.isfile(os.devnull)


def test_folders_and_files_of_a_step_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "exp/toy"
    run_step("toy", out=out, inputs={}, options={}, code=(), common=Common(), body=lambda work: write_own_text(work / "result", "x"))
    for path, word in ((out, "is a folder"), (out / "result", "belongs to what a step made"), (out / ".done.json", "belongs to"),
                       (out / "env.json", "belongs to")):  # fmt: skip
        with pytest.raises(UsageError, match=word):
            write_own_text(path, "text")
    check_file(out / "notes.txt")
    assert (out / "result").read_text() == "x"


def test_only_what_the_tool_wrote_is_removed(tmp_path: Path) -> None:
    for name, own in (("fetched", True), ("brought", False)):
        (tmp_path / name).write_text(name)
        if own:
            note_own(tmp_path / name)
        remove_own(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["brought"]
    assert keep_previous(tmp_path / "nothing") is None


@pytest.mark.parametrize("mine", ["not JSON", "[]", "[1, 2]"])
def test_tables_keep_a_user_s_files(mine: str, tmp_path: Path) -> None:
    json_path, markdown = tmp_path / "results.json", tmp_path / "RESULTS.md"
    made = {"title": "T", "note": "", "command": "c", "date": "d", "git": "g"}

    def render(content: object, made: dict[str, str]) -> str:
        return "\n".join([*generated.heading(made), str(content)]) + "\n"

    json_path.write_text(mine)
    markdown.write_text("my own notes\n")
    assert generated.would_change(json_path, markdown, [3], made, render)
    generated.write(json_path, markdown, [3], made, render)
    assert visible(tmp_path)["results.json.backup.1"] == mine and visible(tmp_path)["RESULTS.md.backup.1"] == "my own notes\n"
    assert generated.would_change(json_path, markdown, [3], made, render) == ""
    generated.write(json_path, markdown, [4], made, render)
    generated.check(json_path, markdown, render, "collect_results")
    assert len(visible(tmp_path)) == 4


def test_a_launcher_keeps_what_is_in_its_logs_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.1.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["launch.sh", "JOB=1:2", str(tmp_path / "notes.JOB.txt"), "true"])
    for _ in range(2):
        launch.main()
    found = visible(tmp_path)
    assert {n: t for n, t in found.items() if ".jobs" not in n} == {
        "notes.1.txt": "# true\n", "notes.1.txt.backup.1": "mine", "notes.2.txt": "# true\n",
    }  # fmt: skip
    (tmp_path / "notes.2.txt").write_text("# true\nwith a remark of mine\n")
    launch.main()
    assert visible(tmp_path)["notes.2.txt.backup.1"] == "# true\nwith a remark of mine\n"
    (tmp_path / "folder.2").mkdir()
    monkeypatch.setattr(sys, "argv", ["launch.sh", "JOB=1:2", str(tmp_path / "folder.JOB"), "touch", str(tmp_path / "ran")])
    with pytest.raises(UsageError, match=r"folder.2: is a folder"):
        launch.main()
    assert not (tmp_path / "ran").exists()


def test_boundary_error_keeps_a_user_s_file_and_its_own_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aligned, truth, figures = tmp_path / "aligned", tmp_path / "truth", tmp_path / "figures.json"
    write_json_in(aligned / "json/u.json", {"words": [{"key": "A", "start": 0.0, "end": 0.5}], "phones": [
        {"label": "A", "start": 0.0, "end": 0.5, "silence": False}]})  # fmt: skip
    write_json_in(truth / "t.jsonl", {"id": "u", "words": [["A", 0.0, 0.5]], "phones": [["A", 0.0, 0.5]]})
    figures.write_text("mine")
    score.main(["--json", str(figures), str(aligned), str(truth)])
    assert (tmp_path / "figures.json.backup.1").read_text() == "mine" and '"mean": 0.0' in figures.read_text()
    before = visible(tmp_path)
    with pytest.raises(UsageError, match="is an input"):
        score.main(["--json", str(truth / "t.jsonl"), str(aligned), str(truth)])
    assert visible(tmp_path) == before


def write_json_in(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n")


def record(file: Path, line: str) -> subprocess.CompletedProcess[str]:
    script = 'set -euo pipefail; source "$0"; record "$1" "$2"'
    command = ["bash", "-c", script, str(ROOT / "utils/record.sh"), str(file), line]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_recipe_s_facts_keep_what_is_in_their_place(tmp_path: Path) -> None:
    fact = tmp_path / "data/source/corpus"
    for line in ("/a", "/a"):
        assert record(fact, line).returncode == 0
    assert visible(tmp_path) == {"data/source/corpus": "/a\n"}
    fact.write_text("a table of mine\n")
    (fact.parent / ".corpus").write_text("hidden")
    done = record(fact, "/b c")
    assert done.returncode == 0 and f"what was there is kept in {fact}.backup.1" in done.stderr
    assert visible(fact.parent) == {"corpus": "/b c\n", "corpus.backup.1": "a table of mine\n", ".corpus": "hidden"}
    fact.unlink()
    fact.mkdir()
    done = record(fact, "/c")
    assert done.returncode == 2 and "is a folder" in done.stderr
