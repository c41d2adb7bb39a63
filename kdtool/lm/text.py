"""Step: LM text.  In: one sentence per line (plain or .gz), or a data folder's transcripts.  Out: text.gz, upper-case A to Z
and apostrophe; stats.json.

Sentence marks (<s>, </s>), <unk> and tags of noises ([LAUGHTER], <noise>, ++BREATH++) are no words: they are removed and counted.
Sentences that equal a transcript of a held-out set (--exclude) are left out, so that its perplexities and word error rates
are honest.
"""

import random
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.progress import Line
from kdtool.core.step import run_step
from kdtool.core.tables import open_text, write_json
from kdtool.formats.rows import read_utterances
from kdtool.text.clean import APOSTROPHES, Counts, clean, tell, upper
from kdtool.text.kinds import check_plain
from kdtool.text.marks import LONGEST_WORD, markup, spoken, without_marks

TRANSCRIPTS = "supervisions.jsonl.gz"  # file of a data folder
PLAIN = re.compile(r"[A-Z' ]*")
OTHER = re.compile(r"[^A-Z' ]+")
_LONG = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


@dataclass(frozen=True)
class Config:
    """Options of the LM text step."""

    max_lines: int = field(default=0, metadata={"help": "keep a random sample of N sentences (0: all)"})
    exclude: str | None = field(
        default=None, metadata={"help": "data folders, comma-separated, whose transcripts must not be in the text", "key": False}
    )
    seed: int = field(default=0, metadata={"help": "seed of the sample"})
    plain: bool = field(default=True, metadata={"help": "keep only letters A to Z and apostrophes; false: only make words upper-case"})


@dataclass
class Account:
    """What happened to the lines: counts (lines_in, sentences, dropped_<kind>), changed characters and marks by kind, and the
    first dropped line per kind."""

    counts: Counts = field(default_factory=Counter)
    changed: Counts = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)


def normalise(line: str, plain: bool = True, changed: Counts | None = None) -> str:
    """Upper-case letters A to Z, apostrophes and single spaces; accents are removed, other characters separate words.

    plain False only makes the words upper-case, as they are in a lexicon of another language or with other signs.
    changed: counts the removed characters and marks by kind. Returns '' for lines without a word. Raises Unusable: digits, whose
    reading is ambiguous; markup; a word of more than LONGEST_WORD characters.
    """
    text = line.strip()
    if not PLAIN.fullmatch(text):
        changed = Counter() if changed is None else changed
        text = clean(text, changed)
        if found := markup(text):
            raise Unusable("markup", found)
        text = without_marks(text, changed, tags=True)
        if plain:
            text = unicodedata.normalize("NFKD", text.translate(APOSTROPHES)).upper()
            text = "".join(c for c in text if not unicodedata.combining(c))
            if digit := next((c for c in text if c.isdigit()), ""):
                raise Unusable("digits", digit)
            text = OTHER.sub(" ", text)
        else:
            text = spoken(upper(text), changed)
    if len(text) > LONGEST_WORD and (long := _LONG.search(text)):
        raise Unusable("long_words", f"a word of {len(long[0])} characters")
    return " ".join(word for word in text.split() if not plain or word.strip("'"))


