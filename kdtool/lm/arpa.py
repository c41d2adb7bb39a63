"""ARPA files.  In: a file as KenLM and SRILM write it (plain or .gz).  Out: its n-grams one by one, or as arrays.

Arrays serve full conditional distributions with array arithmetic (kdtool.teacher); their probabilities are natural logarithms.
"""

import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text

LOG10 = math.log(10.0)
_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)\s*")


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


def read_ngrams(path: Path) -> Iterator[tuple[list[str], float, float]]:
    """(words, log10 probability, log10 back-off weight) of each n-gram, shorter ones first; a weight that the file lacks is 0. Raises
    KdError: no ARPA file, a truncated one, a malformed line (its number is named), or counts that do not match the header."""
    counts: list[int] = []
    order, read, ended = 0, 0, False
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields:
                continue
            if line[0] == "\\":
                ended = fields[0] == "\\end\\"
                if order and [read] != counts[order - 1 : order]:
                    said = counts[order - 1] if order <= len(counts) else "nothing of them"
                    raise KdError(f"{path}: {read} {order}-grams, the header says {said}; train the LM again")
                order, read = order + (fields[0] == f"\\{order + 1}-grams:"), 0
            elif order:
                read += 1
                try:
                    if len(fields) - order not in (1, 2):
                        raise ValueError("wrong number of fields")
                    yield fields[1 : order + 1], float(fields[0]), float(fields[order + 1]) if len(fields) == order + 2 else 0.0
                except ValueError:
                    text = " ".join(fields)
                    raise KdError(f"{path}, line {number}: malformed line, {text!r} is no {order}-gram line; train the LM again") from None
            elif count := _COUNT.fullmatch(line):
                if int(count[1]) != len(counts) + 1:
                    raise KdError(f"{path}, line {number}: counts of order {count[1]} out of turn; train the LM again")
                counts.append(int(count[2]))
    if not counts or not order:
        raise KdError(f"{path}: not an ARPA file, or not a complete one ('\\data\\', counts, '\\1-grams:' expected); train the LM again")
    if not ended or order != len(counts):
        raise KdError(f"{path}: not a complete ARPA file, it is cut short within the {order}-grams; train the LM again")


def read_arpa(path: Path | str) -> Arpa:
    """Read an ARPA file as arrays; KdError as in `read_ngrams`, and when a word of an n-gram is no unigram."""
    path = Path(path)
    if not path.is_file():
        raise KdError(f"{path}: no such file; train the n-gram LM first (steps/train_ngram.sh)")
    vocab: dict[str, int] = {}
    tables: list[tuple[array[int], array[float]]] = []
    for words, logp, backoff in read_ngrams(path):
        if len(words) > len(tables):
            tables.append((array("i"), array("d")))
        if len(words) == 1:
            if words[0] in vocab:
                raise KdError(f"{path}: {words[0]!r} is not a new unigram; train the LM again")
            vocab[words[0]] = len(vocab)
        ids, numbers = tables[len(words) - 1]
        try:
            ids.extend([vocab[word] for word in words])
        except KeyError as e:
            raise KdError(f"{path}: malformed line, {' '.join(words)!r} has the word {e}, which is no unigram; train the LM again") from e
        numbers.append(logp)
        numbers.append(backoff)
    arpa = Arpa(len(tables), vocab, [], [], [])
    for k, (id_array, number_array) in enumerate(tables, 1):
        rows = np.array(id_array, dtype=np.int32).reshape(-1, k)
        numbers_of = np.array(number_array).reshape(-1, 2)
        order = np.lexsort(rows.T[::-1])
        arpa.ngrams.append(np.ascontiguousarray(rows[order]))
        arpa.logp.append((numbers_of[order, 0] * LOG10).astype(np.float32))
        arpa.backoff.append((numbers_of[order, 1] * LOG10).astype(np.float32))
    return arpa
