"""The tiny recipe, whole: it ends in a table, runs again as 'up to date', and killed and resumed gives the same bytes.

In: the speech sample in KD_SAMPLE (default ../shared/data beside the checkout) when that folder is there, the embedded
corpus otherwise. The choice is printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(os.environ.get("KD_SAMPLE", ROOT.parent / "shared" / "data"))
STAGES = 13
KILLS = 3


def command(work: Path) -> list[str]:
    base = [str(ROOT / "egs/mini_librispeech/run.sh"), "--tiny", "--work", str(work)]
    if not SAMPLE.exists():
        print("corpus: embedded")
        return base
    print(f"corpus: {SAMPLE}")
    lm_text, lexicon = SAMPLE / "librispeech_lm/librispeech-lm-norm.txt.gz", SAMPLE / "cmudict/cmudict.dict"
    return [*base, "--corpus", str(SAMPLE / "librispeech_sample"), "--lm-text", str(lm_text), "--lexicon", str(lexicon)]


def run(work: Path, *extra: str) -> str:
    done = subprocess.run([*command(work), *extra], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    print(run(work)[-4000:])
    print(f"tiny recipe: {time.monotonic() - begin:.0f} s")
    return work


def test_ends_in_a_table_with_every_system(finished: Path) -> None:
    rows = json.loads((finished / "exp/results.json").read_text())
    systems = {row["system"] for row in rows}
    assert systems == {"mono", "tri", "student_ce", "student_mtl", "student_li", "student_hmt"}
    for row in rows:
        rate = row["per"] if row["wer"] is None else row["wer"]
        assert row["words"] > 0 and 0 <= rate <= 150 and row["ci95"][0] <= rate <= row["ci95"][1], row
    for system in systems:
        assert system in (finished / "RESULTS.md").read_text()


def test_second_run_is_up_to_date(finished: Path) -> None:
    begin = time.monotonic()
    lines = [line for line in run(finished).splitlines() if not line.startswith("==")]
    seconds = time.monotonic() - begin
    ran = [line for line in lines if " runs (" in line]
    assert not ran and sum("up to date" in line for line in lines) > 20, ran
    assert seconds < 20, seconds


def content(work: Path) -> dict[str, str]:
    """Digest of each file that a user would compare: scores, alignments, dumps, weights."""
    wanted = [p for p in work.rglob("*") if p.suffix in (".safetensors", ".ctm", ".tsv", ".arpa") or p.name == "results.json"]
    visible = [p for p in wanted if not any(part.startswith(".") for part in p.relative_to(work).parts)]
    return {str(p.relative_to(work)): hashlib.sha256(p.read_bytes()).hexdigest() for p in visible if p.is_file()}


def test_killed_and_resumed_gives_the_same_result(finished: Path, tmp_path: Path) -> None:
    times = random.Random(2026)
    for kill in range(KILLS):
        log = tmp_path / f"killed.{kill}.log"
        with open(log, "wb") as f:
            child = subprocess.Popen(command(tmp_path), start_new_session=True, stdout=f, stderr=subprocess.STDOUT)
        try:
            child.wait(times.uniform(5, 60))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
        status = child.wait()
        print(f"kill {kill + 1}: exit status {status}")
        assert status in (0, -signal.SIGKILL), log.read_text()[-3000:]
    run(tmp_path)
    assert content(tmp_path) == content(finished)
