"""Step: a word n-gram LM with KenLM.  In: LM text, lang, dev transcripts.  Out: data/lm_<n>.

The folder: lm.arpa, lm.bin (KenLM's binary), vocab.txt, ppl.json (perplexity and OOV rate on dev). Words outside the
lang's vocabulary are <unk>. Modified Kneser-Ney smoothing (Heafield et al. 2013, aclanthology.org/P13-2121).
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise, takewhile, zip_longest
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import open_text, read_table, write_json, write_lines
from kdtool.formats.rows import read_utterances
from kdtool.lang.tools import run_tool

NOT_WORDS = ("<eps>", "#0", "<s>", "</s>", "<UNK>")
MAX_ORDER = 6
STEPS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)  # thresholds tried for --max-ngrams


@dataclass(frozen=True)
class Config:
    """Options of the n-gram step."""

    order: int = field(default=3, metadata={"help": "order of the n-grams"})
    prune: str = field(default="", metadata={"help": "count thresholds per order, e.g. '0 3 5': drop n-grams with at most N; empty: none"})
    max_ngrams: int = field(default=0, metadata={"help": "raise the thresholds until at most N n-grams are left (0: no limit)"})
    unseen: bool = field(default=False, metadata={"help": "true: words not in the text get the unknown word's probability"})
    memory: str = field(default="1G", metadata={"help": "sorting memory of lmplz, such as 1G or 20%", "key": False})


@dataclass(frozen=True)
class Perplexity:
    """Scores of a set: tokens are words and sentence ends; ppl excludes words outside the vocabulary from both sums."""

    sentences: int
    words: int
    oov_words: int
    oov_rate: float
    tokens: int
    log10_prob: float
    log10_prob_with_oov: float
    ppl: float
    ppl_with_oov: float


def parse_prune(text: str, order: int) -> list[str]:
    """'0 3 5' -> lmplz' arguments; UsageError unless they start with 0, do not decrease, and number at most `order`."""
    fields = text.split()
    if not fields:
        return []
    if not all(f.isdigit() for f in fields) or len(fields) > order or int(fields[0]):
        raise UsageError(f"--prune {text!r}: up to {order} whole numbers expected, the first one 0 (no word is pruned)")
    if any(int(a) > int(b) for a, b in pairwise(fields)):
        raise UsageError(f"--prune {text!r}: a threshold must not be lower than the one before")
    return ["--prune", *fields]


def thresholds(first: str, order: int) -> Iterator[str]:
    """`first`, then rising thresholds: those of the bigrams follow one step after the higher orders'."""
    yield first
    start = [int(f) for f in first.split()]
    for low, high in pairwise(STEPS):
        raised = [0, low, *[high] * (order - 2)][:order]
        raised = [max(a, b) for a, b in zip_longest(raised, start[:order], fillvalue=start[-1] if start else 0)]
        if raised != start:
            yield " ".join(map(str, raised))


def find_program(name: str) -> str:
    """KenLM's program on PATH; KdError when it is missing."""
    if found := shutil.which(name):
        return found
    raise KdError(f"{name} is not on PATH; set the environment up again (utils/setup_env.sh builds KenLM)")


def estimate(
    text: Path, arpa: Path, log: Path, *, order: int, prune: Sequence[str] = (), vocab: Path | None = None, memory: str = "1G",
    types: int = 0,
) -> bool:  # fmt: skip
    """Estimate an ARPA file from a text (plain or .gz, one sentence per line); temporary files lie beside `arpa`.

    types: number of unigrams to smooth over, including the sentence end and the unknown word (0: those of the text). Returns True when
    the text was too small for estimating Kneser-Ney discounts, so that fixed ones were used. Raises KdError: lmplz is missing or fails.
    """
    lmplz = find_program("lmplz")
    temporary = arpa.parent / "lmplz.tmp"
    temporary.mkdir()
    try:
        plain = temporary / "text"
        with open_text(text) as source, open(plain, "w", encoding="utf-8") as f:
            shutil.copyfileobj(source, f, 1 << 20)
        if not plain.stat().st_size:
            raise KdError(f"{text}: empty text; prepare the LM text again")
        limit = ["--limit_vocab_file", str(vocab)] if vocab else []
        limit += ["--vocab_pad", str(types)] if types else []
        command = [lmplz, "-o", str(order), *prune, *limit, "--discount_fallback", "-S", memory, "-T", f"{temporary}/"]
        run_tool([*command, "--text", str(plain), "--arpa", str(arpa)], log)
    finally:
        shutil.rmtree(temporary)
    return "fallback" in log.read_text(errors="replace").partition("\n")[2].lower()


def add_unseen(arpa: Path, words: Sequence[str]) -> int:
    """Give every one of `words` that the ARPA file lacks the unknown word's probability; returns their number.

    Probabilities sum to one when the file was estimated with `types` = these words, the sentence end and the unknown word.
    """
    with open_text(arpa) as f:
        lines = f.read().split("\n")
    begin = lines.index("\\1-grams:") + 1
    end = lines.index("", begin)
    fields = {line.split("\t")[1]: line.split("\t") for line in lines[begin:end]}
    missing = [w for w in words if w not in fields]
    unknown, back_off = fields["<unk>"][0], ["0"] if len(ngram_counts(arpa)) > 1 else []
    lines[end:end] = ["\t".join([unknown, word, *back_off]) for word in missing]
    header = lines.index(f"ngram 1={len(fields)}")
    lines[header] = f"ngram 1={len(fields) + len(missing)}"
    with open_text(arpa, "w") as f:
        f.write("\n".join(lines))
    return len(missing)


