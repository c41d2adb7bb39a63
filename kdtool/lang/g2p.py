"""Grapheme-to-phoneme conversion with Phonetisaurus.  In: a lexicon and words without pronunciation.  Out: one pronunciation each.

Joint n-grams over letter-phone chunks (Novak, Minematsu & Hirose 2016, doi 10.1017/S1351324915000315), trained offline.
EM over the whole lexicon takes minutes, so the chunk model is estimated on a sample of the words and then aligns all of
them: CMUdict in 30 s instead of 210 s, word error 26.3% instead of 25.6% on 2,000 held-out words.
"""

import importlib.util
import os
import platform
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.jobs import full_disk, run_commands, split
from kdtool.lang.lexicon import Lexicon, Pron
from kdtool.lang.tools import run_tool

SPELLED = re.compile(r"[A-Z']*[A-Z][A-Z']*")
CHUNKS = ["--seq1_del=false", "--seq2_del=true", "--seq1_max=2", "--seq2_max=2", "--grow=false"]
EM_ITERATIONS = 8
SHOWN, SHOWN_LETTERS = 10, 40  # unknown words printed, and letters of each
LONGEST = 60  # letters of a word; the program's time and memory grow with its square


def unspelled(word: str) -> str:
    """Why no pronunciation can be guessed from a word's letters, and what to do."""
    if len(word) > LONGEST:
        return f"{len(word)} letters, more than {LONGEST}: no pronunciation is guessed; put blanks between its words"
    if any(c.isdigit() for c in word):
        return "digits are read in several ways: write them as they are said"
    return "not spelled with A to Z and the apostrophe: add it to the lexicon"


def tool_folders() -> tuple[Path, Path]:
    """Folders of Phonetisaurus' programs and libraries; KdError when the package does not exist for this machine."""
    spec = importlib.util.find_spec("phonetisaurus")
    for location in (spec.submodule_search_locations or []) if spec else []:
        programs, libraries = (Path(location) / part / platform.machine() for part in ("bin", "lib"))
        if (programs / "phonetisaurus-align").is_file():
            return programs, libraries
    raise KdError(f"the package phonetisaurus (with programs for {platform.machine()}) is not installed; set the environment up "
                  "again (utils/setup_env.sh), or leave the missing words out with --g2p false")  # fmt: skip


