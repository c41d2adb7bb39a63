"""Text files that must be UTF-8.  In: a path or the bytes.  Out: the text, or the encoding and the command that converts it."""

import shlex
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.names import is_utf8
from kdtool.core.walk import file_fault

_MARKS = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_OTHERS = (
    (b"\x1f\x8b", "a gzip file; let its name end in .gz, or unpack it"),
    (b"PK\x03\x04", "a zip or Office file; save it as plain text"),
    (b"%PDF", "a PDF file; save it as plain text"),
    (b"{\\rtf", "a rich-text file; save it as plain text"),
)


def read_utf8(path: Path) -> str:
    """A file's text unchanged, including its byte order mark; OSError if it cannot be read.

    KdError for another encoding (names the line, the byte and the command that converts it) and for a FIFO, which would block.
    """
    if path.exists() and not path.is_file():
        raise KdError(f"{path}: {file_fault(path)}")
    data = path.read_bytes()
    if fault := other_encoding(path, data):
        raise KdError(fault)
    return data.decode("utf-8")


def utf8_lines(path: Path) -> list[str]:
    """As `read_utf8`, a table's lines without their newline and without byte order marks, which joined files have in the middle."""
    return [line.lstrip("\ufeff") for line in read_utf8(path).split("\n")]


def mostly_utf8_lines(path: Path) -> list[str]:
    """The same of a file with some lines in another encoding, whose bytes become lone surrogates; none where most lines are such."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    lines = [line.lstrip("\ufeff") for line in text.split("\n")]
    bad = sum(not is_utf8(line) for line in lines)
    return [] if "\0" in text or 2 * bad > sum(map(bool, lines)) else lines


def other_encoding(path: Path, data: bytes) -> str:
    """'' for UTF-8, else the encoding of these bytes of a file and what to do."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return f"{path}: not UTF-8 but {name} (its byte order mark is {mark.hex(' ')}); {_convert(name, path)}"
    for mark, kind in _OTHERS:
        if data.startswith(mark):
            return f"{path}: {kind}"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        # Bytes 0x80 to 0x9f are control characters in Latin-1, but letters and quotes in Windows' code page.
        guess = "WINDOWS-1252" if any(0x80 <= b <= 0x9F for b in data) else "ISO-8859-1"
        return (f"{path}, line {line}: not UTF-8 (byte 0x{data[e.start]:02x} at position {e.start}); find out its encoding; if it is "
                f"{guess}, {_convert(guess, path)}")  # fmt: skip
    if b"\x00" in data:
        line = data[: data.index(b"\x00")].count(b"\n") + 1
        name = "UTF-16BE" if data[:1] == b"\x00" else "UTF-16LE"
        return (f"{path}, line {line}: holds NUL bytes: {name} without a byte order mark, or no text at all; if it is {name}, "
                f"{_convert(name, path)}")  # fmt: skip
    return ""


def _convert(name: str, path: Path) -> str:
    return f"convert it: iconv -f {name} -t UTF-8 {shlex.quote(str(path))} > NEW"
