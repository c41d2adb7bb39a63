"""n-gram teacher.  In: unit sequences.  Out: an interpolated Kneser-Ney model (KenLM's lmplz, Heafield et al. 2013), held as arrays.

Units are passed to lmplz as numbers, so that none is mistaken for <s> or <unk>.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.lm.arpa import read_arpa
from kdtool.teacher.base import Teacher, TrainingText, check_ids, check_options
from kdtool.teacher.trie import NgramTrie
from kdtool.units.text import Sequences

# Measured on 6.7M words: one more order gains 2 to 4% in perplexity and costs half as much time and space again; dropping
# singletons from order 5 (phones) or 3 (subwords) on halves the size at a loss of 0 or 1%.
ORDERS = {"senone": 5, "phone": 7, "subword": 5}
PRUNE = {"senone": [0, 0, 0, 1], "phone": [0, 0, 0, 0, 1, 1, 2], "subword": [0, 0, 1]}


@dataclass(frozen=True)
class NgramOptions:
    """order and prune: 0 and none mean the unit's ORDERS and PRUNE. prune: drop n-grams of order n with a count of at most
    the n-th number; the last number also holds for higher orders. memory: of lmplz's sort, e.g. 1G."""

    order: int = 0
    prune: list[int] = field(default_factory=list)
    memory: str = "1G"


class NgramTeacher(Teacher):
    """Back-off n-gram over units; the distribution is over units only (without the sentence's end)."""

    kind = "ngram"

    def __init__(self, unit: str, trie: NgramTrie) -> None:
        super().__init__(unit, trie.num_units)
        self.trie = trie

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> "NgramTeacher":
        cfg: NgramOptions = check_options(NgramOptions, options, cls.kind)
        order = cfg.order or ORDERS[text.unit]
        prune = list(cfg.prune) or PRUNE[text.unit][:order]
        if order < 1 or len(prune) > order:
            raise UsageError(f"n-gram order {order} with {len(prune)} pruning counts: one count an order at most")
        arpa = work / "lm.arpa"
        command = ["-o", str(order), "--discount_fallback", "-S", cfg.memory, "-T", str(work)]
        if any(prune):
            command += ["--prune", *(str(c) for c in prune)]
        run_lmplz(command, text, arpa, work / "lmplz.log")
        teacher = cls(text.unit, NgramTrie.from_arpa(read_arpa(arpa), text.num_units))
        arpa.unlink()
        teacher.info = {"order": order, "prune": prune, "ngrams": teacher.trie.num_ngrams}
        return teacher

    def log_probs_many(self, sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
        for ids in sentences:
            check_ids(ids, self.num_units, self.unit)
        begin = np.array([self.num_units], dtype=np.int64)
        before = [part for ids in sentences if len(ids) for part in (begin, ids[:-1])]
        rows = self.trie.distributions(self.trie.states_before(np.concatenate([*before, begin[:0]])))
        return np.split(rows, np.cumsum([len(ids) for ids in sentences])[:-1])

    def after_one(self) -> np.ndarray:
        return self.trie.distributions(self.trie.after_one())

    def tensors(self) -> dict[str, np.ndarray]:
        return self.trie.tensors

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "NgramTeacher":
        return cls(unit, NgramTrie(tensors))


def run_lmplz(options: list[str], text: TrainingText, arpa: Path, log: Path) -> None:
    """Feed the training sequences to lmplz as lines of numbers. Raises KdError: lmplz is not installed, there is no text, or it failed (the
    end of its log is shown)."""
    program = shutil.which("lmplz")
    if program is None:
        raise KdError("lmplz (KenLM) is not on the PATH; utils/setup_env.sh builds it")
    sentences = 0
    with open(log, "wb") as errors, open(arpa, "wb") as out:
        child = subprocess.Popen([program, *options], stdin=subprocess.PIPE, stdout=out, stderr=errors)
        assert child.stdin is not None
        try:
            for block in text.blocks():
                sentences += len(block)
                child.stdin.write(as_lines(block, text.num_units))
            child.stdin.close()
        except BrokenPipeError:
            pass  # lmplz ended early: its status and log give the reason
        except BaseException:
            child.kill()  # otherwise it waits for the rest of the text, and we wait for it
            raise
        finally:
            status = child.wait()
    if sentences == 0:
        raise KdError("the LM text gave no sentence to train a teacher on; check the text and the lexicon")
    if status:
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-6:])
        raise KdError(f"lmplz failed (status {status}) on {sentences} sentences of {text.unit}s:\n  {tail}\n"
                      "free memory or disk, then run again")  # fmt: skip


def as_lines(block: Sequences, num_units: int) -> bytes:
    """One sentence per line, units as numbers."""
    names = [b"%d " % i for i in range(num_units)] + [b"\n"]
    ends = np.insert(block.ids.astype(np.int64), block.offsets[1:], num_units)
    return b"".join(map(names.__getitem__, ends.tolist()))
