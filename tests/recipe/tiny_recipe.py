"""The tiny recipe's command.  In: the speech sample in KD_SAMPLE (default ../shared/data beside the checkout) when that folder
is there, the embedded corpus otherwise; which of them is printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "egs/mini_librispeech/run.sh"
SAMPLE = Path(os.environ.get("KD_SAMPLE", ROOT.parent / "shared" / "data"))


def command(work: Path, run_sh: Path = RUN) -> list[str]:
    base = [str(run_sh), "--tiny", "--work", str(work)]
    if not SAMPLE.exists():
        print("corpus: embedded")
        return base
    print(f"corpus: {SAMPLE}")
    lm_text, lexicon = SAMPLE / "librispeech_lm/librispeech-lm-norm.txt.gz", SAMPLE / "cmudict/cmudict.dict"
    return [*base, "--corpus", str(SAMPLE / "librispeech_sample"), "--lm-text", str(lm_text), "--lexicon", str(lexicon)]


def run(argv: list[str], **variables: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


def run_and_count(argv: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """The lines that a recipe prints, and the toolkit's modules that were started as processes, in their order.

    The recipe gets its own Python in `folder`, which notes how it is called.
    """
    python, calls = folder / "python", folder / "calls"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{calls}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    lines = run(argv, KD_PYTHON_ENV=str(python), KD_KENLM_BIN=str(Path(shutil.which("lmplz") or "").parent)).splitlines()
    words = [line.split() for line in calls.read_text().splitlines()]
    return lines, [w[1] for w in words if w[0] == "-m" and w[1] != "kdtool.core.native"]