def perplexity(model: Any, sentences: Iterable[str]) -> Perplexity:
    """Score sentences with a kenlm.Model (sentence start and end included)."""
    count = tokens = oov = 0
    known = total = 0.0
    for sentence in sentences:
        count += 1
        for logp, _length, is_oov in model.full_scores(sentence, bos=True, eos=True):
            total += logp
            known += 0.0 if is_oov else logp
            oov += is_oov
            tokens += 1
    words = tokens - count  # the sentence end is a token, not a word
    if not words:
        raise KdError("perplexity: the set has no words; give a data folder with transcripts")
    ppl, ppl_with_oov = 10 ** (-known / max(1, tokens - oov)), 10 ** (-total / tokens)
    return Perplexity(count, words, oov, oov / words, tokens, known, total, ppl, ppl_with_oov)


def train(lm_text: Path, lang: Path, dev: Path, work: Path, cfg: Config) -> None:
    """Make the LM folder in `work`."""
    import kenlm

    words = [w for w in read_table(lang / "words.txt") if w not in NOT_WORDS]
    vocab, arpa, binary = work / "vocab.txt", work / "lm.arpa", work / "lm.bin"
    write_lines(vocab, words)
    for prune in thresholds(cfg.prune, cfg.order):
        fallback = estimate(
            lm_text / "text.gz", arpa, work / "log" / "lmplz.log", order=cfg.order, prune=parse_prune(prune, cfg.order), vocab=vocab,
            memory=cfg.memory, types=len(words) + 2 if cfg.unseen else 0,
        )  # fmt: skip
        size = sum(ngram_counts(arpa))
        if not cfg.max_ngrams or size <= cfg.max_ngrams:
            break
        print(f"{cfg.order}-gram: {size} n-grams with thresholds '{prune}', --max-ngrams is {cfg.max_ngrams}: pruned more", file=sys.stderr)
    else:
        raise KdError(f"{lm_text}: {size} n-grams are left with thresholds '{prune}', more than --max-ngrams {cfg.max_ngrams}; raise it, "
                      "or take a smaller vocabulary (--vocab-size of prepare_lang)")  # fmt: skip
    if cfg.unseen:
        print(f"{add_unseen(arpa, words)} words of the vocabulary are not in the text", file=sys.stderr)
    if fallback:
        print("note: the text is too small to estimate Kneser-Ney discounts; KenLM's fallback discounts are used", file=sys.stderr)
    run_tool([find_program("build_binary"), "-T", f"{work}/", "probing", str(arpa), str(binary)], work / "log" / "build_binary.log")
    counts = ngram_counts(arpa)
    texts = [" ".join((row.get("text") or "").split()) for row in read_utterances(dev)]
    scores = perplexity(kenlm.Model(str(binary)), filter(None, texts))
    write_json(work / "ppl.json", {"order": cfg.order, "prune": prune, "ngrams": counts, "fallback_discounts": fallback,
                                   "vocabulary": len(words), "dev": {"set": dev.name, **asdict(scores)}})  # fmt: skip
    print(
        f"{cfg.order}-gram: {' + '.join(map(str, counts))} n-grams; {dev.name}: perplexity {scores.ppl:.1f}, with OOV "
        f"{scores.ppl_with_oov:.1f}, OOV rate {100 * scores.oov_rate:.2f}% ({scores.oov_words} of {scores.words} words)",
        file=sys.stderr,
    )


def ngram_counts(arpa: Path) -> list[int]:
    """The numbers of n-grams in an ARPA file's header."""
    with open(arpa, encoding="utf-8") as f:
        head = takewhile(lambda line: not line.startswith("\\1-grams"), f)
        return [int(line.split("=")[1]) for line in head if line.startswith("ngram ")]


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("lm_text", "folder with the normalised LM text"), ("lang", "language folder (its vocabulary)"),
                   ("dev", "data folder whose transcripts are scored"), ("out", "LM folder to make")]  # fmt: skip
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/train_ngram.sh", description=__doc__ or "")
    if not 2 <= cfg.order <= MAX_ORDER:
        raise UsageError(f"--order {cfg.order}: 2 to {MAX_ORDER}")
    parse_prune(cfg.prune, cfg.order)
    if cfg.max_ngrams < 0:
        raise UsageError(f"--max-ngrams {cfg.max_ngrams}: a number of n-grams, 0 for no limit")
    inputs = {"lm_text": paths["lm_text"], "vocabulary": paths["lang"] / "words.txt",
              "dev transcripts": paths["dev"] / "supervisions.jsonl.gz"}  # fmt: skip
    run_step(
        f"{cfg.order}-gram LM", out=paths["out"], inputs=inputs, options=cfg, code=("kdtool.lm.ngram",), common=common,
        body=lambda work: train(paths["lm_text"], paths["lang"], paths["dev"], work, cfg),
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
