"""The tiny recipe's command.  In: the speech sample in KD_SAMPLE (default ../shared/data beside the checkout) when that folder
is there, the embedded corpus otherwise; which of them is printed.
"""

from __future__ import annotations

import os
import subprocess
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


def run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout
