"""One Slurm for all tests of this folder; the tests' own arrays go to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from one_node import OneNode

INSTALL = Path(__file__).parent / "install.sh"


@pytest.fixture(scope="session")
def cluster() -> Iterator[OneNode]:
    subprocess.run([INSTALL], check=True)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with OneNode() as node:
        os.environ.update(SLURM_CONF=node.env["SLURM_CONF"], KD_BACKEND="slurm")
        yield node
    for name in ("SLURM_CONF", "KD_BACKEND"):
        del os.environ[name]