class Unusable(ValueError):
    """A line that is left out: `kind` for the counts, `what` was found in it."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(kind)
        self.kind, self.what = kind, what


def sentences(source: Path, held_out: set[str], account: Account, plain: bool) -> Iterator[str]:
    """The normalised sentences to keep; `account` counts lines in, sentences out and why lines were dropped."""
    counts = account.counts
    for number, line in enumerate(raw_sentences(source), 1):
        counts["lines_in"] += 1
        try:
            text = normalise(line, plain, account.changed)
        except Unusable as e:
            counts[f"dropped_{e.kind}"] += 1
            account.first.setdefault(e.kind, f"{number} ({e.what})")
            continue
        if not text:
            counts["dropped_empty"] += 1
        elif text in held_out:
            counts["dropped_held_out"] += 1
        else:
            counts["sentences"] += 1
            yield text


def raw_sentences(source: Path) -> Iterator[str]:
    """The lines of a text; the transcripts of a data folder."""
    if source.is_dir():
        for row in read_utterances(source):
            yield row.get("text") or ""
        return
    size, shown = source.stat().st_size / 1e6, Line()
    with open_text(source) as lines:
        whole: Any = lines
        read = whole.buffer  # progress counts the compressed bytes
        for number, line in enumerate(lines):
            yield line
            if number % 10000 == 0:
                shown.share(f"MB of {source.name}", getattr(read, "fileobj", read).tell() / 1e6, size)
    shown.clear()


def excluded(cfg: Config) -> list[Path]:
    """The data folders of --exclude."""
    return [Path(folder) for folder in (cfg.exclude or "").split(",") if folder]


def transcripts(data: Path, plain: bool = True) -> set[str]:
    """The normalised transcripts of a data folder."""
    if not (data / TRANSCRIPTS).is_file():
        raise KdError(f"--exclude {data}: no {TRANSCRIPTS} there; prepare that data set first")
    texts = set()
    for row in read_utterances(data):
        with suppress(Unusable):  # no sentence can equal it: such lines are dropped
            texts.add(normalise(row.get("text") or "", plain))
    return texts


def prepare(source: Path, work: Path, cfg: Config) -> None:
    """Write text.gz and stats.json; KdError when no sentence is left."""
    if source.is_file():
        check_plain(source)
    held_out, account, chosen = set[str]().union(*(transcripts(d, cfg.plain) for d in excluded(cfg))), Account(), None
    if cfg.max_lines:
        # Two passes, so that a text larger than memory can be sampled.
        total = sum(1 for _ in sentences(source, held_out, account, cfg.plain))
        chosen = set(random.Random(cfg.seed).sample(range(total), min(cfg.max_lines, total)))
        account = Account()
    words = kept = 0
    with open_text(work / "text.gz", "w") as f:
        for number, text in enumerate(sentences(source, held_out, account, cfg.plain)):
            if chosen is None or number in chosen:
                f.write(text + "\n")
                kept += 1
                words += text.count(" ") + 1
    for kind, line in sorted(account.first.items()):
        print(f"note: LM text: dropped for {kind.replace('_', ' ')}, the first is {source}, line {line}", file=sys.stderr)
    tell("LM text", account.changed)
    counts = account.counts
    if not kept:
        raise KdError(f"{source}: no sentence is left of {counts['lines_in']} lines ({dict(counts)}); name a text, one sentence per line")
    counts["dropped_by_sampling"] = counts["sentences"] - kept
    dropped = {k.removeprefix("dropped_"): counts[k] for k in sorted(counts) if k.startswith("dropped_") and counts[k]}
    changed = {k: n for k, n in sorted(account.changed.items()) if n}
    stats = {"lines_in": counts["lines_in"], "sentences": kept, "words": words, "dropped": dropped}
    write_json(work / "stats.json", {**stats, **({"changed": changed} if changed else {})})
    print(f"LM text: {counts['lines_in']} lines in, {kept} sentences out ({words} words), dropped: {dropped or 'none'}", file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [("text", "text with one sentence per line, plain or .gz, or a data folder"), ("out", "LM text folder to make")]
    prog = "steps/prepare_lm_text.sh"
    paths, cfg, common = parse_args(Config, positionals, argv, prog=prog, description=__doc__ or "")
    if cfg.max_lines < 0:
        raise UsageError(f"--max-lines {cfg.max_lines}: 0 (all) or more")
    text = paths["text"]
    if text.is_dir() and not (text / TRANSCRIPTS).is_file():
        raise KdError(f"{text}: a folder without {TRANSCRIPTS}; give a text file or a data folder")
    inputs = {"text": text / TRANSCRIPTS if text.is_dir() else text}
    for i, data in enumerate(excluded(cfg)):
        transcripts(data, cfg.plain)  # report a wrong folder before anything is hashed
        inputs[f"exclude {i}" if i else "exclude"] = data / TRANSCRIPTS
    run_step("LM text", out=paths["out"], inputs=inputs, options=cfg, code=("kdtool.lm.text",), body=lambda work: prepare(text, work, cfg),
             common=common)  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
