"""A monophone model trained in half a minute on the embedded corpus, and audio with true times that it has not heard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ("--train-utts", "60", "--dev-utts", "32", "--lm-sentences", "200", "--nj", "2")
SCHEDULE = ("--iterations", "10", "--realign", "[1, 2, 3, 4, 6, 8]", "--gaussians", "400", "--grow-until", "8")


def run(module: str, *arguments: object) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make(root: Path) -> None:
    """root/corpus (audio, texts, lexicon, truth), root/exp/mono and its root/data/lang."""
    corpus, data = root / "corpus", root / "data"
    run("local.librispeech.embedded", *CORPUS, corpus)
    run("local.librispeech.prepare_data", corpus / "LibriSpeech", data)
    run("kdtool.lm.text", corpus / "lm-text.txt.gz", data / "lm_text")
    train = data / "train_clean_5"
    options = ("--bpe-size", "60", "--g2p", "false", "--vocab-size", "500", "--align-data", data / "dev_clean_2")
    run("kdtool.lang.prepare", *options, corpus / "lexicon.txt", data / "lm_text", train, data / "lang")
    run("kdtool.features.extract", "--kind", "mfcc", train, train / "mfcc")
    run("kdtool.gmm.train_mono", *SCHEDULE, train / "mfcc", data / "lang", root / "exp" / "mono")
