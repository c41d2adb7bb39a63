"""Downloads AN4.  In: its site or a mirror.  Out: <out>/an4 with etc and wav (sphere files), 64 MB.

An interrupted download continues where it stopped; the archive is checked by its SHA256 and unpacked under another name, so
the result is complete.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.own_file import remove_own
from kdtool.corpus.download import check_unpacked, fetch, unpacked

SITE = "http://www.speech.cs.cmu.edu/databases/an4"
ARCHIVE = "an4_sphere.tar.gz"
# The site publishes no checksum; this one is from a public training recipe.
SHA256 = "a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12"
MARK, WORK = ".completed", ".an4.work"
HOW = "--base-url (or KD_AN4)"


@dataclass(frozen=True)
class Config:
    """Options of the download."""

    base_url: str = field(
        default_factory=lambda: os.environ.get("KD_AN4", SITE),
        metadata={"help": f"mirror: the URL before /{ARCHIVE}; KD_AN4 sets it, too"},
    )


def unpack(archive: Path, out: Path) -> None:
    """Unpack to <out>/an4, atomically."""
    check_unpacked(out / "an4", MARK, out / WORK)
    with unpacked(archive, out / WORK, "an4", "an4/etc") as work:
        (work / "an4" / MARK).touch()
        os.rename(work / "an4", out / "an4")


def arguments() -> tuple[Path, str]:
    """Output folder and URL."""
    paths, cfg, _ = parse_args(
        Config, [("out", "folder to download to")], None, prog="local/an4/download.sh", description=__doc__ or ""
    )
    return paths["out"], cfg.base_url.rstrip("/")


def would_run() -> str:
    """Why something would be downloaded, '' if all is there; for a recipe's --dry-run."""
    return "" if (arguments()[0] / "an4" / MARK).exists() else f"{ARCHIVE} not there yet"


def check_outputs() -> None:
    """UsageError when the download's place holds other files."""
    out, _ = arguments()
    check_unpacked(out / "an4", MARK, out / WORK)


def main() -> None:
    out, base_url = arguments()
    check_outputs()
    if not would_run():
        print("download an4: up to date")
        return
    out.mkdir(parents=True, exist_ok=True)
    fetch(f"{base_url}/{ARCHIVE}", out / ARCHIVE, SHA256, HOW)
    unpack(out / ARCHIVE, out)
    remove_own(out / ARCHIVE)
    print("download an4: done")


if __name__ == "__main__":
    cli_main(main)
