"""The recipe's command line.  In: run.sh as a user calls it.  Out: exit status and message."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from bad_input_data import write_corpus

ROOT = Path(__file__).resolve().parents[2]
RUN = str(ROOT / "egs/mini_librispeech/run.sh")


def call(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, *argv], capture_output=True, text=True, check=False, cwd=cwd, timeout=240)


@pytest.mark.parametrize(("argv", "status", "message"), [
    (["--no-such-option"], 2, "unknown option --no-such-option"),
    (["--stage", "0"], 2, "--stage 0: no such stage"),
    (["--stage", "99"], 2, "--stage 99: no such stage"),
    (["--stage", "$(id)"], 2, "no such stage"),
    (["--stop-stage", "nowhere"], 2, "--stop-stage nowhere: no such stage"),
    (["--stage", "decode", "--stop-stage", "corpus"], 2, "comes after"),
    (["--stage", "ablation", "--stop-stage", "results"], 2, "comes after"),
    (["--stage"], 2, "wants a value"),
    (["--nj", "none"], 2, "--nj none"),
    (["stray"], 2, "unexpected argument"),
    (["--help"], 0, ""),
    (["--list-stages"], 0, ""),
    (["--corpus", "nowhere", "--lm-text", "a", "--lexicon", "b"], 1, "nowhere: no such file or folder"),
    (["--corpus", "."], 2, "--corpus was given without --lm-text"),
])  # fmt: skip
def test_exit_status_and_message(argv: list[str], status: int, message: str, tmp_path: Path) -> None:
    done = call("--work", str(tmp_path / "w"), *argv, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    if status == 2:
        assert not (tmp_path / "w" / "exp").exists()


def test_two_runs_on_one_work_folder(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    (tmp_path / "text").write_text("HELLO WORLD\n")
    work = tmp_path / "work"
    argv = ["--tiny", "--corpus", f"{tmp_path}/corpus", "--lm-text", f"{tmp_path}/text", "--lexicon", f"{tmp_path}/text"]
    argv += ["--work", str(work), "--stop-stage", "1"]
    first = subprocess.Popen([RUN, *argv], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stdout is not None and "stage 1" in first.stdout.readline()
    os.killpg(first.pid, signal.SIGSTOP)
    second = call(*argv)
    assert second.returncode == 1, second.stderr
    for word in (f"--work {work} is in use by", "run.sh --tiny --corpus", f"(pid {first.pid} on ", ", user ", ", since ", "--wait-lock"):
        assert word in second.stderr, second.stderr
    third = subprocess.Popen([RUN, *argv, "--wait-lock", "200"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert third.stderr is not None and f"(pid {first.pid} on " in (said := third.stderr.readline()) and "waiting up to 200 s" in said
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    output, error = third.communicate(timeout=240)
    assert third.returncode == 0 and "corpus train_clean_5: done" in output, error


@pytest.mark.parametrize(("options", "message"), [
    ([], "--corpus is missing"), (["--corpus", "."], "--lexicon is missing"), (["--lexicon", "lexicon.txt"], "--corpus is missing"),
])  # fmt: skip
def test_a_corpus_of_lhotse_without_what_it_takes(options: list[str], message: str, tmp_path: Path) -> None:
    argv = [str(ROOT / "egs/lhotse_corpus/run.sh"), "librispeech", "--work", str(tmp_path / "w"), *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "w").exists(), done.stderr


def test_without_names_of_parts_the_parts_are_named(tmp_path: Path) -> None:
    """Nothing else is made; the message ends with what to do."""
    write_corpus(tmp_path / "corpus")
    (tmp_path / "lexicon.txt").write_text("HELLO HH AH L OW\n")
    argv = [str(ROOT / "egs/lhotse_corpus/run.sh"), "librispeech", "--corpus", "corpus", "--lexicon", "lexicon.txt",
            "--arguments", "{dataset_parts: [train-clean-5, dev-clean-2]}", "--work", "w"]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and "librispeech: part dev_clean_2" in done.stdout, done.stdout + done.stderr
    assert "--train and --test: name two parts of the corpus" in done.stderr
    assert [p.name for p in (tmp_path / "w/data").iterdir()] == ["source"]


ALL = sorted(p.parent.name for p in (ROOT / "egs").glob("*/run.sh"))


@pytest.mark.parametrize("recipe", ALL)
def test_asking_what_would_run_leaves_nothing_behind(recipe: str, tmp_path: Path) -> None:
    argv = [str(ROOT / "egs" / recipe / "run.sh"), "--tiny", "--work", str(tmp_path / "w")]
    for question, answer in (("--dry-run", "would run (follows "), ("--list-stages", "not made yet")):
        done = subprocess.run([*argv, question], capture_output=True, text=True, check=False)
        assert done.stdout.count(answer) >= 5, done.stdout + done.stderr
        assert not (tmp_path / "w").exists()


def test_a_script_that_a_recipe_calls_itself_is_not_run_to_plan_it(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(f"""#!/bin/bash -p
here={ROOT}/egs/mini_librispeech
source "$here/path.sh"
source "$KD_ROOT/utils/recipe.sh"
opt=([work]="") stages=(one) about=([one]="a stage")
one() {{ "$KD_ROOT/utils/launch.sh" N=1 "{tmp_path}/log.N" touch "{tmp_path}/made"; }}
recipe_options "$@"
recipe_run
""")
    script.chmod(0o755)
    done = subprocess.run([str(script), "--work", str(tmp_path / "w"), "--dry-run"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "launch.sh: a recipe calls scripts by run and each only" in done.stderr, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["run.sh"]


@pytest.mark.parametrize("recipe", [name for name in ALL if name != "lhotse_corpus"])  # which has those of kaldi_dir
def test_options_in_conf(recipe: str, tmp_path: Path) -> None:
    """No two files are equal, a file says more than what recipes share, and each section of tiny.yaml is laid over a file."""
    shared, conf = ROOT / "utils/conf", ROOT / "egs" / recipe / "conf"
    files = [*shared.glob("*.yaml"), *(ROOT / "egs").glob("*/conf/*.yaml")]
    assert len({f.read_bytes() for f in files}) == len(files)
    known = {f.stem for folder in (shared, conf) for f in folder.glob("*.yaml")}
    sections = yaml.safe_load((conf / "tiny.yaml").read_text())
    assert set(sections) <= known, set(sections) - known
    for file in conf.glob("*.yaml"):
        if (shared / file.name).exists():
            own, general = (yaml.safe_load(f.read_text()) for f in (file, shared / file.name))
            assert any(general.get(key) != value for key, value in own.items()), file


def test_conf_is_laid_over_the_recipes_options(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    (tmp_path / "text").write_text("HELLO WORLD\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/corpus.yaml").write_text("max_utts: none of them\n")
    argv = ["--tiny", "--corpus", f"{tmp_path}/corpus", "--lm-text", f"{tmp_path}/text", "--lexicon", f"{tmp_path}/text"]
    done = call(*argv, "--work", str(tmp_path / "w"), "--stop-stage", "1", "--conf", str(tmp_path / "mine"))
    assert done.returncode == 2 and f"--config {tmp_path}/mine/corpus.yaml?: max_utts 'none of them'" in done.stderr, done.stderr


def test_systems_are_chosen(tmp_path: Path) -> None:
    argv = ["--tiny", "--work", str(tmp_path / "w"), "--dry-run", "--stage", "students", "--stop-stage", "students"]
    told = call(*argv, "--systems", "hmt,ce").stdout
    assert "-> exp/student_ce" in told and "-> exp/student_hmt" in told and "student_mtl" not in told, told
    for more in ([], ["--stage", "corpus"]):  # known before the first stage, too
        wrong = call("--tiny", "--work", str(tmp_path / "w"), *more, "--systems", "ce,none_such")
        assert wrong.returncode == 2 and "--systems none_such: no file" in wrong.stderr, wrong.stderr
        assert not wrong.stdout and not (tmp_path / "w").exists()


def test_a_test_set_goes_through_all_stages_and_chooses_nothing(tmp_path: Path) -> None:
    argv = ["--tiny", "--work", str(tmp_path / "w"), "--dry-run", "--systems", "ce", "--test"]
    told = call(*argv, str(tmp_path)).stdout
    made = ["data/test/mfcc", "data/test/fbank", "exp/sat/ali_test", *(f"exp/{system}/decode_{set_}_{graph}" for system in ("mono", "sat")
            for set_ in ("dev", "test") for graph in ("phone", "3gram"))]  # fmt: skip
    assert not [name for name in made if f"-> {name}:" not in told], told
    assert "_test" not in call(*argv[:-1]).stdout


@pytest.mark.parametrize(("asked", "told"), [
    (["--stage", "decode"], False), (["--stage", "results"], False), (["--stage", "ablation"], True),
    (["--stage", "results", "--stop-stage", "ablation"], True),
])  # fmt: skip
def test_the_ablation_runs_only_when_it_is_named(asked: list[str], told: bool, tmp_path: Path) -> None:
    done = call("--tiny", "--work", str(tmp_path / "w"), "--dry-run", *asked)
    assert ("(only when named" in done.stdout) == told, done.stdout + done.stderr
    assert ("train_student -> exp/ablation/SYS: would run (follows exp/ablation/conf)" in done.stdout) == told
