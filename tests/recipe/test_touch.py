"""One input or option changed: exactly what depends on it would run again, and the reason names the item.

What would run comes from --dry-run, whose reasons are those of a run; one change is carried out to see that they agree.
"""

from __future__ import annotations

import gzip
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from tiny_recipe import ROOT, command, run

WOULD = re.compile(r"(.+) -> (\S+): would run \((.*)\)")

# The section of tiny.yaml, option and value that are changed; the reason; the outputs that run again, and which of those do
# not. Everything in exp/ but what is named depends on the stages up to align.
TOUCHED = {
    "corpus": ("corpus", "max_utts", 59, "data/train_clean_5: changed: option count 60 -> 59",
               ["data/train_clean_5*", "data/lang", "data/lm_?gram", "exp/*"], []),
    "lang": ("lang", "bpe_size", 101, "data/lang: changed: option bpe_size 100 -> 101",
             ["data/lang", "data/lm_?gram", "exp/*"], []),
    "lang, its text": ("lm_text", "max_lines", 5999, "data/lm_text: changed: option max_lines 6000 -> 5999",
                       ["data/lm_text", "data/lang", "data/lm_?gram", "exp/*"], []),
    "features": ("mfcc", "max_dropped", 0.5, "/mfcc: changed: option max_dropped 0.05 -> 0.5",
                 ["data/*/mfcc", "exp/*"], []),
    "features of students": ("fbank", "max_dropped", 0.5,
                             "dev_clean_2/fbank: changed: option max_dropped 0.05 -> 0.5", ["data/dev_clean_2/fbank", "exp/student_*"], []),
    "lms": ("lm_3gram", "prune", "0 0 2", "data/lm_3gram: changed: option prune 0 0 1 -> 0 0 2",
            ["data/lm_3gram", "exp/*/graph_3gram", "exp/*/decode_dev_3gram"], []),
    "mono": ("mono", "gaussians", 240, "exp/mono: changed: option gaussians 250 -> 240", ["exp/*"], []),
    "tri": ("tri", "leaves", 190, "exp/tri: changed: option leaves 200 -> 190",
            ["exp/*"], ["exp/mono", "exp/mono/ali_train", "exp/mono/*_3gram"]),
    "sat": ("sat", "leaves", 190, "exp/sat: changed: option leaves 200 -> 190",
            ["exp/*"], ["exp/mono", "exp/mono/ali_train", "exp/tri", "exp/tri/ali_train", "exp/lda_mllt*",
                        "exp/mono/*_3gram", "exp/tri/*_3gram"]),
    "align": ("align", "boost_silence", 1.5, "changed: option boost_silence 1.0 -> 1.5",
              ["exp/sat/ali_*", "exp/teacher_*", "exp/student_*", "exp/*/graph_phone", "exp/*/decode_dev_phone"], []),
    "teachers": ("teacher_senone", "held_out", 99, "exp/teacher_senone: changed: option held_out",
                 ["exp/teacher_senone*", "exp/student_*"], []),
    "posteriors": ("posteriors", "mass", 0.98, "post_train: changed: option mass 0.99 -> 0.98",
                   ["exp/teacher_*/post_train", "exp/student_*"], []),
    "students": ("student_ce", "lr", 0.005, "changed: option lr 0.004 -> 0.005", ["exp/student_*"], []),
    "one student": ("student_mtl", "lr", 0.005, "exp/student_mtl: changed: option lr 0.004 -> 0.005", ["exp/student_mtl*"], []),
    "graphs": ("graph_phone", "min_count", 4, "graph_phone: changed: option min_count 5 -> 4",
               ["exp/*/graph_phone", "exp/*/decode_dev_phone"], []),
    "decode": ("decode_gmm", "max_active", 900, "decode_dev_3gram: changed: option max_active 1000 -> 900",
               ["exp/*/decode_dev_3gram"], ["exp/student_*"]),
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """run.sh with separate options to change."""
    (tmp_path / "egs").mkdir()
    shutil.copytree(ROOT / "egs/mini_librispeech", tmp_path / "egs/mini_librispeech")
    (tmp_path / "utils").symlink_to(ROOT / "utils")
    return tmp_path / "egs/mini_librispeech/run.sh"


def edit(recipe: Path, section: str, key: str, value: object) -> None:
    conf = recipe.parent / "conf/tiny.yaml"
    content = yaml.safe_load(conf.read_text())
    assert content.setdefault(section, {}).get(key) != value
    content[section][key] = value
    conf.write_text(yaml.safe_dump(content, sort_keys=False))


def asked(argv: list[str]) -> tuple[set[str], dict[str, str]]:
    """All outputs; those that would be made again, and why."""
    lines = run([*argv, "--dry-run"]).splitlines()
    would = {m[2]: m[3] for line in lines if (m := WOULD.fullmatch(line))}
    return {line.split(" -> ")[1].split(":")[0] for line in lines if " -> " in line}, would


def check(argv: list[str], reason: str, runs: list[str], but: list[str]) -> None:
    outputs, would = asked(argv)
    expected = {o for o in outputs if any(fnmatch(o, p) for p in runs) and not any(fnmatch(o, p) for p in but)} | {"RESULTS.md"}
    assert set(would) == expected, {o: would.get(o) for o in set(would) ^ expected}
    touched = [f"{out}: {why}" for out, why in would.items() if not why.startswith("follows ")]
    assert touched and all(reason in line for line in touched if line.split(":")[0] != "RESULTS.md"), touched


@pytest.mark.parametrize("what", TOUCHED)
def test_an_option(what: str, recipe: Path, finished: Path) -> None:
    section, key, value, reason, runs, but = TOUCHED[what]
    edit(recipe, section, key, value)
    check(command(finished, recipe), reason, runs, but)


@pytest.mark.parametrize(("name", "out", "runs", "but"), [
    ("lexicon", "data/lang", ["data/lang", "data/lm_?gram", "exp/*"], []),
    ("lm_text", "data/lm_text", ["data/lm_text", "data/lang", "data/lm_?gram", "exp/*"], []),
])  # fmt: skip
def test_an_input(name: str, out: str, runs: list[str], but: list[str], finished: Path, tmp_path: Path) -> None:
    source = Path((finished / "data/source" / name).read_text().strip())
    changed = tmp_path / source.name
    shutil.copy(source, changed)
    if changed.suffix == ".gz":
        with gzip.open(changed, "at") as f:
            f.write("ONE MORE LINE\n")
    else:
        changed.write_text(changed.read_text() + "zyzzyva  Z IH Z IH V AH\n")
    given = {n: (finished / "data/source" / n).read_text().strip() for n in ("corpus", "lm_text", "lexicon")} | {name: str(changed)}
    options = [word for n, value in given.items() for word in ("--" + n.replace("_", "-"), value)]
    argv = [*command(finished)[:4], *options]
    check(argv, f"{out}: changed: input {'text' if name == 'lm_text' else name}", runs, but)


@pytest.mark.parametrize(("lost", "runs", "but"), [
    ("exp/sat/ali_dev/ali.safetensors", ["exp/sat/ali_dev", "exp/teacher_*", "exp/student_*", "exp/*/decode_dev_phone"], []),
    ("exp/mono/graph_3gram/meta.json", ["exp/mono/graph_3gram", "exp/mono/decode_dev_3gram"], []),
    ("exp/tri/decode_dev_phone/score.json", ["exp/tri/decode_dev_phone"], []),
])  # fmt: skip
def test_an_output(lost: str, runs: list[str], but: list[str], finished: Path) -> None:
    path = finished / lost
    path.rename(path.with_name(f".{path.name}"))
    try:
        check(command(finished), f"{Path(lost).parent}: changed: its output was altered, {path.name} is missing", runs, but)
    finally:
        path.with_name(f".{path.name}").rename(path)


def test_the_tables(finished: Path) -> None:
    table = finished / "RESULTS.md"
    text = table.read_text()
    table.write_text(text.replace("Phone error rate", "Phone success rate", 1))
    try:
        assert asked(command(finished))[1] == {"RESULTS.md": "changed: its output was altered, line 11 of RESULTS.md"}
        run(command(finished))
        assert "success" not in table.read_text()
    finally:
        table.write_text(text)


def test_what_was_said_is_what_runs(recipe: Path, finished: Path) -> None:
    # In place: a copy would have its embedded corpus elsewhere, which counts as another corpus.
    edit(recipe, "decode_phone", "max_active", 400)
    argv = command(finished, recipe)
    outputs, would = asked(argv)
    assert len(would) == sum("decode_dev_phone" in o for o in outputs) + 1
    lines = run(argv).splitlines()
    assert lines.count("decode: runs (changed: option max_active 500 -> 400)") == len(would) - 1
    assert sum(" runs (" in line for line in lines) == len(would) - 1
    run(command(finished))
