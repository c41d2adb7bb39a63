"""Step: the embedded corpus.  In: embedded.yaml, espeak-ng.  Out: <out>/LibriSpeech, <out>/lm-text.txt.gz, <out>/lexicon.txt,
<out>/truth (times of each word and phone, for voices without echo).

A few minutes of synthetic speech in LibriSpeech's layout, for trying the recipe without data. Its error rates
only show that the recipe works. No dev sentence is in the training set or in the LM text.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import write_lines
from local.librispeech.arpabet import to_arpabet
from local.librispeech.embedded_speaker import run_speakers
from local.librispeech.espeak import Espeak
from local.librispeech.sentences import Source, Speaker, draws, read_source

TRAIN, DEV = "train-clean-5", "dev-clean-2"
CHAPTER = 1
REFERENCE_VOICE = "en-us"
SOURCE = Path(__file__).with_name("embedded.yaml")
MODULES = ("arpabet", "embedded", "embedded_speaker", "espeak", "sentences", "truth")


@dataclass(frozen=True)
class Config:
    """Options of the embedded corpus."""

    train_utts: int = field(default=108, metadata={"help": "number of training utterances"})
    dev_utts: int = field(default=21, metadata={"help": "number of development utterances"})
    lm_sentences: int = field(default=6000, metadata={"help": "number of sentences of LM text"})
    seed: int = field(default=1, metadata={"help": "seed of sentences, noise and voices"})


def choose_sentences(source: Source, cfg: Config) -> tuple[dict[str, list[str]], list[str]]:
    """Different sentences by part, and LM text without the dev sentences (with repeated sentences, like real text)."""
    dev = list(islice(draws(source, 3 * cfg.seed, distinct=True), cfg.dev_utts))
    train = list(islice(draws(source, 3 * cfg.seed + 1, without=frozenset(dev), distinct=True), cfg.train_utts))
    text = list(islice(draws(source, 3 * cfg.seed + 2, without=frozenset(dev)), cfg.lm_sentences))
    return {TRAIN: train, DEV: dev}, text


def make_lexicon(source: Source) -> dict[str, list[tuple[str, ...]]]:
    """Upper-case word -> pronunciations, for all words except those left out on purpose; KdError for a sound without ARPAbet phone."""
    espeak = Espeak()
    words = [w for w in source.vocabulary() if w not in source.left_out]
    return {
        w.upper(): source.pronunciations[w] if w in source.pronunciations else [to_arpabet(w, espeak.mnemonics(w, REFERENCE_VOICE))]
        for w in words
    }


def speak_part(work: Path, part: str, speakers: Sequence[Speaker], sentences: Sequence[str], seed: int, nj: int) -> None:
    """Write a part: the sentences are dealt to the speakers."""
    folder, log = work / "LibriSpeech" / part, work / "log"
    log.mkdir(exist_ok=True)
    (work / "truth").mkdir(exist_ok=True)
    jobs = []
    for index, speaker in enumerate(speakers[: len(sentences)]):
        utterances = [(f"{speaker.id}-{CHAPTER}-{n:04d}", text) for n, text in enumerate(sentences[index :: len(speakers)])]
        content = {"seed": seed, "utterances": utterances, "truth": str(work / "truth" / f"{part}.{speaker.id}.jsonl")}
        jobs.append((log / f"{part}.{speaker.id}.json", {**asdict(speaker), **content}, folder / str(speaker.id) / str(CHAPTER)))
    run_speakers(jobs, f"embedded corpus {part}", nj)
    if (files := len([*folder.rglob("*.flac")])) != len(sentences):
        raise KdError(f"{folder}: {files} audio files for {len(sentences)} sentences; see the logs in {log}")


def make(work: Path, source: Source, cfg: Config, nj: int) -> None:
    """Write everything into `work`."""
    parts, text = choose_sentences(source, cfg)
    lexicon = make_lexicon(source)
    write_lines(work / "lexicon.txt", (f"{word} {' '.join(pron)}" for word in sorted(lexicon) for pron in lexicon[word]))
    write_lines(work / "lm-text.txt.gz", (sentence.upper() for sentence in text))
    for part, sentences in parts.items():
        speak_part(work, part, source.speakers[part], sentences, cfg.seed, nj)
    print(
        f"embedded corpus: {len(parts[TRAIN])} training and {len(parts[DEV])} dev utterances, {len(text)} sentences of LM text, "
        f"{len(lexicon)} words with and {len(source.left_out)} without pronunciation"
    )


def main() -> None:
    positionals = [("out", "folder to make")]
    paths, cfg, common = parse_args(Config, positionals, None, prog="local/librispeech/make_embedded.sh", description=__doc__ or "")
    for name in ("train_utts", "dev_utts", "lm_sentences"):
        if getattr(cfg, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(cfg, name)}: at least 1")
    source = read_source(SOURCE)
    run_step("embedded corpus", out=paths["out"], inputs={"sentences and speakers": SOURCE}, options=cfg, common=common,
             code=[f"local.librispeech.{m}" for m in MODULES], body=lambda work: make(work, source, cfg, common.nj))  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
