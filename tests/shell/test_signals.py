"""A signal to a script: it ends with all its children, and the next run gives the result of an undisturbed one.  In: scripts at work.

Nothing here depends on how long something takes: the jobs wait for a file, and LIMIT is a guard against a hang.
"""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_input_data import ROOT, RUN, processes_of, write_corpus
from kaldi_data import put, write_audio

LIMIT = 240  # seconds
JOB = 'mkdir -p WORK/begun; touch WORK/begun/N; until [[ -e WORK/go ]]; do sleep 0.05; done; echo N >WORK/out.N'
RECIPE = """#!/bin/bash -p
set -euo pipefail
here={root}/egs/mini_librispeech
source "$here/path.sh"
source "$KD_ROOT/utils/recipe.sh"
opt=([work]="") stages=(jobs import) about=([jobs]="two jobs that wait" [import]="a real step")
jobs() {{
  "$KD_ROOT/utils/launch.sh" N=1,2 N.log bash -c '{job}'
  echo both done
}}
import() {{ run utils/import_kaldi_data.sh --nj 2 --allow-pipes true kaldi data; }}
recipe_options "$@"
recipe_run
"""


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until it is there; an AssertionError when the process ends before, or never gets there."""
    end = time.monotonic() + LIMIT
    while not what():
        assert process.poll() is None and time.monotonic() < end, process.communicate(timeout=LIMIT)
        time.sleep(0.02)


def start(*argv: object) -> subprocess.Popen[str]:
    """Start it in a new session, with signals as at a terminal."""
    return subprocess.Popen([str(a) for a in argv], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """What it printed; no process of its session is left."""
    output, _ = process.communicate(timeout=LIMIT)
    assert processes_of(process.pid) == [], output
    return output


def recipe(work: Path) -> Path:
    """A recipe of two stages; the first waits for the file `go` in the work folder, the second imports `kaldi`."""
    work.mkdir()
    script = work / "run.sh"
    script.write_text(RECIPE.format(root=ROOT, job=JOB.replace("WORK", str(work))))
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_to_run_sh_alone_ends_it_and_its_children(name: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run = start(recipe(work), "--work", work, "--stop-stage", "jobs")
    wait_for(lambda: len(list(work.glob("begun/*"))) == 2, run)
    os.kill(run.pid, signal.Signals[f"SIG{name}"])
    output = ended(run)
    assert run.returncode == 130 and output.endswith("interrupted; run the same command again to go on\n"), output
    assert "both done" not in output and not list(work.glob("out.*"))
    (work / "go").touch()
    again = start(work / "run.sh", "--work", work, "--stop-stage", "jobs")
    assert "both done" in ended(again) and again.returncode == 0
    assert sorted(p.read_text() for p in work.glob("out.*")) == ["1\n", "2\n"]


def test_a_step_that_was_ended_is_done_by_the_next_run(tmp_path: Path) -> None:
    """Ended in the middle of its work, as a command in wav.scp waits for the file `go`."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for work in (whole, broken):
        recipe(work)
        ids = [f"{speaker}-{n}" for speaker in "ab" for n in range(3)]
        for utterance in ids:
            write_audio(work / f"{utterance}.wav")
        pipe = f"touch {work}/begun; until [[ -e {work}/go ]]; do sleep 0.05; done; cat {work}/a-1.wav |"
        sources = {u: pipe if u == "a-1" else f"{work}/{u}.wav" for u in ids}
        put(work / "kaldi", wav_scp="".join(f"{u} {source}\n" for u, source in sources.items()),
            text="".join(f"{u} HELLO\n" for u in ids), utt2spk="".join(f"{u} {u[0]}\n" for u in ids))  # fmt: skip
    (whole / "go").touch()
    run = start(broken / "run.sh", "--work", broken, "--stage", "import")
    wait_for((broken / "begun").exists, run)
    run.terminate()
    assert "interrupted" in ended(run) and run.returncode == 130 and not (broken / "data").exists()
    (broken / "go").touch()
    for work in (whole, broken):
        done = start(work / "run.sh", "--work", work, "--stage", "import")
        output = ended(done)
        assert done.returncode == 0, output
    made = [{str(p.relative_to(work)): content(p, work) for p in (work / "data").rglob("*") if p.suffix in (".gz", ".tsv", ".flac")}
            for work in (whole, broken)]  # fmt: skip
    assert made[0] == made[1] and len(made[0]) >= 4


def content(path: Path, work: Path) -> bytes:
    """A file's content without the name of the work folder."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).replace(str(work).encode(), b"WORK")


def test_ctrl_c_at_a_terminal_ends_every_child(tmp_path: Path) -> None:
    """A terminal sends INT to the whole group: the steps get it directly and from run.sh."""
    work = tmp_path / "work"
    run = start(recipe(work), "--work", work)
    wait_for(lambda: len(list(work.glob("begun/*"))) == 2, run)
    os.killpg(run.pid, signal.SIGINT)
    output = ended(run)
    assert run.returncode == 130 and "run the same command again" in output and "Traceback" not in output, output


def test_a_real_stage_that_was_ended_gives_the_same_data(tmp_path: Path) -> None:
    """TERM as soon as the first step has said that it runs: the run may have got further by then, never to another result."""
    write_corpus(tmp_path / "corpus")
    text = tmp_path / "text"
    text.write_text("HELLO WORLD\n")
    argv = ["--tiny", "--corpus", tmp_path / "corpus", "--lm-text", text, "--lexicon", text, "--stop-stage", "corpus"]
    run = start(RUN, *argv, "--work", tmp_path / "broken")
    assert run.stdout is not None
    lines = iter(run.stdout.readline, "")
    assert any("runs (no output yet)" in line for line in lines)
    run.terminate()
    ended(run)
    assert run.returncode in (0, 130)
    for work in ("broken", "whole"):
        done = start(RUN, *argv, "--work", tmp_path / work)
        assert "stage 1" in ended(done) and done.returncode == 0
    for name in ("train_clean_5/audio.tsv", "train_clean_5/supervisions.jsonl.gz", "dev_clean_2/supervisions.jsonl.gz", "source/corpus"):
        assert (tmp_path / "broken/data" / name).read_bytes() == (tmp_path / "whole/data" / name).read_bytes(), name


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_to_the_launcher_alone_ends_what_its_jobs_started(name: str, tmp_path: Path) -> None:
    launch = start(ROOT / "utils/launch.sh", "N=1,2", tmp_path / "N.log", "bash", "-c", JOB.replace("WORK", str(tmp_path)))
    wait_for(lambda: len(list(tmp_path.glob("begun/*"))) == 2, launch)
    os.kill(launch.pid, signal.Signals[f"SIG{name}"])
    output = ended(launch)
    assert launch.returncode == 130 and "run the same command again" in output and not list(tmp_path.glob("out.*")), output


def test_a_job_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = f"trap '' TERM HUP INT; touch {tmp_path}/begun; while :; do sleep 0.05; done"
    launch = start(ROOT / "utils/launch.sh", "N=1:1", tmp_path / "N.log", "bash", "-c", deaf)
    wait_for((tmp_path / "begun").exists, launch)
    launch.terminate()
    ended(launch)
    assert launch.returncode == 130
