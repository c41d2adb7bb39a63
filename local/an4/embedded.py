"""Step: a synthetic corpus in AN4's layout.  In: embedded.yaml, espeak-ng.  Out: <out>/etc, <out>/wav as in AN4's archive.

A few minutes of synthetic speech for trying the recipe without AN4. Its error rates only show that the recipe works,
nothing else.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args, read_config
from kdtool.core.errors import UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import open_text, write_lines
from local.librispeech.embedded_speaker import run_speakers

SOURCE = Path(__file__).with_name("embedded.yaml")
FOLDER = {"train": "an4_clstk", "test": "an4test_clstk"}


@dataclass(frozen=True)
class Config:
    """Options of the made-up corpus."""

    train_utts: int = field(default=12, metadata={"help": "utterances per training speaker"})
    test_utts: int = field(default=8, metadata={"help": "utterances per test speaker"})
    seed: int = field(default=1, metadata={"help": "seed of sentences, noise and voices"})


def sentence(source: dict[str, Any], rng: random.Random) -> str:
    """A spelt word, a number, or a command with an argument: three to six words."""
    letters, numbers = source["letters"].split(), source["numbers"]
    kind = rng.randrange(3)
    if kind == 0:
        return " ".join(rng.choices(letters, k=rng.randint(3, 6)))
    if kind == 1:
        return " ".join(rng.choices(numbers, k=rng.randint(3, 6)))
    return " ".join([rng.choice(source["commands"]), *rng.choices(letters, k=rng.randint(1, 3)), rng.choice(numbers)])


def speak_part(work: Path, part: str, source: dict[str, Any], count: int, seed: int, nj: int) -> None:
    """Audio and lists of one part."""
    jobs, ids, lines = [], [], []
    for number, speaker in enumerate(source["speakers"][part]):
        name = speaker["name"]
        rng = random.Random(f"{seed} {name}")
        spoken = [(f"an{100 * number + n}-{name}-b", sentence(source, rng)) for n in range(count)]
        truth, lower = str(work / "log" / f"{name}.truth.jsonl"), [(utterance, words.lower()) for utterance, words in spoken]
        content = {**speaker, "seed": seed, "utterances": lower, "truth": truth}
        jobs.append((work / "log" / f"{name}.json", content, work / "wav" / FOLDER[part] / name))
        ids += [f"{FOLDER[part]}/{name}/{utterance}" for utterance, _ in spoken]
        lines += [f"<s> {words} </s> ({utterance})" for utterance, words in spoken]
    run_speakers(jobs, f"made-up corpus, {part}", nj)
    for name, rows in (("fileids", ids), ("transcription", lines)):
        write_lines(work / "etc" / f"an4_{part}.{name}", rows)


def make(work: Path, cfg: Config, nj: int) -> None:
    """Write everything into `work`."""
    source = read_config(str(SOURCE))
    (work / "etc").mkdir()
    (work / "log").mkdir()
    with open_text(work / "etc" / "an4.dic", "w") as f:
        f.write(source["dictionary"])
    for part, count in (("train", cfg.train_utts), ("test", cfg.test_utts)):
        speak_part(work, part, source, count, cfg.seed, nj)


def main() -> None:
    paths, cfg, common = parse_args(Config, [("out", "folder to make")], None, prog="local/an4/make_embedded.sh", description=__doc__ or "")
    if min(cfg.train_utts, cfg.test_utts) < 1:
        raise UsageError("--train-utts and --test-utts: at least 1")
    run_step("made-up AN4", out=paths["out"], inputs={"sentences and speakers": SOURCE}, options=cfg,
             code=("local.an4.embedded", "local.librispeech.embedded_speaker"), common=common,
             body=lambda work: make(work, cfg, common.nj))  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
