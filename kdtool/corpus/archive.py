"""Downloads of a corpus, as a command.  In: addresses and checksums.  Out: files, and folders of archives, each complete or not there.

An interrupted download continues where it stopped. A file gets its name when its checksum was compared; an archive is unpacked under
another name, then removed; only plain files and folders below the expected one are taken from it.
"""

import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from kdtool.core.cli import parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.keep import remove_work
from kdtool.core.own_file import remove_own
from kdtool.core.ownership import is_work, listing
from kdtool.core.state import KEY
from kdtool.core.tables import write_json
from kdtool.corpus.download import fetch

MARK = ".completed"  # Lhotse's mark of a complete part


@dataclass(frozen=True)
class Part:
    """One file: its URL without the site, and its MD5 or SHA256.

    ``folder`` of an archive is unpacked below the output, under the same path; ``inside`` is a folder that it must hold.
    """

    address: str
    checksum: str
    folder: str = ""
    inside: str = ""

    @property
    def file(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def name(self) -> str:
        return self.folder.rpartition("/")[2] or self.file

    def is_in(self, out: Path) -> bool:
        return (out / self.folder / MARK if self.folder else out / self.file).exists()

    def check_place(self, out: Path) -> Path:
        """The hidden folder to unpack in; UsageError when it or the folder's place holds something that no download made."""
        hidden, folder = out / f".{self.name}.work", out / self.folder
        if not self.folder:
            return hidden
        other = folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists()
        if other or (os.path.lexists(folder) and not folder.is_dir()):
            what = f"holds {listing(folder)}" if other else "is not a folder"
            raise UsageError(f"{folder}: {what} but no {MARK}, so no download made it; give your own copy by --corpus, or another folder")
        if not is_work(hidden):
            raise UsageError(f"{hidden}: holds {listing(hidden)}, but the archive would be unpacked there; choose another folder, or "
                             "move it away")  # fmt: skip
        return hidden

    def unpack(self, out: Path) -> None:
        """Unpack the archive's folder, atomically; files beside it come along."""
        from lhotse.utils import safe_extract

        archive, target, work = out / self.file, out / self.folder, self.check_place(out)
        if work.exists():
            remove_work(work)
        work.mkdir(parents=True)
        write_json(work / KEY, {"archive": archive.name})
        try:
            with tarfile.open(archive) as tar:
                self._check_members(archive, tar.getmembers())
                safe_extract(tar, path=work)
        except (tarfile.TarError, EOFError) as e:
            raise KdError(f"{archive}: cannot be unpacked ({e}); remove it and run the same command again") from e
        source = work / self.folder
        (source / MARK).touch()
        target.parent.mkdir(exist_ok=True)
        for extra in sorted(source.parent.iterdir()) if source.parent != work else []:
            if extra != source and not (target.parent / extra.name).exists():
                os.rename(extra, target.parent / extra.name)
        os.rename(source, target)
        remove_work(work)

    def _check_members(self, archive: Path, members: Sequence[tarfile.TarInfo]) -> None:
        top, inside = self.folder.partition("/")[0], self.inside or self.folder
        for member in members:
            steps = Path(member.name).parts
            if not (member.isfile() or member.isdir()) or not steps or steps[0] != top or ".." in steps:
                raise KdError(f"{archive}: holds {member.name!r}, which is not a file or folder below {top}/; do not use this archive")
        if not any(m.name.startswith(f"{inside}/") for m in members):
            raise KdError(f"{archive}: holds no {inside}/; do not use this archive")


@dataclass(frozen=True)
class Downloads:
    """The command ``prog [--base-url URL] [WHAT] OUT``; the environment variable ``mirror`` names another site, too.

    ``parts``: WHAT to download -> its files; a single entry needs no WHAT. ``sizes`` is its help.
    """

    prog: str
    description: str | None
    site: str
    mirror: str
    parts: Mapping[str, Sequence[Part]]
    sizes: str = ""

    def arguments(self) -> tuple[Sequence[Part], Path, str]:
        """What to download, output folder, URL."""
        about = f"mirror: the URL before /{next(iter(self.parts.values()))[0].address}; {self.mirror} sets it, too"
        option = field(default_factory=lambda: os.environ.get(self.mirror, self.site), metadata={"help": about})
        options: type[Any] = make_dataclass("Config", [("base_url", str, option)], frozen=True)
        positionals = [*([("what", self.sizes)] if self.sizes else []), ("out", "folder to download to")]
        paths, cfg, _ = parse_args(options, positionals, None, prog=self.prog, description=self.description or "")
        what = str(paths.get("what", ""))
        if what not in self.parts:
            raise UsageError(f"{what}: say {' or '.join(map(repr, self.parts))}")
        return self.parts[what], paths["out"], cfg.base_url.rstrip("/")

    def would_run(self) -> str:
        """Why something would be downloaded, '' if all is there; for a recipe's --dry-run."""
        parts, out, _ = self.arguments()
        names = ", ".join(part.file for part in parts if not part.is_in(out))
        return f"{names} not there yet" if names else ""

    def check_outputs(self) -> None:
        """UsageError when the place of a download holds other files."""
        parts, out, _ = self.arguments()
        for part in parts:
            part.check_place(out)

    def main(self) -> None:
        """Download and unpack what is missing."""
        parts, out, site = self.arguments()
        self.check_outputs()
        out.mkdir(parents=True, exist_ok=True)
        for part in parts:
            there = part.is_in(out)
            if not there:
                fetch(f"{site}/{part.address}", out / part.file, part.checksum, f"--base-url (or {self.mirror})")
                if part.folder:
                    part.unpack(out)
                    remove_own(out / part.file)
            print(f"download {part.name}: {'up to date' if there else 'done'}")
