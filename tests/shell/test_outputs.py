"""Places of outputs: every script refuses or keeps a user's files there, recipes before their first stage.

KD_SITUATIONS: three times the number of random places (default: 150); see tests/unit/test_outputs_random.py.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bad_input_changes import Case
from bad_input_data import ROOT, STEPS, Caller, command, copy_world, run_sh, write_corpus, write_world
from bad_input_outputs import CASES

SITUATIONS, SEED = int(os.environ.get("KD_SITUATIONS", "150")) // 3, int(os.environ.get("KD_SEED", "0"))
# Entry point -> module and arguments below the world's folder, as in STEPS; OUT is its output.
OTHERS: dict[str, tuple[str, list[str]]] = {
    "estimate_lang_probs": ("kdtool.ali.lang_probs", ["lang", "gmm/ali", "OUT"]),
    "train_chain_tree": ("kdtool.chain.train_tree", ["feats", "lang", "gmm/ali", "OUT"]),
    "convert_ali": ("kdtool.chain.convert", ["lang", "gmm/ali", "gmm", "OUT"]),
    "make_denominator": ("kdtool.chain.make_denominator", ["lang", "gmm/ali", "gmm", "OUT"]),
    "make_graph": ("kdtool.graph.make_graph", ["lang", "lm_text", "gmm", "OUT"]),
    "split_set": ("kdtool.corpus.split", ["data/train_clean_5", "OUT", "held_out"]),
    "train_mono": ("kdtool.gmm.train_mono", ["feats", "lang", "OUT"]),
    "train_lda_mllt": ("kdtool.gmm.train_lda_mllt", ["feats", "lang", "gmm/ali", "OUT"]),
    "train_sat": ("kdtool.gmm.train_sat", ["feats", "lang", "gmm/ali", "gmm", "OUT"]),
    "train_teacher": ("kdtool.teacher.train", ["t_text", "t_lang", "t_gmm", "t_ali", "t_ali", "OUT"]),
    "export_kaldi_data": ("kdtool.corpus.kaldi_export", ["data/train_clean_5", "OUT"]),
    "import_kaldi_data": ("kdtool.corpus.kaldi_import", ["kaldi", "OUT"]),
    "kdtool align": ("kdtool.aligner.align", ["=--model", "gmm", "=--lang", "lang", "=--out", "OUT", "corpus/dev-clean-2"]),
    "kdtool posteriors export": ("kdtool.posteriors.tool", ["=export", "posts", "OUT"]),
    "kdtool graph export": ("kdtool.graph.export", ["=export", "gmm/graph", "OUT"]),
    "make_embedded": ("local.librispeech.embedded", ["OUT"]),
    "make_embedded of AN4": ("local.an4.embedded", ["OUT"]),
    "lhotse's prepare_data": ("local.lhotse.prepare_data", ["=--name", "=librispeech", "corpus", "OUT"]),
}
CHEAP = ("lm text", "export_kaldi_data", "split_set", "import_kaldi_data", "kdtool posteriors export")  # these are run, too


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_world(root)
    kaldi, audio = root / "kaldi", sorted((root / "corpus/train-clean-5").rglob("*.flac"))
    kaldi.mkdir()
    (kaldi / "wav.scp").write_text("".join(f"{p.stem} {p}\n" for p in audio))
    (kaldi / "text").write_text("".join(f"{p.stem} HELLO WORLD\n" for p in audio))
    (kaldi / "utt2spk").write_text("".join(f"{p.stem} {p.stem.split('-')[0]}\n" for p in audio))
    return root


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(monkeypatch, capsys)


def tree(root: Path) -> dict[str, object]:
    """All that is below a folder."""
    found: dict[str, object] = {}
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(place, name)
            found[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused_and_untouched(case: Case, sound: Path, tmp_path: Path, call: Caller) -> None:
    world = copy_world(sound, tmp_path / "w")
    case.change(world)
    before = tree(world)
    status, told = call(case.step, world, *case.options)
    assert status == case.status and "Traceback" not in told, told
    assert all(word in told for word in case.words), (case.words, told)
    assert tree(world) == before


def words_of(entry: str, world: Path) -> list[str]:
    """The entry point's arguments."""
    if entry in STEPS:
        return command(entry, world)
    names = [n[1:] if n.startswith("=") else str(world / ("out" if n == "OUT" else n)) for n in OTHERS[entry][1]]
    return [*names[:1], "--nj", "1", *names[1:]] if names[0] == "export" else ["--nj", "1", *names]


def run(entry: str, world: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """The entry point's exit status, in this process."""
    from kdtool.core.cli import cli_main

    module = importlib.import_module((STEPS | OTHERS)[entry][0])
    words = words_of(entry, world)
    at = 1 if words[0] == "export" else 0
    monkeypatch.setattr(sys, "argv", [entry, *words[:at], *options, *words[at:]])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            cli_main(module.main)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return int(ended.value.code or 0)


NAMES = ("thesis.txt", ".git", "wav.scp", "text", "log", "feats.scp", "recordings.jsonl.gz", "config.yaml", "a b", "LibriSpeech")


def random_files(draw: random.Random, world: Path) -> list[str]:
    """Files of the user's in and beside the output; their contents."""
    told = []
    for number in range(draw.randint(1, 4)):
        place = world / draw.choice(["out", "out", "out", "out/log", "out/deep/er", ".", "held_out"]) / draw.choice(NAMES)
        if not os.path.lexists(place) and all(p.is_dir() or not os.path.lexists(p) for p in place.parents):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"user {number}")
            told.append(f"user {number}")
    if draw.random() < 0.2 and not os.path.lexists(world / "out"):
        (world / "out").symlink_to(world / "elsewhere")
    return told


