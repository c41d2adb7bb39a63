"""ARPA files as arrays.  In: an ARPA file.  Out: ids, log-probabilities and back-off weights of each order.

For full conditional distributions with array arithmetic (kdtool.teacher); a file whose words are all numbers is read
several times faster. Probabilities become natural logarithms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kdtool.core.errors import KdError

BLOCK = 1 << 24  # bytes parsed at a time
SPECIAL = (b"<unk>", b"<s>", b"</s>")
_LN10 = math.log(10.0)


@dataclass
class Arpa:
    """An n-gram LM.

    Attributes:
        order: n of the longest n-grams.
        vocab: word -> id, in the order of the file's unigrams.
        ngrams: for k = 1..order, int32 (n_k, k) word ids, rows sorted by first id, then second, and so on.
        logp: for k = 1..order, float32 (n_k,) natural log-probability of the last word given the others.
        backoff: for k = 1..order, float32 (n_k,) natural log back-off weight; zeros for the highest order.
    """

    order: int
    vocab: dict[str, int]
    ngrams: list[np.ndarray]
    logp: list[np.ndarray]
    backoff: list[np.ndarray]


def read_arpa(path: Path | str) -> Arpa:
    """Read an ARPA file as KenLM and SRILM write it (plain, fields separated by tabs or spaces).

    Raises:
        KdError: no ARPA file, a truncated one, or counts that do not match its header.
    """
    path = Path(path)
    try:
        with open(path, "rb") as f:
            return _read(path, f)
    except FileNotFoundError as e:
        raise KdError(f"{path}: no such file; train the n-gram LM first (steps/train_ngram.sh)") from e


def _read(path: Path, f: BinaryIO) -> Arpa:
    counts = _header(path, f)
    vocab: dict[bytes, int] = {}
    ngrams, logp, backoff = [], [], []
    parse: Callable[[bytes, int], np.ndarray] | None = None
    for k, count in enumerate(counts, 1):
        if k == 1:
            table = _unigrams(path, f, vocab, count)
            parse = _parser(vocab)
        else:
            assert parse is not None
            tables = [_block(path, k, text, parse) for text in _blocks(path, f, k)]
            table = np.concatenate(tables) if tables else np.zeros((0, k + 2))
        if len(table) != count:
            raise KdError(f"{path}: {len(table)} {k}-grams, the header says {count}; train the LM again")
        ids = table[:, 1 : k + 1].astype(np.int32)
        order = np.lexsort(ids.T[::-1])
        ngrams.append(np.ascontiguousarray(ids[order]))
        logp.append((table[order, 0] * _LN10).astype(np.float32))
        backoff.append((table[order, k + 1] * _LN10).astype(np.float32))
    return Arpa(len(counts), {w.decode(): i for w, i in vocab.items()}, ngrams, logp, backoff)


def _header(path: Path, f: BinaryIO) -> list[int]:
    counts: list[int] = []
    for number, line in enumerate(iter(f.readline, b""), 1):
        text = line.strip()
        if match := re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", text):
            if int(match[1]) != len(counts) + 1:
                raise KdError(f"{path}, line {number}: counts of order {int(match[1])} out of turn; train the LM again")
            counts.append(int(match[2]))
        elif counts and re.fullmatch(rb"\\1-grams:", text):
            return counts
        elif counts and text:
            break
    raise KdError(f"{path}: not an ARPA file ('\\data\\', counts, '\\1-grams:' expected); train the LM again")


def _unigrams(path: Path, f: BinaryIO, vocab: dict[bytes, int], count: int) -> np.ndarray:
    table = np.zeros((count, 3))
    rows = 0
    for text in _blocks(path, f, 1):
        for line in text.splitlines():
            fields = line.split()
            if not fields:
                continue
            if len(fields) not in (2, 3) or fields[1] in vocab or rows >= count:
                raise KdError(f"{path}: {line!r} is not a new unigram of {count}; train the LM again")
            vocab[fields[1]] = rows
            table[rows] = float(fields[0]), rows, float(fields[2]) if len(fields) == 3 else 0.0
            rows += 1
    return table[:rows]


def _blocks(path: Path, f: BinaryIO, k: int) -> Iterator[bytes]:
    """Blocks of whole lines up to the end of this order's section; the next section's title is consumed."""
    rest = b""
    while True:
        start = f.tell() - len(rest)
        read = f.read(BLOCK)
        text = rest + read
        end = re.search(rb"^\\", text, re.MULTILINE)
        if end:
            title = text[end.start() :].split(b"\n", 1)[0].strip()
            if title not in (b"\\end\\", b"\\%d-grams:" % (k + 1)) and len(text) - end.start() > len(title) + 1:
                raise KdError(f"{path}: section {title.decode(errors='replace')!r} after the {k}-grams; train the LM again")
            yield text[: end.start()]
            f.seek(start + end.start())
            f.readline()
            return
        if not read:
            raise KdError(f"{path}: cut short within the {k}-grams; train the LM again")
        cut = text.rfind(b"\n") + 1
        yield text[:cut]
        rest = text[cut:]


def _parser(vocab: dict[bytes, int]) -> Callable[[bytes, int], np.ndarray]:
    """A function that turns a block into a flat array of numbers, words as ids."""
    names = [w for w in vocab if w not in SPECIAL]
    if names and all(w.isdigit() and str(int(w)).encode() == w and len(w) < 9 for w in names):
        return _numeric_parser(vocab, names)

    def parse(text: bytes, width: int) -> np.ndarray:
        fields = text.split()
        out = np.empty((len(fields) // width, width))
        for column in range(width):
            part = fields[column::width]
            if 0 < column < width - 1:
                out[:, column] = [vocab[w] for w in part]
            else:
                out[:, column] = np.array(part, dtype=np.bytes_).astype(np.float64) if part else 0.0
        return out

    return parse


def _numeric_parser(vocab: dict[bytes, int], names: list[bytes]) -> Callable[[bytes, int], np.ndarray]:
    largest = max(map(int, names))
    stand_ins = {w: largest + 1 + i for i, w in enumerate(SPECIAL)}
    to_id = np.full(largest + 1 + len(SPECIAL), -1.0)
    for word, index in vocab.items():
        to_id[stand_ins[word] if word in stand_ins else int(word)] = index

    def parse(text: bytes, width: int) -> np.ndarray:
        for word, number in stand_ins.items():
            text = text.replace(word, b"%d" % number)
        out = np.fromstring(text, sep=" ").reshape(-1, width)
        out[:, 1:-1] = to_id[out[:, 1:-1].astype(np.int64)]
        if (out[:, 1:-1] < 0).any():
            raise KeyError("a word that is no unigram")
        return out

    return parse


def _block(path: Path, k: int, text: bytes, parse: Callable[[bytes, int], np.ndarray]) -> np.ndarray:
    """(n, k + 2): log10 probability, ids, log10 back-off (0 where the file has none)."""
    lines = text.count(b"\n") + (not text.endswith(b"\n") and bool(text.strip()))
    first = text.split(b"\n", 1)[0].split()
    if not first:
        text = text.strip()
        return _block(path, k, text, parse) if text else np.zeros((0, k + 2))
    try:
        return _uniform(text, k, len(first), parse)
    except (ValueError, IndexError, KeyError):
        pass
    # SRILM omits back-off weights of zero: complete such lines, then parse as before.
    try:
        filled = [x if len(x) == k + 2 else [*x, b"0"] for x in (line.split() for line in text.splitlines()) if x]
        if any(len(x) != k + 2 for x in filled):
            raise ValueError("wrong number of fields")
        return parse(b"\n".join(b" ".join(x) for x in filled), k + 2)
    except (ValueError, IndexError, KeyError) as e:
        raise KdError(f"{path}: malformed line among {lines} lines of {k}-grams ({e}); train the LM again") from e


def _uniform(text: bytes, k: int, fields: int, parse: Callable[[bytes, int], np.ndarray]) -> np.ndarray:
    if fields == k + 2:
        table = parse(text, k + 2)
    elif fields == k + 1:
        # The parser takes the last column for a number; without back-off weights the words come last.
        stripped = text.rstrip(b"\n")
        table = parse(stripped.replace(b"\n", b" 0\n") + b" 0", k + 2)
    else:
        raise ValueError("wrong number of fields")
    lines = sum(1 for line in text.splitlines() if line.strip())
    if len(table) != lines:
        raise ValueError("lines of differing length")
    return table
