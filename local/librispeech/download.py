"""Downloads mini_librispeech.  In: OpenSLR or a mirror of it.  Out: 'audio': <out>/LibriSpeech/<part>; 'lm': LM text and lexicon.

An interrupted download continues where it stopped. Every file is checked by its MD5 sum before it gets its name; an archive
is unpacked under another name and renamed, so the result is complete. The archives are removed after unpacking.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import UsageError
from kdtool.core.own_file import remove_own
from kdtool.corpus.download import check_unpacked, fetch, unpacked

OPENSLR = "https://www.openslr.org/resources"
# The sums of 31 are from its md5sum.txt; 11 publishes none, these are of files downloaded by several projects.
AUDIO = {
    "31/train-clean-5.tar.gz": "5df7d4e78065366204ca6845bb08f490",
    "31/dev-clean-2.tar.gz": "6d7ab67ac6a1d2c993d050e16d61080d",
}
LM = {
    "11/librispeech-lexicon.txt": "28f72663f6bfed7cd346283c064c315b",
    "11/librispeech-lm-norm.txt.gz": "c83c64c726a1aedfe65f80aa311de402",
}
MARK = ".completed"  # Lhotse's mark of a complete part
HOW = "--base-url (or KD_OPENSLR)"


@dataclass(frozen=True)
class Config:
    """Options of the download."""

    base_url: str = field(
        default_factory=lambda: os.environ.get("KD_OPENSLR", OPENSLR),
        metadata={"help": "mirror: the URL before /31/train-clean-5.tar.gz; KD_OPENSLR sets it, too"},
    )


def unpack(archive: Path, part: str, out: Path) -> None:
    """Unpack one part to <out>/LibriSpeech/<part>, atomically."""
    corpus, hidden = out / "LibriSpeech", out / f".{part}.work"
    check_unpacked(corpus / part, MARK, hidden)
    with unpacked(archive, hidden, "LibriSpeech", f"LibriSpeech/{part}") as work:
        corpus.mkdir(exist_ok=True)
        for extra in sorted((work / "LibriSpeech").iterdir()):
            if extra.name != part and not (corpus / extra.name).exists():
                os.rename(extra, corpus / extra.name)
        (work / "LibriSpeech" / part / MARK).touch()
        os.rename(work / "LibriSpeech" / part, corpus / part)


def download_audio(out: Path, base_url: str) -> None:
    for name, wanted in AUDIO.items():
        archive = out / name.split("/")[1]
        part = archive.name.removesuffix(".tar.gz")
        if (out / "LibriSpeech" / part / MARK).exists():
            print(f"download {part}: up to date")
            continue
        fetch(f"{base_url}/{name}", archive, wanted, HOW)
        unpack(archive, part, out)
        remove_own(archive)
        print(f"download {part}: done")


def download_lm(out: Path, base_url: str) -> None:
    for name, wanted in LM.items():
        target = out / name.split("/")[1]
        if target.exists():  # already checked: files get their names after the check
            print(f"download {target.name}: up to date")
            continue
        fetch(f"{base_url}/{name}", target, wanted, HOW)
        print(f"download {target.name}: done")


def arguments() -> tuple[str, Path, str]:
    """What to download ('audio' or 'lm'), output folder, URL."""
    paths, cfg, _ = parse_args(
        Config,
        [("what", "audio (0.5 GB) or lm (1.5 GB)"), ("out", "folder to download to")],
        None,
        prog="local/librispeech/download.sh",
        description=__doc__ or "",
    )
    if str(paths["what"]) not in ("audio", "lm"):
        raise UsageError(f"{paths['what']}: say 'audio' or 'lm'")
    return str(paths["what"]), paths["out"], cfg.base_url.rstrip("/")


def would_run() -> str:
    """Why something would be downloaded, '' if all is there; for a recipe's --dry-run."""
    what, out, _ = arguments()
    names = [name.split("/")[1] for name in (AUDIO if what == "audio" else LM)]
    places = [out / "LibriSpeech" / n.removesuffix(".tar.gz") / MARK if what == "audio" else out / n for n in names]
    missing = [n for n, place in zip(names, places, strict=True) if not place.exists()]
    return f"{', '.join(missing)} not there yet" if missing else ""


def check_outputs() -> None:
    """UsageError when the download's place holds other files."""
    what, out, _ = arguments()
    for part in (name.split("/")[1].removesuffix(".tar.gz") for name in AUDIO if what == "audio"):
        check_unpacked(out / "LibriSpeech" / part, MARK, out / f".{part}.work")


def main() -> None:
    what, out, base_url = arguments()
    check_outputs()
    out.mkdir(parents=True, exist_ok=True)
    {"audio": download_audio, "lm": download_lm}[what](out, base_url)


if __name__ == "__main__":
    cli_main(main)