def clear(world: Path, before: set[str]) -> None:
    """Remove what was added."""
    for name in sorted(set(os.listdir(world)) - before):
        path = world / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def test_random_files_before_every_entry_point(
    sound: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entries = [e for e in (*STEPS, *OTHERS) if not e.startswith(("validate", "fix")) and e != "decode in the model"]
    ended: dict[str, Counter[int]] = {entry: Counter() for entry in entries}
    world = copy_world(sound, tmp_path / "w")
    names = set(os.listdir(world))
    monkeypatch.chdir(tmp_path)
    for seed in range(SEED, SEED + SITUATIONS):
        draw, entry = random.Random(seed), entries[seed % len(entries)]
        mine = random_files(draw, world)
        if not (world / "out").exists() and entry not in CHEAP:
            (world / "out").write_text("user")  # what takes long is not to run
            mine.append("user")
        before = tree(world)
        for options in ((), ("--force",)):
            status = run(entry, world, monkeypatch, *options)
            told = capsys.readouterr()
            ended[entry][status] += 1
            after = tree(world)
            assert status in (0, 1, 2) and "Traceback" not in told.err, (seed, entry, told.err)
            if status == 2:
                assert after == before, (seed, entry, told.err)
            contents = {bytes(c).decode(errors="replace") for c in after.values() if isinstance(c, bytes)}
            assert contents >= set(mine), (seed, entry, told.err)
            before = after
        clear(world, names)
    with capsys.disabled():
        print(f"\n{SITUATIONS} random places: " + ", ".join(f"{entry} {dict(sorted(c.items()))}" for entry, c in ended.items()))
    assert sum(c[2] for c in ended.values()) > SITUATIONS


@pytest.mark.parametrize("entry", CHEAP)
def test_what_a_user_adds_to_an_output_is_in_a_backup_when_it_is_made_again(
    entry: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = copy_world(sound, tmp_path / "w")
    assert run(entry, world, monkeypatch) == 0
    changed = next(p for p in sorted((world / "out").rglob("*")) if p.is_file() and not p.name.startswith("."))
    for path in (changed, world / "out/notes.txt", world / "out/log/mine"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"mine {path.name}")
    assert run(entry, world, monkeypatch, "--force") == 0
    assert "3 files that you changed or added are kept in" in capsys.readouterr().out
    kept = sorted(p.read_text() for p in (world / ".out.backup.1").rglob("*") if p.is_file())
    assert kept == sorted([f"mine {changed.name}", "mine notes.txt", "mine mine"])
    assert run(entry, world, monkeypatch) == 0 and not (world / ".out.backup.2").exists()


@pytest.mark.parametrize("recipe", ["mini_librispeech", "an4", "kaldi_dir"])
def test_a_recipe_refuses_before_its_first_stage(recipe: str, tmp_path: Path) -> None:
    """The user stands in a Kaldi s5 and says --work . ; the last of the stages decides, nothing is made."""
    for name in ("data/train/text", "data/lang/L.fst", "exp/mono/final.mdl", "exp/tri/final.mdl", "exp/student_hmt/notes"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("weeks of work")
    before = tree(tmp_path)
    argv = [str(ROOT / "egs" / recipe / "run.sh"), "--tiny", "--work", "."]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "== stage" not in done.stdout, done.stdout + done.stderr
    for name in ("data/lang: holds 1 file (L.fst)", "exp/mono: holds 1 file (final.mdl)", "exp/tri: holds", "exp/student_hmt: holds"):
        assert name in done.stderr, done.stderr
    assert tree(tmp_path) == before


def test_a_recipe_takes_no_lock_of_another_program(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("a lock of another program")
    done = run_sh("--tiny", "--work", ".", cwd=tmp_path)
    assert done.returncode == 2 and ".lock: is no lock of this toolkit" in done.stderr, done.stderr
    assert (tmp_path / ".lock").read_text() == "a lock of another program"


def test_a_recipe_keeps_what_lies_where_its_facts_go(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    (tmp_path / "text").write_text("HELLO WORLD\n")
    fact = tmp_path / "w/data/source/corpus"
    fact.parent.mkdir(parents=True)
    fact.write_text("a table of mine\n")
    argv = ["--tiny", "--corpus", str(tmp_path / "corpus"), "--lm-text", str(tmp_path / "text"), "--lexicon", str(tmp_path / "text")]
    done = run_sh(*argv, "--work", str(tmp_path / "w"), "--stop-stage", "corpus")
    assert done.returncode == 0, done.stderr
    assert f"what was there is kept in {fact}.backup.1" in done.stderr
    assert fact.with_name("corpus.backup.1").read_text() == "a table of mine\n"
