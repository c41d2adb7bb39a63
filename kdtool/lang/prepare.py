"""Step: the language folder.  In: a lexicon, LM text, training transcripts.  Out: data/lang.

The folder: words.txt, phones.txt, silence_phones.txt, oov.txt, topo.txt, lexicon.txt (the decoding vocabulary),
text_lexicon.txt (words of the LM text beyond it), g2p.tsv, oov_failed.tsv, bpe.model, subwords.txt, stats.json,
word_boundary.txt if phones depend on their position in the word, and lexiconp_silprob.txt with silprob.txt if the lexicon brings
probabilities.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import write_json, write_lines, write_table
from kdtool.lang.g2p import pronounce, tell_unknown
from kdtool.lang.lexicon import SIL, SPN, UNK, Lexicon, LexiconFile, Numbers, Pron, read_lexicon, write_lexicon
from kdtool.lang.positions import mark, mark_lexicon, marked_phones, write_positions
from kdtool.lang.probs import LexiconProbs, PronProbs
from kdtool.lang.vocab import RESERVED, most_frequent, text_words, transcript_words
from kdtool.text.clean import spellings

STATES = 3
FLAT_SILENCE = 0.5
LEAST = 1e-5  # a pronunciation of probability 0 stays possible, as an alignment may need it


@dataclass(frozen=True)
class Config:
    """Options of the language step."""

    vocab_size: int = field(default=20000, metadata={"help": "vocabulary size: the most frequent words of the LM text"})
    all_words: bool = field(default=False, metadata={"help": "true: use the whole lexicon as vocabulary (small, closed dictionaries)"})
    min_count: int = field(default=1, metadata={"help": "smallest count of a word in the LM text"})
    phone_set: str = field(default="arpabet", metadata={"help": "arpabet: other phones in the lexicon are errors; any: all allowed"})
    word_position: bool = field(
        default=False, metadata={"help": "true: word-position-dependent phones (AH_B begins a word, AH_E ends it, AH_I, AH_S)"}
    )
    g2p: bool = field(default=True, metadata={"help": "false: words that are not in the lexicon become <UNK>"})
    g2p_max_words: int = field(default=0, metadata={"help": "number of lexicon words for training the G2P model, 0 for all"})
    g2p_order: int = field(default=6, metadata={"help": "order of G2P's joint n-gram model"})
    max_oov: float = field(default=0.1, metadata={"help": "largest share of words without pronunciation in the training transcripts"})
    bpe_size: int = field(default=500, metadata={"help": "number of subword units"})
    bpe_sentences: int = field(default=50000, metadata={"help": "sentences for training the subword model, 0 for all"})
    seed: int = field(default=0, metadata={"help": "seed of the random samples"})
    align_data: Path | None = field(
        default=None, metadata={"help": "data folder to align later: its words get pronunciations but stay outside the vocabulary"}
    )


@dataclass
class Chosen:
    """The chosen words: vocabulary (decoding), beyond (used only by alignment and LMs over phones); how often each occurs."""

    vocabulary: list[str]
    beyond: list[str]
    training: Counter[str]
    text: Counter[str]
    to_align: Counter[str]


def choose_words(data: Path, lm_text: Path, cfg: Config, more: Iterable[str] = ()) -> Chosen:
    """All words of the training transcripts, the most frequent ones of the LM text, and `more`."""
    training, text = transcript_words(data), text_words(lm_text)
    if reserved := [word for word in RESERVED if word in text]:
        raise KdError(f"the word {reserved[0]} occurs in {lm_text}; the name is reserved, remove it there")
    vocabulary = (set(training) - {UNK}) | set(most_frequent(text, cfg.vocab_size, cfg.min_count)) | set(more)
    # A dev word outside the vocabulary cannot be recognised, but the reference alignment must not treat it as noise.
    to_align = transcript_words(cfg.align_data) if cfg.align_data else Counter[str]()
    return Chosen(sorted(vocabulary), sorted((set(text) | set(to_align)) - vocabulary - {UNK}), training, text, to_align)


def other_spellings(words: Iterable[str], lexicon: Lexicon) -> dict[str, str]:
    """Words that the lexicon lacks -> their spelling there (see kdtool.text.clean.spellings), if it has one."""
    missing = [word for word in words if word not in lexicon]
    return {word: spelled for word in missing if (spelled := next((s for s in spellings(word) if s in lexicon), ""))}


def write_tables(work: Path, lexicon: Lexicon, beyond: Lexicon, word_position: bool) -> list[str]:
    """words.txt, phones.txt, lexicon.txt, text_lexicon.txt, silence_phones.txt, oov.txt, topo.txt, word_boundary.txt if asked for.

    Returns the phones by id.
    """
    used = {p for prons in (*lexicon.values(), *beyond.values()) for pron in prons for p in pron}
    spoken = sorted(used - {SIL, SPN})
    if word_position:
        lexicon, beyond, spoken = mark_lexicon(lexicon), mark_lexicon(beyond), marked_phones(spoken)
    phones = [SIL, SPN, *spoken]
    if word_position:
        write_positions(work, phones, (SIL, SPN))
    words = ["<eps>", *sorted(lexicon), UNK, "#0", "<s>", "</s>"]
    write_table(work / "phones.txt", {p: i for i, p in enumerate(["<eps>", *phones])})
    write_table(work / "words.txt", {w: i for i, w in enumerate(words)})
    write_lexicon(work / "lexicon.txt", {**lexicon, UNK: [(SPN,)]})
    write_lexicon(work / "text_lexicon.txt", beyond)
    more = {"silence_phones.txt": [SIL, SPN], "oov.txt": [UNK], "topo.txt": [f"{p} {STATES}" for p in phones]}
    for name, lines in more.items():
        write_lines(work / name, lines)
    return ["<eps>", *phones]


def write_given(work: Path, path: Path, source: LexiconFile, known: Lexicon, phones: Sequence[str], word_position: bool) -> None:
    """Write the lexicon's probabilities, if it has any, and print what happened to its numbers.

    Its 1, 2 or 4 numbers are the first columns of Kaldi's lexiconp_silprob.txt; missing ones are flat.
    steps/estimate_lang_probs.sh replaces them by those of an alignment.
    """
    if not source.columns:
        return
    for (word, _), numbers in source.numbers.items():
        if not all(0 <= x <= 1 for x in numbers[:2]) or not all(0 <= x < float("inf") for x in numbers[2:]):
            odd = f"{word} {' '.join(f'{x:g}' for x in numbers)}"
            print(f"note: {path}: its numbers are no probabilities ({odd}) and are not used", file=sys.stderr)
            return
    if all(numbers in ((), (1.0,)) for numbers in source.numbers.values()):
        print(f"note: {path}: all its numbers are 1 and say nothing", file=sys.stderr)
        return
    ids = {phone: i for i, phone in enumerate(phones)}
    table: dict[tuple[str, tuple[int, ...]], PronProbs] = {}
    silences = [n[1] for n in source.numbers.values() if len(n) > 1]
    overall = _between(0.001, sum(silences) / len(silences), 0.999) if silences else FLAT_SILENCE
    everything: Lexicon = {**known, UNK: [(SPN,)]}
    for word, prons in everything.items():
        rows: list[Numbers] = [source.numbers.get((word, pron)) or (1.0,) for pron in prons]  # flat for words that the lexicon lacks
        best = max(LEAST, *(row[0] for row in rows))
        for pron, (first, *rest) in zip(prons, rows, strict=True):
            sil = _between(0.001, rest[0], 0.999) if rest else overall
            probs = PronProbs(max(LEAST, max(LEAST, first) / best), sil, *(max(0.01, x) for x in rest[1:]))
            table[word, tuple(ids[p] for p in (mark(pron) if word_position else pron))] = probs
    LexiconProbs(table, FLAT_SILENCE, PronProbs(1.0, overall), overall).save(work, phones)
    print(f"note: {path}: its probabilities are used in training and decoding, until steps/estimate_lang_probs.sh puts an alignment's "
          "in their place", file=sys.stderr)  # fmt: skip


def _between(low: float, value: float, high: float) -> float:
    return min(high, max(low, value))


def report(
    work: Path, chosen: Chosen, source: Lexicon, known: Lexicon, made: dict[str, Pron], failed: list[tuple[str, str]], max_oov: float,
    listed: str,
) -> None:  # fmt: skip
    """Counts of words by source of their pronunciation, printed and in stats.json; g2p.tsv, oov_failed.tsv.

    listed: the final path of the list of failed words. KdError when more than `max_oov` of the training transcripts' words failed.
    """
    for name, rows in (("g2p.tsv", sorted((w, " ".join(p)) for w, p in made.items())), ("oov_failed.tsv", failed)):
        write_lines(work / name, (f"{word}\t{value}" for word, value in rows))
    in_lexicon = sum(w in source for w in chosen.vocabulary)
    by_g2p = sum(w in made for w in chosen.vocabulary)
    left_out = len(chosen.vocabulary) - in_lexicon - by_g2p
    stats = {
        "vocabulary": len(known), "from_lexicon": in_lexicon, "from_g2p": by_g2p, "without_pronunciation": left_out,
        "training_tokens": chosen.training.total(), "training_oov_tokens": sum(n for w, n in chosen.training.items() if w not in known),
        "text_tokens": chosen.text.total(), "text_oov_tokens": sum(n for w, n in chosen.text.items() if w not in known),
        "text_words_beyond": len(chosen.beyond),
    }  # fmt: skip
    write_json(work / "stats.json", stats)
    print(
        f"vocabulary: {len(known)} words, {in_lexicon} from the lexicon, {by_g2p} by G2P; {left_out} without pronunciation are <UNK>\n"
        f"outside it: {stats['training_oov_tokens']} of {stats['training_tokens']} words of the training transcripts, "
        f"{100 * stats['text_oov_tokens'] / stats['text_tokens']:.2f}% of the LM text's words",
        file=sys.stderr,
    )
    lost = [f"  training word {w} is {UNK}: {reason}" for w, reason in failed if w in chosen.training]
    unknown = {UNK, *(w for w, _ in failed)}
    for what, words in (("training transcripts", chosen.training), ("transcripts to align", chosen.to_align), ("LM text", chosen.text)):
        tell_unknown(what, words, unknown, f"are without a pronunciation and become {UNK}", listed)
    share = stats["training_oov_tokens"] / max(1, stats["training_tokens"])
    if share > max_oov:
        raise KdError(f"{100 * share:.1f}% of the words in the training transcripts have no pronunciation, more than --max-oov {max_oov}:\n"
                      + "\n".join(lost[:5]) + "\nadd them to the lexicon, let G2P do them (--g2p true), or allow more")  # fmt: skip
    print(*lost[:10], sep="\n", end="\n" * bool(lost), file=sys.stderr)


def prepare(lexicon_path: Path, lm_text: Path, data: Path, work: Path, out: Path, cfg: Config, nj: int) -> None:
    """Make the language folder in `work`, which will become `out`."""
    from kdtool.lang.subwords import train_bpe, write_bpe

    source = read_lexicon(lexicon_path, cfg.phone_set)
    chosen = choose_words(data, lm_text, cfg, source.prons if cfg.all_words else ())
    if source.unknown:
        print(f"{lexicon_path}: {len(source.unknown)} pronunciations with unknown phones are left out:", file=sys.stderr)
        for number, word, strange in source.unknown[:10]:
            print(f"  line {number}: {word}: {' '.join(strange)}", file=sys.stderr)
    spelled = other_spellings((*chosen.vocabulary, *chosen.beyond), source.prons)
    if spelled:
        first = ", ".join(f"{w} as {s}" for w, s in [*spelled.items()][:10])
        print(f"{len(spelled)} words have the pronunciation of another spelling in the lexicon: {first}", file=sys.stderr)
    in_lexicon: Lexicon = {**{w: source.prons[s] for w, s in spelled.items()}, **source.prons}
    missing = [w for w in (*chosen.vocabulary, *chosen.beyond) if w not in in_lexicon]
    made, failed = pronounce(
        missing, source.prons, work, g2p=cfg.g2p, max_words=cfg.g2p_max_words, nj=nj, order=cfg.g2p_order, seed=cfg.seed
    )
    prons: Lexicon = {**{w: [p] for w, p in made.items()}, **in_lexicon}
    known = {w: prons[w] for w in chosen.vocabulary if w in prons}
    if not known:
        raise KdError(f"no word of the vocabulary has a pronunciation in {lexicon_path}; is it the lexicon of this language?")
    phones = write_tables(work, known, {w: prons[w] for w in chosen.beyond if w in prons}, cfg.word_position)
    write_given(work, lexicon_path, source, known, phones, cfg.word_position)
    report(work, chosen, in_lexicon, known, made, failed, cfg.max_oov, f"{out}/oov_failed.tsv")
    model = train_bpe(lm_text / "text.gz", cfg.bpe_size, cfg.bpe_sentences, cfg.seed)
    print(f"subwords: {write_bpe(work, model)} BPE pieces", file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("lexicon", "lexicon file in CMUdict's, Sphinx', Kaldi's, MFA's or HTK's format"),
                   ("lm_text", "folder with the normalised LM text"), ("data", "training data folder (its transcripts)"),
                   ("out", "language folder to make")]  # fmt: skip
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/prepare_lang.sh", description=__doc__ or "")
    if cfg.vocab_size < 1 or cfg.min_count < 1 or cfg.bpe_size < 10 or not 2 <= cfg.g2p_order <= 9:
        raise UsageError("--vocab-size and --min-count: at least 1; --bpe-size: at least 10; --g2p-order: 2 to 9")
    if not 0 <= cfg.max_oov <= 1:
        raise UsageError(f"--max-oov {cfg.max_oov}: a share from 0 to 1")
    inputs = {"lexicon": paths["lexicon"], "lm_text": paths["lm_text"], "transcripts": paths["data"] / "supervisions.jsonl.gz"}
    if cfg.align_data:
        inputs["align_data"] = cfg.align_data / "supervisions.jsonl.gz"
    run_step(
        "language", out=paths["out"], inputs=inputs, options=cfg, code=("kdtool.lang.prepare",), common=common,
        body=lambda work: prepare(paths["lexicon"], paths["lm_text"], paths["data"], work, paths["out"], cfg, common.nj),
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
