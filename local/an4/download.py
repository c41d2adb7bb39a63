"""Fetch AN4.  In: its site or a mirror.  Out: <out>/an4 with etc and wav (sphere files), 64 MB.

An interrupted download goes on where it stopped; the archive is checked by its SHA256 and unpacked beside its place, so what
is there is whole.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.corpus.download import check_members, fetch

SITE = "http://www.speech.cs.cmu.edu/databases/an4"
ARCHIVE = "an4_sphere.tar.gz"
# The site publishes no sum; this is the one that a public training recipe checks its copy by.
SHA256 = "a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12"
MARK = ".completed"
HOW = "--base-url (or KD_AN4)"


@dataclass(frozen=True)
class Config:
    """Options of the download."""

    base_url: str = field(
        default_factory=lambda: os.environ.get("KD_AN4", SITE),
        metadata={"help": f"mirror: what stands before /{ARCHIVE}; KD_AN4 sets it too"},
    )


def unpack(archive: Path, out: Path) -> None:
    """Unpack to <out>/an4, whole or not at all."""
    from lhotse.utils import safe_extract

    work = out / ".an4.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            check_members(archive, tar.getmembers(), "an4", "an4/etc")
            safe_extract(tar, path=work)
    except (tarfile.TarError, EOFError) as e:
        raise KdError(f"{archive}: cannot be unpacked ({e}); remove it and run the same command again") from e
    (work / "an4" / MARK).touch()
    shutil.rmtree(out / "an4", ignore_errors=True)
    os.rename(work / "an4", out / "an4")
    shutil.rmtree(work)


def arguments() -> tuple[Path, str]:
    """Where to, where from."""
    paths, cfg, _ = parse_args(
        Config, [("out", "folder to download to")], None, prog="local/an4/download.sh", description=__doc__ or ""
    )
    return paths["out"], cfg.base_url.rstrip("/")


def would_run() -> str:
    """Why something would be downloaded, '' when all is there; for a recipe's --dry-run."""
    return "" if (arguments()[0] / "an4" / MARK).exists() else f"{ARCHIVE} not there yet"


def main() -> None:
    out, base_url = arguments()
    if not would_run():
        print("download an4: up to date")
        return
    out.mkdir(parents=True, exist_ok=True)
    fetch(f"{base_url}/{ARCHIVE}", out / ARCHIVE, SHA256, HOW)
    unpack(out / ARCHIVE, out)
    (out / ARCHIVE).unlink()
    print("download an4: done")


if __name__ == "__main__":
    cli_main(main)
