"""Fetch mini_librispeech.  In: OpenSLR or a mirror of it.  Out: 'audio': <out>/LibriSpeech/<part>; 'lm': LM text and lexicon.

An interrupted download goes on where it stopped. Every file is checked by its MD5 sum before it gets its name; an archive
is unpacked beside its place and renamed, so what is there is whole. The archives are removed after unpacking.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError

OPENSLR = "https://www.openslr.org/resources"
# The sums of 31 are those of its md5sum.txt; 11 publishes none, these are of files that several projects fetched.
AUDIO = {
    "31/train-clean-5.tar.gz": "5df7d4e78065366204ca6845bb08f490",
    "31/dev-clean-2.tar.gz": "6d7ab67ac6a1d2c993d050e16d61080d",
}
LM = {
    "11/librispeech-lexicon.txt": "28f72663f6bfed7cd346283c064c315b",
    "11/librispeech-lm-norm.txt.gz": "c83c64c726a1aedfe65f80aa311de402",
}
MARK = ".completed"  # Lhotse's own mark of a part that is whole
ATTEMPTS = 4
TIMEOUT_SECONDS = 60
HOW = "--base-url (or KD_OPENSLR)"


@dataclass(frozen=True)
class Config:
    """Options of the download."""

    base_url: str = field(
        default_factory=lambda: os.environ.get("KD_OPENSLR", OPENSLR),
        metadata={"help": "mirror: what stands before /31/train-clean-5.tar.gz; KD_OPENSLR sets it too"},
    )


def md5(path: Path) -> str:
    """MD5 of a file, 32 hex digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(url: str, target: Path, wanted: str) -> None:
    """Download `url` to `target` unless it is there; `target`.part is what an interrupted run left.

    Raises:
        KdError: the server cannot be reached or has no such file, or what it has is not the wanted file.
    """
    if target.exists() and md5(target) == wanted:
        return
    part = target.with_name(target.name + ".part")
    size = remote_size(url)
    wrong: list[str] = []
    fault = ""
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if have:
            print(f"{target.name}: {have} of {size if size is not None else 'unknown'} bytes are here", file=sys.stderr)
        if size is None or have < size:
            fault = continue_download(url, part)
            have = part.stat().st_size if part.exists() else 0
        if not have or (size is not None and have < size):
            continue  # cut off: the next attempt asks for the rest
        found = md5(part)
        if found == wanted:
            os.replace(part, target)
            return
        # Whole and wrong: a damaged file, or a server that cannot resume and sent everything behind the first part.
        part.unlink()
        wrong.append(found)
        if len(wrong) == 2:
            raise KdError(f"{url}: MD5 {found}, expected {wanted}; the server's file is damaged or another one, name a mirror by {HOW}")
    raise KdError(f"{url}: {fault or 'the server ends the transfer too early'}; what came is kept, run the same command again to go on, "
                  f"name a mirror by {HOW}, or give your own copy by --corpus")  # fmt: skip


def remote_size(url: str) -> int | None:
    """The file's length in bytes as the server says it, None when it does not; KdError when there is no such server or file."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
    except urllib.error.HTTPError as e:
        if e.code in (405, 501):  # HEAD is not served
            return None
        raise KdError(f"{url}: the server answers {e.code} {e.reason}; check {HOW}") from e
    except ValueError as e:
        raise UsageError(f"{url} is not an address ({e}); check {HOW}") from e
    except OSError as e:
        raise KdError(f"{url}: {getattr(e, 'reason', None) or e}; check the network, name a mirror by {HOW}, or give your own copy by "
                      "--corpus, --lm-text and --lexicon") from e  # fmt: skip


def continue_download(url: str, part: Path) -> str:
    """Download the rest of `part`; '' or why it stopped early."""
    os.environ.setdefault("TQDM_MININTERVAL", "10")  # a line every ten seconds: readable in a log file
    from lhotse.utils import resumable_download

    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        resumable_download(url, filename=part)
    except urllib.error.HTTPError as e:
        raise KdError(f"{url}: the server answers {e.code} {e.reason}; check {HOW}") from e
    except OSError as e:
        if e.errno == errno.ENOSPC or getattr(e, "filename", None):  # the disk, not the network
            raise
        return str(getattr(e, "reason", None) or e)
    return ""


def check_members(archive: Path, members: list[tarfile.TarInfo], part: str) -> None:
    """KdError unless the archive holds only files and folders below LibriSpeech/, the part's among them."""
    for member in members:
        steps = Path(member.name).parts
        if not (member.isfile() or member.isdir()) or not steps or steps[0] != "LibriSpeech" or ".." in steps:
            raise KdError(f"{archive}: holds {member.name!r}, which is not a file or folder below LibriSpeech/; do not use this archive")
    if not any(m.name.startswith(f"LibriSpeech/{part}/") for m in members):
        raise KdError(f"{archive}: holds no LibriSpeech/{part}/; do not use this archive")


def unpack(archive: Path, part: str, out: Path) -> None:
    """Unpack one part to <out>/LibriSpeech/<part>, whole or not at all."""
    from lhotse.utils import safe_extract

    work = out / f".{part}.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            check_members(archive, tar.getmembers(), part)
            safe_extract(tar, path=work)
    except (tarfile.TarError, EOFError) as e:
        raise KdError(f"{archive}: cannot be unpacked ({e}); remove it and run the same command again") from e
    corpus = out / "LibriSpeech"
    corpus.mkdir(exist_ok=True)
    for extra in sorted((work / "LibriSpeech").iterdir()):
        if extra.name != part and not (corpus / extra.name).exists():
            os.rename(extra, corpus / extra.name)
    (work / "LibriSpeech" / part / MARK).touch()
    shutil.rmtree(corpus / part, ignore_errors=True)
    os.rename(work / "LibriSpeech" / part, corpus / part)
    shutil.rmtree(work)


def download_audio(out: Path, base_url: str) -> None:
    for name, wanted in AUDIO.items():
        archive = out / name.split("/")[1]
        part = archive.name.removesuffix(".tar.gz")
        if (out / "LibriSpeech" / part / MARK).exists():
            print(f"download {part}: up to date")
            continue
        fetch(f"{base_url}/{name}", archive, wanted)
        unpack(archive, part, out)
        archive.unlink()
        print(f"download {part}: done")


def download_lm(out: Path, base_url: str) -> None:
    for name, wanted in LM.items():
        target = out / name.split("/")[1]
        if target.exists():  # it got its name after its check
            print(f"download {target.name}: up to date")
            continue
        fetch(f"{base_url}/{name}", target, wanted)
        print(f"download {target.name}: done")


def arguments() -> tuple[str, Path, str]:
    """What to download ('audio' or 'lm'), where to, where from."""
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
    """Why something would be downloaded, '' when all is there; for a recipe's --dry-run."""
    what, out, _ = arguments()
    names = [name.split("/")[1] for name in (AUDIO if what == "audio" else LM)]
    places = [out / "LibriSpeech" / n.removesuffix(".tar.gz") / MARK if what == "audio" else out / n for n in names]
    missing = [n for n, place in zip(names, places, strict=True) if not place.exists()]
    return f"{', '.join(missing)} not there yet" if missing else ""


def main() -> None:
    what, out, base_url = arguments()
    out.mkdir(parents=True, exist_ok=True)
    {"audio": download_audio, "lm": download_lm}[what](out, base_url)


if __name__ == "__main__":
    cli_main(main)
