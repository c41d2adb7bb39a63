"""Foreign file names: in tables, and as names of outputs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kdtool.aligner.inputs import find_items
from kdtool.aligner.items import Item
from kdtool.aligner.names import ctm_names, output_names, with_output_names
from kdtool.core.cli import parse_args
from kdtool.core.dropped import write_dropped
from kdtool.core.errors import KdError, UsageError
from kdtool.core.names import escaped, printable
from kdtool.core.tables import read_json, read_lines, write_json
from kdtool.gmm.train_mono import MonoConfig

NAME = st.binary(min_size=1, max_size=30).map(lambda b: os.fsdecode(b.replace(b"/", b"_").replace(b"\0", b"_")))
LETTER = st.characters(exclude_characters="/\0", exclude_categories=("Cs",))
PART = st.text(LETTER, min_size=1, max_size=90).filter(lambda s: s not in (".", ".."))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain é 講 \u3000\U0001f600.x", "plain é 講 \u3000\U0001f600.x"), ("a\tb\nc\rd", "a\\tb\\nc\\rd"), ("\x1b[31m", "\\x1b[31m"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"), ("back\\t", "back\\\\t"), ("\u2028\x85\u202e", "\\u2028\\u0085\\u202e"),
    ],
)  # fmt: skip
def test_a_name_is_one_field_of_one_line(name: str, shown: str) -> None:
    assert escaped(name) == shown
    assert printable(name.replace("\\", "")) == shown.replace("\\\\", "")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAME, NAME), unique_by=lambda row: row[0]))
def test_dropped_files_of_any_name_keep_their_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("d") / "dropped.tsv"
    write_dropped(path, rows)
    found = [line.split("\t") for line in read_lines(path)]
    assert sorted(name for name, _ in found) == sorted(escaped(name) for name, _ in rows)
    # As any other program would read them.
    assert path.read_bytes().decode("utf-8").split("\n") == ["\t".join(row) for row in found] + [""]


def test_json_keeps_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {name: [name]})
    assert b"\\udce9" in (tmp_path / "a.json").read_bytes() and read_json(tmp_path / "a.json") == {name: [name]}


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "講" * 84 + ".js"):
        write_json(tmp_path / name, 1)
        assert read_json(tmp_path / name) == 1 and len([*tmp_path.iterdir()]) == 1
        (tmp_path / name).unlink()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), unique=True, max_size=12), st.randoms(use_true_random=False))
@example(["A", "a", "á", "a\u0301"], random.Random(0))
def test_outputs_never_replace_each_other(tmp_path_factory: pytest.TempPathFactory, names: list[str], rng: random.Random) -> None:
    """On this disk; and no two names are equal but for capitals and accents, so on no other either."""
    root = tmp_path_factory.mktemp("o")
    # A disk holds no file beside a folder of the same name, so neither do the names.
    names = [n for n in names if not any(other.startswith(f"{n}/") for other in names)]
    made = output_names(names, root)
    rng.shuffle(names)
    for name in names:
        for suffix in (".TextGrid", ".json"):
            path = root / (made[name] + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists()
            path.write_text(name)
    assert len({value.casefold() for value in made.values()}) == len(names)
    assert all(len(value.splitlines()) == 1 and "\t" not in value for value in made.values())


def test_only_names_that_cannot_stay_change(tmp_path: Path) -> None:
    names = ["plain", "sub folder/zwei é", "-x", "a.b.", "講" * 80, ";;", "back\\slash", "twin", "Twin", "y", "y.json/z", "t\ta", "x" * 250]
    made = output_names(names, tmp_path)
    assert [n for n in names if made[n] != n] == ["Twin", "y", "t\ta", "x" * 250]
    assert made["Twin"].startswith("Twin~") and made["t\ta"].startswith("t_a~") and len(made["x" * 250]) == 246
    assert output_names(names, tmp_path) == made
    deep = "/".join(["d" * 200] * 19)
    assert len(output_names([deep], tmp_path)[deep]) < 4096 - len(str(tmp_path))
    items = with_output_names([Item("t\ta", "t\ta", Path("a"), "x"), Item("b", "s", Path("b"), "x", recording="R")], tmp_path)
    assert [(i.name, i.called, i.recording) for i in items] == [(made["t\ta"], "t\ta", ""), ("b", "b", "R")]
    assert "\t" not in items[0].speaker


def test_ctm_names_are_one_field_each() -> None:
    found = ctm_names(["a b", "a_b", ";; c", "d"])
    assert found.pop("a_b").startswith("a_b~") and found == {"a b": "a_b", ";; c": "_;_c", "d": "d"}


def test_an_accent_in_two_spellings_is_one_name(tmp_path: Path) -> None:
    (tmp_path / "e\u0301.wav").write_bytes(b"x")
    (tmp_path / "\u00e9.txt").write_text("A")
    [item], faults = find_items(tmp_path)
    assert (item.name, item.text, faults) == ("e\u0301", "A", [])
    for name in ("\u00e9.wav", "e\u0301.txt"):  # now each has its own
        (tmp_path / name).write_text("B")
    assert [(i.name, i.text) for i in find_items(tmp_path)[0]] == [("e\u0301", "B"), ("\u00e9", "A")]


def test_a_folder_whose_path_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with pytest.raises(KdError, match=r"caf\\xe9: its path is not UTF-8"):
        find_items(folder)
    with pytest.raises(UsageError, match=r"caf\\xe9: not UTF-8"):
        parse_args(MonoConfig, [("feats", "")], [str(folder)], prog="p", description="")