def sample_words(words: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` words drawn at random, sorted; all if `count` is 0 or exceeds their number."""
    return sorted(words if count <= 0 or count >= len(words) else random.Random(seed).sample(sorted(words), count))


def say(text: str) -> None:
    print(f"G2P: {text}", file=sys.stderr, flush=True)


def tell_unknown(what: str, words: Counter[str], unknown: Iterable[str], fate: str, listed: str) -> None:
    """Print how many of a text's words have no pronunciation, and the most frequent ones; nothing if all have one.

    what: "training transcripts"; words: count of each word of the text; unknown: those without a pronunciation; fate: what happens to
    them: "are without a pronunciation and become <UNK>"; listed: file that lists all of them.
    """
    lost = Counter({w: words[w] for w in set(unknown) if words[w]})
    if not lost:
        return
    total, share = words.total(), 100 * lost.total() / words.total()
    names = {w: w if len(w) <= SHOWN_LETTERS else w[:SHOWN_LETTERS] + ".." for w in lost}
    first = ", ".join(f"{names[w]} {n}" for w, n in sorted(lost.items(), key=lambda item: (-item[1], item[0]))[:SHOWN])
    print(f"{what}: {len(lost)} of {len(words)} words {fate} ({lost.total()} of {total} tokens, {share:.2f}%)\n"
          f"  {'all' if len(lost) <= SHOWN else 'most frequent'}: {first}; list: {listed}", file=sys.stderr)  # fmt: skip


def pronounce(
    missing: Iterable[str], lexicon: Lexicon, work: Path, *, g2p: bool, max_words: int, nj: int, order: int = 6, seed: int = 0
) -> tuple[dict[str, Pron], list[tuple[str, str]]]:
    """Pronunciations of words that the lexicon lacks, and (word, reason) of those without one. Arguments as of `G2p` and its `train`."""
    words = sorted(missing)
    if not g2p:
        return {}, [(w, "not in the lexicon, and G2P is off") for w in words]
    if not any(SPELLED.fullmatch(w) for w in words):
        return {}, [(w, unspelled(w)) for w in words]
    print(f"G2P for {len(words)} words that the lexicon lacks", file=sys.stderr, flush=True)
    model = G2p(work, order=order, nj=nj, seed=seed)
    model.train(lexicon, max_words)
    result = model.apply(words)
    model.clean()
    return result


class G2p:
    """A converter trained on a lexicon; temporary files and logs go under `work`. order: of the joint n-gram model; align_words: number of
    words for estimating the chunk model; nj: parallel processes for the alignment (the result does not depend on it)."""

    def __init__(self, work: Path, *, order: int = 6, align_words: int = 20000, nj: int = 1, seed: int = 0) -> None:
        self.temporary, self.log = work / "g2p", work / "log"
        self.order, self.align_words, self.nj, self.seed = order, align_words, nj, seed
        self.programs, libraries = tool_folders()
        inherited = os.environ.get("LD_LIBRARY_PATH")
        self.env = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join([str(libraries), *([inherited] if inherited else [])])}

    def train(self, lexicon: Lexicon, max_words: int = 0) -> None:
        """Train on (a sample of `max_words` of) the words that are spelled with letters. Raises KdError: no such words, or a program
        fails."""
        words = sample_words([w for w in lexicon if SPELLED.fullmatch(w)], max_words, self.seed)
        if not words:
            raise KdError("the lexicon has no word spelled with A to Z to learn G2P from; give a larger lexicon or --g2p false")
        self.temporary.mkdir(parents=True, exist_ok=True)
        model = self.temporary / "chunks.fst"
        some = sample_words(words, self.align_words, self.seed)
        say(f"1 of 4, chunks of letters and phones, from {len(some)} words")
        command = self._align_command(some, lexicon, "sample", [f"--iter={EM_ITERATIONS}", f"--write_model={model}"])
        run_tool(command, self.log / "g2p_align_sample.log", env=self.env)
        if len(some) < len(words):
            say(f"2 of 4, {len(words)} words of the lexicon aligned with their phones")
            self._align_all(words, lexicon, model)
        else:
            (self.temporary / "sample.corpus").rename(self.temporary / "all.corpus")
        arpa, corpus = self.temporary / "joint.arpa", self.temporary / "all.corpus"
        if not corpus.stat().st_size:
            raise KdError(f"none of the lexicon's {len(words)} words could be aligned to its phones; give a larger one or --g2p false")
        say(f"3 of 4, joint {self.order}-gram model")
        try:
            self._run(["estimate-ngram", "-o", str(self.order), "-t", str(corpus), "-wl", str(arpa)], "g2p_ngram.log")
        except KdError as e:  # it crashes on a few words
            hint = "give a larger lexicon, or leave the words that it lacks out with --g2p false"
            raise KdError(f"G2P could not learn from the lexicon's {len(words)} words; {hint}\n{e}") from e
        self._run(["phonetisaurus-arpa2wfst", f"--lm={arpa}", f"--ofile={self.temporary / 'model.fst'}"], "g2p_model.log")

    def apply(self, words: Sequence[str]) -> tuple[dict[str, Pron], list[tuple[str, str]]]:
        """Pronunciations of the words, and (word, reason) of those without one."""
        can = sorted({w for w in words if SPELLED.fullmatch(w) and len(w) <= LONGEST})
        failed = [(w, unspelled(w)) for w in sorted(set(words) - set(can))]
        prons: dict[str, Pron] = {}
        if can:
            listing, output = self.temporary / "words.txt", self.temporary / "prons.tsv"
            listing.write_text("".join(f"{w}\n" for w in can), encoding="utf-8")
            command = ["phonetisaurus-g2pfst", f"--model={self.temporary / 'model.fst'}", "--nbest=1", f"--wordlist={listing}"]
            say(f"4 of 4, pronunciations of {len(can)} words")
            self._run(command, "g2p_apply.log", stdout=output, lines=("G2P words", len(can)))
            for line in output.read_text(encoding="utf-8").splitlines():
                word, _score, phones = [*line.split("\t"), "", ""][:3]
                if phones.split():
                    prons.setdefault(word, tuple(phones.split()))
        failed += [(w, "the G2P model found no pronunciation") for w in can if w not in prons]
        return prons, sorted(failed)

    def clean(self) -> None:
        """Remove the temporary files."""
        shutil.rmtree(self.temporary, ignore_errors=True)

    def _align_all(self, words: Sequence[str], lexicon: Lexicon, model: Path) -> None:
        loaded = ["--load_model=true", f"--model_file={model}"]
        parts = [f"part{j}" for j in range(1, self.nj + 1)]
        commands = [self._align_command(split(words, j, self.nj), lexicon, part, loaded) for j, part in enumerate(parts, 1)]
        logs = [self.log / f"g2p_align_{part}.log" for part in parts]
        # The array runner passes its environment on; env(1) adds the libraries' folder to it.
        library = f"LD_LIBRARY_PATH={self.env['LD_LIBRARY_PATH']}"
        run_commands([["env", library, *c] for c in commands], logs, name="G2P alignment", at_once=self.nj)
        if full := full_disk(self.temporary):
            raise KdError(f"G2P alignment: {full}")
        with open(self.temporary / "all.corpus", "wb") as corpus:
            for part in parts:
                with open(self.temporary / f"{part}.corpus", "rb") as f:
                    shutil.copyfileobj(f, corpus)

    def _align_command(self, words: Sequence[str], lexicon: Lexicon, name: str, options: list[str]) -> list[str]:
        source, corpus = self.temporary / f"{name}.tsv", self.temporary / f"{name}.corpus"
        source.write_text("".join(f"{w}\t{' '.join(p)}\n" for w in words for p in lexicon[w]), encoding="utf-8")
        return [str(self.programs / "phonetisaurus-align"), f"--input={source}", f"--ofile={corpus}", *CHUNKS, *options]

    def _run(self, command: list[str], log: str, stdout: Path | None = None, lines: tuple[str, int] | None = None) -> None:
        run_tool([str(self.programs / command[0]), *command[1:]], self.log / log, env=self.env, stdout=stdout, lines=lines)
