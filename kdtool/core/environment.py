"""Versions and git state of this run.  In: nothing.  Out: a dict for the run's record."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "k2", "lhotse", "numpy", "kenlm", "sentencepiece", "kaldifst", "kaldilm", "phonetisaurus", "safetensors")


def environment() -> dict[str, Any]:
    """Versions and git state, for the record of a run."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "packages": versions, "git": git_state()}


def git_state() -> str:
    """Commit of the toolkit's checkout, '-dirty' when it has uncommitted changes; 'unknown' outside git."""
    root = Path(__file__).resolve().parents[2]
    # An exported GIT_DIR would name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        return subprocess.check_output(["git", "-C", str(root), *words], env=env, stderr=subprocess.DEVNULL, text=True).strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
