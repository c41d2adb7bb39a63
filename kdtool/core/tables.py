"""Text on disk: symbol tables, JSON, JSON lines.  In: paths.  Out: dicts; every write is deterministic and atomic.

A file is written under another name and renamed, so a reader never sees half of it. Gzip headers carry no time and no
name: equal content gives equal bytes.
"""

import gzip
import hashlib
import io
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kdtool.core.encoding import other_encoding
from kdtool.core.errors import KdError, name_file

# A number with thousands of digits is a ValueError, brackets nested thousands deep are a RecursionError.
BROKEN_JSON = (ValueError, RecursionError)
# A path may hold bytes that are not UTF-8 (lone surrogates): they are written as \udce9, which JSON reads back unchanged.
NOT_UTF8 = "backslashreplace"
LONG_NAME = 200  # bytes; file systems allow 255


@contextmanager
def open_text(path: Path | str, mode: str = "r") -> Iterator[IO[str]]:
    """Open a text file, gzip when its name ends in .gz; mode is 'r' or 'w'. KdError: missing, not UTF-8, or not valid gzip."""
    path = Path(path)
    if mode == "w":
        yield from _write_whole(path)
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as f:
            yield f  # type: ignore[misc]
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; check the path") from e
    except UnicodeDecodeError as e:
        # The encoding of the file's first megabytes; the position of the error is unknown, because files are read in blocks.
        raise KdError(other_encoding(path, first_lines(path, 1 << 24)) or (
            f"{path}: not UTF-8 (byte 0x{e.object[e.start]:02x}); find out its encoding and convert it with iconv")) from e  # fmt: skip
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise KdError(f"{path}: broken gzip file ({e}); make or fetch it again") from e


def first_lines(path: Path, size: int) -> bytes:
    """The complete lines in a file's first `size` bytes (unpacked, if its name ends in .gz); all of a smaller file."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as f:
        data = f.read(size)
    return data if len(data) < size else data[: data.rfind(b"\n") + 1]


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for bytes that replaces `path` when complete; on failure the old file stays."""
    # An unused hidden name beside the file's; a long one is shortened to leave room for the suffix.
    long = len(os.fsencode(path.name)) > LONG_NAME
    short = hashlib.blake2b(os.fsencode(path.name), digest_size=16).hexdigest() if long else path.name
    names = (f".{short}.{os.getpid()}{f'.{n}' if n else ''}" for n in itertools.count())
    temporary = next(place for place in map(path.with_name, names) if not os.path.lexists(place))
    try:
        with open(temporary, "xb") as raw:
            yield raw
        os.replace(temporary, path)
    except OSError as e:
        name_file(e, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _write_whole(path: Path) -> Iterator[IO[str]]:
    with whole_file(path) as raw:
        if path.suffix == ".gz":
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6)
            with io.TextIOWrapper(packed, encoding="utf-8", errors=NOT_UTF8, newline="\n") as packed_text:
                yield packed_text
        else:
            text = io.TextIOWrapper(raw, encoding="utf-8", errors=NOT_UTF8, newline="\n")
            yield text
            text.flush()
            text.detach()


def read_lines(path: Path | str) -> list[str]:
    """All lines of a text file (gzip too) without their line ends."""
    with open_text(path) as f:
        return [line.rstrip("\n") for line in f]


def write_lines(path: Path | str, lines: Iterable[str]) -> None:
    """Write a text file (gzip too); the lines get their ends."""
    with open_text(path, "w") as f:
        f.writelines(line + "\n" for line in lines)


def read_table(path: Path | str) -> dict[str, int]:
    """A symbol table, one 'symbol id' per line. KdError names a malformed line, or one that repeats a symbol or id."""
    table: dict[str, int] = {}
    seen: set[int] = set()
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if len(fields) != 2 or not fields[1].lstrip("-").isdigit():
            raise KdError(f"{path}, line {number}: {line!r} is not 'symbol id'; make the folder again")
        symbol, index = fields[0], int(fields[1])
        if symbol in table or index in seen:
            raise KdError(f"{path}, line {number}: {line!r} comes twice; make the folder again")
        table[symbol] = index
        seen.add(index)
    return table


def write_table(path: Path | str, table: dict[str, int]) -> None:
    """Write a symbol table in the order of its ids."""
    with open_text(path, "w") as f:
        for symbol, index in sorted(table.items(), key=lambda item: item[1]):
            f.write(f"{symbol} {index}\n")


def read_json(path: Path | str) -> Any:
    """One JSON document; KdError when it is missing or broken."""
    with open_text(path) as f:
        text = f.read()
        try:
            return json.loads(text)
        except BROKEN_JSON as e:
            raise KdError(f"{path}: broken JSON ({e}); make it again") from e


def json_text(value: Any) -> str:
    """One JSON document, keys sorted, readable."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_json(path: Path | str, value: Any) -> None:
    """Write one JSON document."""
    with open_text(path, "w") as f:
        f.write(json_text(value))


def read_jsonl(path: Path | str) -> Iterator[Any]:
    """One JSON document per line; KdError names a broken line."""
    with open_text(path) as f:
        for number, line in enumerate(f, 1):
            try:
                value = json.loads(line)
            except BROKEN_JSON as e:
                raise KdError(f"{path}, line {number}: broken JSON ({e}); make it again") from e
            yield value


def write_jsonl(path: Path | str, rows: Iterable[Any]) -> None:
    """Write one JSON document per line, keys in the given order."""
    with open_text(path, "w") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
