"""Download against a server on this machine: resumed, cut off, damaged, dangerous, missing."""

from __future__ import annotations

import hashlib
import http.server
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.corpus import download as files
from local.an4 import download as an4
from local.librispeech import download

CONTENT = bytes(range(256)) * 40


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; ranges unless `ranges` is off; ends each answer after `cut` bytes."""

    files: dict[str, bytes]
    asked: list[str | None]
    ranges = True
    cut: int | None = None

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.asked.append(self.headers["Range"])
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(self.headers["Range"].split("=")[1].rstrip("-")) if self.ranges and self.headers["Range"] else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body:
            self.wfile.write(data[start:][: self.cut])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Handler], str]]:
    handler = type("H", (Handler,), {"files": {"/f.bin": CONTENT}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield handler, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def archive(*names: str, link: str = "") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"hi"))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(member)
    return raw.getvalue()


def run_main(monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", ["download.sh", *argv])
    download.main()


def test_download_and_second_run(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, base = server
    for _ in range(2):
        files.fetch(f"{base}/f.bin", tmp_path / "f.bin", digest(CONTENT))
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert handler.asked == ["bytes=0-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server: tuple[type[Handler], str], tmp_path: Path, ranges: bool) -> None:
    handler, base = server
    handler.ranges = ranges
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:5000])
    files.fetch(f"{base}/f.bin", tmp_path / "f.bin", digest(CONTENT))
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert handler.asked == (["bytes=5000-"] if ranges else ["bytes=5000-", "bytes=0-"])
    assert not (tmp_path / "f.bin.part").exists()


def test_a_server_that_ends_transfers_early(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, base = server
    handler.cut = 4000
    files.fetch(f"{base}/f.bin", tmp_path / "f.bin", digest(CONTENT))
    assert handler.asked == ["bytes=0-", "bytes=4000-", "bytes=8000-"]
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_too_many_cuts_keep_what_came(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, base = server
    handler.cut = 100
    with pytest.raises(KdError, match="run the same command again to go on"):
        files.fetch(f"{base}/f.bin", tmp_path / "f.bin", digest(CONTENT))
    assert (tmp_path / "f.bin.part").stat().st_size == 100 * files.ATTEMPTS
    assert not (tmp_path / "f.bin").exists()


def test_a_damaged_file_gets_no_name(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    _, base = server
    with pytest.raises(KdError, match=r"MD5 .* expected 0000.*--base-url"):
        files.fetch(f"{base}/f.bin", tmp_path / "f.bin", "0000")
    assert list(tmp_path.iterdir()) == []


def test_missing_file_server_and_address(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    _, base = server
    with pytest.raises(KdError, match=r"nothing\.bin: the server answers 404"):
        files.fetch(f"{base}/nothing.bin", tmp_path / "f", "")
    with pytest.raises(KdError, match=r"refused.*--base-url.*--corpus"):
        files.fetch("http://127.0.0.1:9/f", tmp_path / "f", "")
    with pytest.raises(UsageError, match="not an address"):
        files.fetch("mirror/f", tmp_path / "f", "")


def test_audio_is_unpacked_whole(server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler, base = server
    names = ("LibriSpeech/LICENSE.TXT", "LibriSpeech/train-clean-5/1/2/1-2.trans.txt")
    data = archive(*names)
    handler.files = {"/31/train-clean-5.tar.gz": data}
    monkeypatch.setitem(download.PARTS, "audio", [replace(download.PARTS["audio"][0], checksum=digest(data))])
    for _ in range(2):
        run_main(monkeypatch, "--base-url", base, "audio", str(tmp_path / "o"))
    found = {str(p.relative_to(tmp_path / "o")) for p in (tmp_path / "o").rglob("*") if p.is_file()}
    assert found == {*names, "LibriSpeech/train-clean-5/.completed"}
    assert len(handler.asked) == 1


@pytest.mark.parametrize(
    ("names", "link", "word"),
    [
        (("LibriSpeech/train-clean-5/../../../x",), "", "../x"),
        (("LibriSpeech/train-clean-5/a",), "LibriSpeech/train-clean-5/b", "train-clean-5/b"),
        (("/etc/x",), "", "/etc/x"),
        (("LibriSpeech/other/a",), "", "no LibriSpeech/train-clean-5/"),
    ],
)
def test_dangerous_archives_are_refused(tmp_path: Path, names: tuple[str, ...], link: str, word: str) -> None:
    (tmp_path / "train-clean-5.tar.gz").write_bytes(archive(*names, link=link))
    with pytest.raises(KdError, match="do not use this archive") as caught:
        download.PARTS["audio"][0].unpack(tmp_path)
    assert word in str(caught.value)
    assert not (tmp_path / "LibriSpeech").exists()


def test_lm_files(server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler, base = server
    handler.files = {"/11/librispeech-lexicon.txt": b"A  AH0\n"}
    monkeypatch.setitem(download.PARTS, "lm", [replace(download.PARTS["lm"][0], checksum=digest(b"A  AH0\n"))])
    monkeypatch.setenv("KD_OPENSLR", base)
    run_main(monkeypatch, "lm", str(tmp_path))
    assert (tmp_path / "librispeech-lexicon.txt").read_bytes() == b"A  AH0\n"


def test_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'audio' or 'lm'"):
        run_main(monkeypatch, "video", str(tmp_path))


def test_an4_is_unpacked_whole_and_counted(server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler, base = server
    lists = tuple(f"an4/etc/an4_{part}.fileids" for part in ("train", "test"))
    names = (*lists, "an4/wav/an4_clstk/x.sph", "an4/README")
    data = archive(*names)
    handler.files = {"/an4_sphere.tar.gz": data}
    monkeypatch.setitem(an4.PARTS, "", [replace(an4.PARTS[""][0], checksum=hashlib.sha256(data).hexdigest())])
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["download.sh", "--base-url", base, str(tmp_path / "o")])
        an4.main()
        assert an4.would_run() == ""
    found = {str(p.relative_to(tmp_path / "o")) for p in (tmp_path / "o").rglob("*") if p.is_file()}
    assert found == {*names, "an4/.completed"} and len(handler.asked) == 1
    monkeypatch.setitem(an4.PARTS, "", [replace(an4.PARTS[""][0], checksum="0" * 64)])
    monkeypatch.setattr(sys, "argv", ["download.sh", "--base-url", base, str(tmp_path / "p")])
    with pytest.raises(KdError, match=r"SHA256 .* expected 0000"):
        an4.main()
    (tmp_path / "q").mkdir()
    for bad in (archive("an4/../../x"), archive("an4/etc/a", link="an4/b"), archive("an4/README")):
        (tmp_path / "q/an4_sphere.tar.gz").write_bytes(bad)
        with pytest.raises(KdError, match="do not use this archive"):
            an4.PARTS[""][0].unpack(tmp_path / "q")
        assert not (tmp_path / "q" / "an4").exists()
